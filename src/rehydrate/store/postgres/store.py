"""A store in a PostgreSQL database, shared by any number of processes and machines."""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, TypeVar

from rehydrate.clock import Clock
from rehydrate.errors import StoreClosedError, StoreError
from rehydrate.fork import FORKED, bind_to_process
from rehydrate.store.end_questions import EndQuestions
from rehydrate.store.group_commit import Group, GroupCommit, Outcome
from rehydrate.store.log_watch import LogWatch
from rehydrate.store.port import (
    PAGE_SIZE,
    Appended,
    AppendWaiter,
    Capabilities,
    Checkpoint,
    ExpectedVersion,
    Head,
    LogFilter,
    LogPage,
    NewEvent,
    ReplayPage,
    StoredSnapshot,
    StreamEnd,
    StreamHead,
    StreamPage,
    ViewChange,
    append_and_wait,
    check_save,
)
from rehydrate.store.postgres import consumers, reader, sql
from rehydrate.store.postgres.address import Address, read_address
from rehydrate.store.postgres.connection import Connection, connect, warn_of_lost_power
from rehydrate.store.postgres.hints import Hints
from rehydrate.store.postgres.migration import check_or_migrate
from rehydrate.store.postgres.pool import Pool
from rehydrate.store.postgres.writer import Writer
from rehydrate.store.replays import Question, Replays
from rehydrate.store.together import all_at_once
from rehydrate.store_url import StoreUrl

T = TypeVar("T")

CAPABILITIES: Final = Capabilities(
    durable=True,
    single_writer=False,
    multi_process=True,
    stopped_writer_holds_lock=False,
    max_append_events=4_096,
    max_append_bytes=16 * 1024 * 1024,
    transaction="asyncpg",
)

SPLIT_FROM: Final = 32
"""From so many waiting appends on the server commits one half while the outcomes of the other are handed out."""

PATIENCE: Final = 1.0
"""Seconds for which closing waits for questions. For appends it waits until they have an outcome."""

_CLOSED: Final = "it is closed: open it again"


async def open_postgres(url: StoreUrl, clock: Clock) -> PostgresStore:
    """Open `postgresql://USER@HOST/DATABASE`; the tables are made if they are not there.

    Raises:
        ConfigurationError: what the URL leads to cannot be this store; nothing was changed.
        StoreUnavailableError: the server cannot be reached or used now.
    """
    store = PostgresStore(read_address(url), clock)
    await store.open()
    return store


class PostgresStore:
    """One opening of a database: a connection that appends, a few that read, and a group commit before the first."""

    capabilities = CAPABILITIES

    def __init__(self, address: Address, clock: Clock) -> None:
        self.url = address.shown
        self._address = address
        self._writer = Writer(address, clock.wall, self._who_blocks, self._completed, self._failed)
        self._groups = GroupCommit(
            self._writer.send,
            begin=self._writer.begin,
            make_ready=self._writer.make_ready,
            split_from=SPLIT_FROM,
        )
        self._primary = Pool(address)
        self._replica = Pool(address, replica=True) if address.replica else self._primary
        self._ends = EndQuestions(self._ask_ends)
        self._replays = Replays(self._replay_on, self._replay_many)
        self._snapshots = all_at_once(self._load_snapshots, most=8)
        self._watch = LogWatch(self._last_position, address.poll)
        self._hints = Hints(address, self._hint)
        self._closed: str | None = None
        self._closing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect, and have the tables as this program knows them."""
        connection = await connect(self._address, appends=True, first=True)
        try:
            await check_or_migrate(connection, self._address)
            await warn_of_lost_power(connection, self._address)
        except BaseException:
            connection.terminate()
            raise
        self._writer.use(connection)
        bind_to_process(self)

    # ---- appending

    def submit(
        self,
        stream: str,
        events: Sequence[NewEvent],
        expected_version: int,
        waiter: AppendWaiter,
        last_id: str = "",
        last_position: int = 0,
    ) -> Appended | StoreError | None:
        return self._groups.submit(stream, events, expected_version, waiter, last_id, last_position)

    async def append(
        self, stream: str, events: Sequence[NewEvent], *, expected_version: ExpectedVersion
    ) -> Appended:
        return await append_and_wait(self, stream, events, expected_version)

    async def seal(self) -> None:
        await self._change(lambda connection: connection.execute(sql.SEAL))

    def _completed(self, group: Group, outcomes: Sequence[Outcome]) -> None:
        if self._replica is self._primary:
            self._watch.notice(outcomes)
        else:
            self._watch.hint()
        self._groups.completed(group, outcomes)

    def _failed(self, group: Group, error: StoreError) -> None:
        self._groups.failed(group, error)

    async def _who_blocks(self, pid: int) -> str:
        rows = await self._read(lambda connection: connection.fetch(sql.WHO_BLOCKS, pid))
        return " and ".join(
            f"the session with process id {row['pid']} ({row['application_name'] or 'it gives no name'})"
            for row in rows
        )

    # ---- reading

    async def versions(self, streams: Sequence[str]) -> list[int]:
        return [end.version for end in await self.ends(streams)]

    async def ends(self, streams: Sequence[str]) -> list[StreamEnd]:
        self._check_open()
        return await self._ends.ask(streams)

    async def _ask_ends(self, streams: Sequence[str]) -> list[StreamEnd]:
        return await self._primary.read(lambda connection: reader.read_ends(connection, streams))

    async def read_stream(
        self,
        stream: str,
        *,
        after: int = 0,
        limit: int = PAGE_SIZE,
        near: int | None = None,  # noqa: ARG002
        may_lag: bool = False,
    ) -> StreamPage:
        pool = self._replica if may_lag else self._primary
        return await self._read(lambda connection: reader.read_stream(connection, stream, after, limit), pool)

    async def replay(self, stream: str, *, after: int = 0, near: int | None = None) -> ReplayPage:  # noqa: ARG002
        self._check_open()
        return await self._replays.page(stream, after)

    async def _replay_on(self, question: Question) -> None:
        await self._primary.read(lambda connection: reader.replay_on(connection, question))

    async def _replay_many(self, questions: Sequence[Question]) -> None:
        await self._primary.read(lambda connection: reader.replay_many(connection, questions))

    async def read_all(
        self, *, after: int = 0, limit: int = PAGE_SIZE, where: LogFilter | None = None
    ) -> LogPage:
        return await self._read(
            lambda connection: reader.read_all(connection, after, limit, where), self._replica
        )

    async def head(self) -> Head:
        return await self._read(reader.read_head)

    async def wait(self, *, after: int) -> None:
        self._check_open()
        self._hints.listen()
        await self._watch.wait(after)

    async def _last_position(self) -> int:
        return (await self._read(reader.read_head, self._replica)).position

    def _hint(self, pid: int) -> None:
        """Somebody has appended; of our own appends those who wait know already, unless they look at a replica."""
        if pid != self._writer.pid or self._replica is not self._primary:
            self._watch.hint()

    async def streams(self, *, prefix: str = "", after: str = "", limit: int = PAGE_SIZE) -> list[StreamHead]:
        return await self._read(
            lambda connection: reader.list_streams(connection, prefix, after, limit), self._replica
        )

    # ---- snapshots

    async def save_snapshot(self, snapshot: StoredSnapshot, *, keep: int) -> None:
        await self._change(lambda connection: consumers.save_snapshot(connection, snapshot, keep))

    async def load_snapshot(self, stream: str) -> StoredSnapshot | None:
        self._check_open()
        return await self._snapshots.ask(stream)

    async def _load_snapshots(self, streams: Sequence[str]) -> list[StoredSnapshot | None]:
        return await self._primary.read(lambda connection: consumers.load_snapshots(connection, streams))

    async def delete_snapshots(self, stream: str) -> None:
        await self._change(lambda connection: consumers.delete_snapshots(connection, stream))

    # ---- checkpoints and views

    async def load_checkpoint(self, name: str) -> Checkpoint | None:
        return await self._read(lambda connection: consumers.load_checkpoint(connection, name))

    async def save_checkpoint(
        self, checkpoint: Checkpoint, *, previous: Checkpoint | None, views: Sequence[ViewChange] = ()
    ) -> bool:
        self._check_open()
        check_save(checkpoint, previous, views)
        return await self._change(
            lambda connection: consumers.save_checkpoint(connection, checkpoint, previous, views)
        )

    async def transact(
        self,
        checkpoint: Checkpoint,
        *,
        previous: Checkpoint | None,
        views: Sequence[ViewChange],
        change: Callable[[Connection], Awaitable[object]],
    ) -> bool:
        self._check_open()
        check_save(checkpoint, previous, views)
        return await self._change(
            lambda connection: consumers.transact(connection, checkpoint, previous, views, change)
        )

    async def list_checkpoints(self) -> list[Checkpoint]:
        return await self._read(consumers.list_checkpoints)

    async def reset_checkpoint(self, name: str) -> None:
        await self._change(lambda connection: consumers.reset_checkpoint(connection, name))

    async def remove_checkpoint(self, name: str) -> None:
        await self._change(lambda connection: consumers.remove_checkpoint(connection, name))

    async def load_view(self, name: str, key: str) -> bytes | None:
        return await self._read(lambda connection: consumers.load_view(connection, name, key))

    async def load_views(self, name: str, keys: Sequence[str]) -> dict[str, bytes]:
        return await self._read(lambda connection: consumers.load_views(connection, name, keys))

    async def list_views(
        self, name: str, *, prefix: str = "", after: str = "", limit: int = PAGE_SIZE
    ) -> list[tuple[str, bytes]]:
        return await self._read(
            lambda connection: consumers.list_views(connection, name, prefix, after, limit)
        )

    # ---- closing

    async def close(self) -> None:
        if self._closed == FORKED:
            return
        if self._closing is None:
            self._closed = _CLOSED
            self._closing = asyncio.create_task(self._close())
        # Shielded: a close, once begun, is finished, also when its caller is cancelled.
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._watch.close()
        # Who asks is answered, if the server answers soon; then his question is ended with its connection.
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(self._ends.close(), self._replays.close(), self._snapshots.close())
        pools = {self._primary, self._replica}
        await asyncio.gather(
            self._hints.close(), self._close_writer(), *[pool.close(_CLOSED) for pool in pools]
        )

    async def _close_writer(self) -> None:
        await self._groups.close()
        await self._writer.close()

    def forked(self) -> None:
        self._closed = FORKED
        self._groups.abandon(FORKED)
        # Whatever ends a connection here would end it in the parent, too: so nothing of it may ever be cleaned up.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))

    def _check_open(self) -> None:
        if self._closed is not None:
            raise StoreClosedError(self._closed)

    async def _read(self, question: Callable[[Connection], Awaitable[T]], pool: Pool | None = None) -> T:
        self._check_open()
        return await (pool or self._primary).read(question)

    async def _change(self, change: Callable[[Connection], Awaitable[T]]) -> T:
        self._check_open()
        return await self._primary.change(change)
