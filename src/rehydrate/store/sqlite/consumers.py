"""What is kept beside the log: snapshots, checkpoints and views. Each function is the inside of one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from rehydrate.errors import ConfigurationError
from rehydrate.store.port import Checkpoint, StoredSnapshot, ViewChange, is_same_place
from rehydrate.store.sqlite import schema
from rehydrate.store.sqlite.reader import name_range
from rehydrate.transaction import ChangeFailedError, inside

_WRITES: Final = frozenset(
    {
        sqlite3.SQLITE_INSERT,
        sqlite3.SQLITE_UPDATE,
        sqlite3.SQLITE_DELETE,
        sqlite3.SQLITE_DROP_TABLE,
        sqlite3.SQLITE_ALTER_TABLE,
        # They would stand before the store's own.
        sqlite3.SQLITE_CREATE_TEMP_TABLE,
        sqlite3.SQLITE_CREATE_TEMP_VIEW,
    }
)
_BESIDE: Final = frozenset(
    {
        sqlite3.SQLITE_ALTER_TABLE,
        sqlite3.SQLITE_CREATE_TEMP_TRIGGER,
        sqlite3.SQLITE_CREATE_TRIGGER,
        sqlite3.SQLITE_DROP_INDEX,
        sqlite3.SQLITE_DROP_TRIGGER,
    }
)
"""What names something else first, and then the table that it is for."""
_GUARDED: Final = _WRITES | _BESIDE


def save_snapshot(connection: sqlite3.Connection, snapshot: StoredSnapshot, keep: int) -> None:
    stream, version = snapshot.stream, snapshot.version
    (newest,) = connection.execute(schema.NEWEST_SNAPSHOT, (stream,)).fetchone()
    if newest > version:
        return
    connection.execute(
        schema.SAVE_SNAPSHOT,
        (
            stream,
            version,
            snapshot.position,
            snapshot.event_id,
            snapshot.schema,
            snapshot.fingerprint,
            snapshot.data,
            snapshot.recorded_at,
        ),
    )
    connection.execute(schema.KEEP_SNAPSHOTS, (stream, stream, keep))


def load_snapshot(connection: sqlite3.Connection, stream: str) -> StoredSnapshot | None:
    row = connection.execute(schema.LOAD_SNAPSHOT, (stream,)).fetchone()
    if row is None:
        return None
    stream, version, position, event_id, schema_number, fingerprint, data, recorded_at = row
    return StoredSnapshot(
        stream=stream,
        version=version,
        position=position,
        event_id=event_id,
        schema=schema_number,
        fingerprint=fingerprint,
        data=data,
        recorded_at=recorded_at,
    )


def delete_snapshots(connection: sqlite3.Connection, stream: str) -> None:
    connection.execute(schema.DELETE_SNAPSHOTS, (stream,))


def load_checkpoint(connection: sqlite3.Connection, name: str) -> Checkpoint | None:
    row = connection.execute(schema.LOAD_CHECKPOINT, (name,)).fetchone()
    return None if row is None else _checkpoint(*row)


def list_checkpoints(connection: sqlite3.Connection) -> list[Checkpoint]:
    return [_checkpoint(*row) for row in connection.execute(schema.LIST_CHECKPOINTS)]


def _checkpoint(name: str, position: int, event_id: str, epoch: int, data: bytes) -> Checkpoint:
    return Checkpoint(name=name, position=position, event_id=event_id, epoch=epoch, data=data)


def save_checkpoint(
    connection: sqlite3.Connection,
    checkpoint: Checkpoint,
    previous: Checkpoint | None,
    views: Sequence[ViewChange],
) -> bool:
    name = checkpoint.name
    if not is_same_place(load_checkpoint(connection, name), previous):
        return False
    connection.execute(
        schema.SAVE_CHECKPOINT,
        (name, checkpoint.position, checkpoint.event_id, checkpoint.epoch, checkpoint.data),
    )
    for view in views:
        if view.data is None:
            connection.execute(schema.REMOVE_VIEW, (name, view.key))
        else:
            connection.execute(schema.SAVE_VIEW, (name, view.key, view.data))
    return True


def transact(
    connection: sqlite3.Connection,
    checkpoint: Checkpoint,
    previous: Checkpoint | None,
    views: Sequence[ViewChange],
    change: Callable[[sqlite3.Connection], object],
) -> bool:
    """Save a place, and then have the user's own changes made in the same transaction."""
    if not save_checkpoint(connection, checkpoint, previous, views):
        return False
    settings = connection.row_factory, connection.text_factory
    guard = _Guard()
    connection.set_authorizer(guard)
    try:
        with inside():
            change(connection)
        # Raises where it was closed.
        connection.total_changes  # noqa: B018
    except Exception as error:  # noqa: BLE001 - whatever the user's code raises
        raise ChangeFailedError from guard.refusal(error)
    finally:
        with suppress(sqlite3.ProgrammingError):
            connection.set_authorizer(None)
            connection.row_factory, connection.text_factory = settings
    return True


class _Guard:
    """Keeps a user's own code from what is not its own: the transaction, and the tables of the store."""

    def __init__(self) -> None:
        self._what = ""

    def __call__(self, action: int, first: str | None, second: str | None, *_: str | None) -> int:
        name = second if action in _BESIDE else first
        if action == sqlite3.SQLITE_TRANSACTION:
            self._what = "ended or began a transaction: leave out commit() and rollback()"
        elif action in _GUARDED and name in schema.TABLES:
            self._what = f"wrote to {name!r}, which is the store's: use tables of your own"
        else:
            return sqlite3.SQLITE_OK
        return sqlite3.SQLITE_DENY

    def refusal(self, error: Exception) -> Exception:
        """What to say of an error of that code."""
        if isinstance(error, sqlite3.ProgrammingError) and "closed database" in str(error):
            self._what = "closed the connection, which is the store's: leave out close()"
        return ConfigurationError(f"the handler {self._what}") if self._what else error


def reset_checkpoint(connection: sqlite3.Connection, name: str) -> None:
    connection.execute(schema.RESET_CHECKPOINT, (name,))
    connection.execute(schema.REMOVE_VIEWS, (name,))


def remove_checkpoint(connection: sqlite3.Connection, name: str) -> None:
    connection.execute(schema.REMOVE_CHECKPOINT, (name,))
    connection.execute(schema.REMOVE_VIEWS, (name,))


def load_view(connection: sqlite3.Connection, name: str, key: str) -> bytes | None:
    row: tuple[bytes] | None = connection.execute(schema.LOAD_VIEW, (name, key)).fetchone()
    return None if row is None else row[0]


def load_views(connection: sqlite3.Connection, name: str, keys: Sequence[str]) -> dict[str, bytes]:
    found = ((key, connection.execute(schema.LOAD_VIEW, (name, key)).fetchone()) for key in keys)
    return {key: row[0] for key, row in found if row is not None}


def list_views(
    connection: sqlite3.Connection, name: str, prefix: str, after: str, limit: int
) -> list[tuple[str, bytes]]:
    return connection.execute(schema.LIST_VIEWS, (name, *name_range(prefix, after), max(limit, 0))).fetchall()
