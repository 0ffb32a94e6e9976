"""What is kept beside the log: snapshots, checkpoints and views. Each change is one call of a procedure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import asyncpg

from rehydrate.store.port import Checkpoint, StoredSnapshot, ViewChange
from rehydrate.store.postgres import sql
from rehydrate.store.postgres.connection import Connection
from rehydrate.store.postgres.failures import FAILURES, check_name
from rehydrate.store.postgres.json_text import json_text
from rehydrate.store.postgres.reader import name_range, within
from rehydrate.transaction import ChangeFailedError, inside


async def save_snapshot(connection: Connection, snapshot: StoredSnapshot, keep: int) -> None:
    for name in (snapshot.stream, snapshot.event_id, snapshot.fingerprint):
        check_name(name)
    await connection.execute(
        sql.SAVE_SNAPSHOT,
        snapshot.stream,
        snapshot.version,
        snapshot.position,
        snapshot.event_id,
        snapshot.schema,
        snapshot.fingerprint,
        snapshot.data,
        snapshot.recorded_at,
        keep,
    )


async def load_snapshots(connection: Connection, streams: Sequence[str]) -> list[StoredSnapshot | None]:
    """The newest of each."""
    for stream in streams:
        check_name(stream)
    rows = await connection.fetch(sql.LOAD_SNAPSHOTS, json_text(streams))
    return [None if row["stream"] is None else StoredSnapshot(**dict(row)) for row in rows]


async def delete_snapshots(connection: Connection, stream: str) -> None:
    check_name(stream)
    await connection.execute(sql.DELETE_SNAPSHOTS, stream)


async def load_checkpoint(connection: Connection, name: str) -> Checkpoint | None:
    check_name(name)
    row = await connection.fetchrow(sql.LOAD_CHECKPOINT, name)
    return None if row is None else _checkpoint(row)


async def list_checkpoints(connection: Connection) -> list[Checkpoint]:
    return [_checkpoint(row) for row in await connection.fetch(sql.LIST_CHECKPOINTS)]


def _checkpoint(row: asyncpg.Record) -> Checkpoint:
    return Checkpoint(**dict(row))


async def save_checkpoint(
    connection: Connection,
    checkpoint: Checkpoint,
    previous: Checkpoint | None,
    views: Sequence[ViewChange],
) -> bool:
    check_name(checkpoint.event_id)
    # A key that is given twice has its last value, as if they had been written one after the other.
    changes = {view.key: view.data for view in views}
    saved: bool = await connection.fetchval(
        sql.SAVE_CHECKPOINT,
        checkpoint.name,
        checkpoint.position,
        checkpoint.event_id,
        checkpoint.epoch,
        checkpoint.data,
        None if previous is None else previous.position,
        None if previous is None else previous.epoch,
        json_text(list(changes.items())) if changes else None,
    )
    return saved


async def transact(
    connection: Connection,
    checkpoint: Checkpoint,
    previous: Checkpoint | None,
    views: Sequence[ViewChange],
    change: Callable[[Connection], Awaitable[object]],
) -> bool:
    """Save a place, and then have the user's own changes made in the same transaction."""
    check_name(checkpoint.event_id)
    place = checkpoint.name, checkpoint.position, checkpoint.event_id, checkpoint.epoch, checkpoint.data
    async with connection.transaction():
        if previous is None:
            saved = await connection.fetchval(sql.BEGIN_CHECKPOINT, *place)
        else:
            saved = await connection.fetchval(sql.MOVE_CHECKPOINT, *place, previous.position, previous.epoch)
        if not saved:
            return False
        for view in views:
            if view.data is None:
                await connection.execute(sql.REMOVE_VIEW, checkpoint.name, view.key)
            else:
                await connection.execute(sql.SAVE_VIEW, checkpoint.name, view.key, view.data)
        await connection.execute(sql.AS_USERS_DO)
        try:
            with inside():
                await change(connection)
        except Exception as error:
            if connection.is_closed() and isinstance(error, FAILURES):
                raise
            raise ChangeFailedError from error
    return True


async def reset_checkpoint(connection: Connection, name: str) -> None:
    check_name(name)
    await connection.execute(sql.RESET_CHECKPOINT, name)


async def remove_checkpoint(connection: Connection, name: str) -> None:
    check_name(name)
    await connection.execute(sql.REMOVE_CHECKPOINT, name)


async def load_view(connection: Connection, name: str, key: str) -> bytes | None:
    check_name(name)
    check_name(key)
    data: bytes | None = await connection.fetchval(sql.LOAD_VIEW, name, key)
    return data


async def load_views(connection: Connection, name: str, keys: Sequence[str]) -> dict[str, bytes]:
    for each in (name, *keys):
        check_name(each)
    rows = await connection.fetch(sql.LOAD_VIEWS, name, list(keys))
    return {key: data for key, data in rows}  # noqa: C416 - rows are no pairs to a type checker


async def list_views(
    connection: Connection, name: str, prefix: str, after: str, limit: int
) -> list[tuple[str, bytes]]:
    check_name(name)
    rows = await connection.fetch(sql.LIST_VIEWS, name, *name_range(prefix, after), within(limit))
    return [(key, data) for key, data in rows]
