"""The store in NATS: what is asked of it, and who answers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Final, TypeVar

from nats.aio.msg import Msg

from rehydrate.clock import Clock
from rehydrate.errors import StoreClosedError, StoreError
from rehydrate.fork import FORKED, bind_to_process
from rehydrate.nats.connection import Connection
from rehydrate.store.end_questions import EndQuestions
from rehydrate.store.log_watch import LogWatch
from rehydrate.store.nats.address import Address, read_address
from rehydrate.store.nats.consumers import MAX_VIEW_CHANGES, Consumers
from rehydrate.store.nats.durability import warn_if_lossy
from rehydrate.store.nats.envelope import MAX_EVENTS
from rehydrate.store.nats.failures import JetStreamError
from rehydrate.store.nats.hints import Hints
from rehydrate.store.nats.history import History
from rehydrate.store.nats.jetstream import JetStream
from rehydrate.store.nats.keeping import Keeper
from rehydrate.store.nats.log import Log
from rehydrate.store.nats.opening import Opening
from rehydrate.store.nats.reader import Reader
from rehydrate.store.nats.snapshots import Snapshots
from rehydrate.store.nats.subjects import Subjects
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
from rehydrate.store_url import StoreUrl

T = TypeVar("T")

_BESIDE_DATA: Final = 256 * 1024
"""Bytes of a message for ids and types, beside data and metadata: enough for 4,096 events with ids of the usual length."""


async def open_nats(url: StoreUrl, clock: Clock) -> NatsStore:
    """Open `nats://HOSTS/NAME`; what is not there yet is made."""
    store = NatsStore(read_address(url), clock)
    try:
        await store.open()
    except BaseException:
        await store.close()
        raise
    return store


class NatsStore:
    """One opening of a store: one connection, over which everything is asked and answered."""

    def __init__(self, address: Address, clock: Clock) -> None:
        self.url = address.shown
        self._address = address
        self._timeout = address.nats.timeout
        subjects = Subjects(address.name)
        self._connection = connection = Connection(address.nats, name="rehydrate store", lost=self._lost)
        self._jetstream = jetstream = JetStream(connection)
        self._history = history = History(jetstream, subjects)
        self._subjects = subjects
        self._log = Log(connection, history, wall=clock.wall, stored=self._stored)
        self._reader = Reader(jetstream, history, subjects, self._log, store=self.url, timeout=self._timeout)
        keeper = Keeper(connection)
        self._snapshots = Snapshots(jetstream, self._history, keeper, subjects)
        self._consumers = Consumers(jetstream, keeper, subjects)
        self._ends = EndQuestions(self._ask_ends)
        self._watch = LogWatch(self._position, address.poll)
        self._hints = Hints(connection, subjects.hint, self._told)
        self._calls: set[asyncio.Task[Any]] = set()
        self._closed: str | None = None
        self._closing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Reach the servers, and open or create the store."""
        bind_to_process(self)
        await self._connection.open()
        if not self._connection.server_info.get("cluster"):
            self._history.stands_alone()
        await Opening(self._connection, self._jetstream, self._address, self._subjects).open()
        await self._hints.open()
        await self._connection.listen(self._subjects.changes_of_events, self._changed)
        if not self._address.is_known_to_sync:
            await warn_if_lossy(self._connection)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            durable=True,
            single_writer=False,
            multi_process=True,
            stopped_writer_holds_lock=False,
            max_append_events=MAX_EVENTS,
            max_append_bytes=self._connection.max_payload - _BESIDE_DATA,
            max_view_changes=MAX_VIEW_CHANGES,
        )

    # ---- appending

    def submit(
        self,
        stream: str,
        events: Sequence[NewEvent],
        expected_version: int,
        waiter: AppendWaiter,
        last_id: str = "",
        last_position: int = 0,  # noqa: ARG002
    ) -> Appended | StoreError | None:
        return self._log.submit(stream, events, expected_version, waiter, last_id)

    async def append(
        self, stream: str, events: Sequence[NewEvent], *, expected_version: ExpectedVersion
    ) -> Appended:
        return await append_and_wait(self, stream, events, expected_version)

    async def seal(self) -> None:
        await self._call(self._seal())

    async def _seal(self) -> None:
        name = self._subjects.events_stream
        info = await self._jetstream.api(f"STREAM.INFO.{name}")
        if not info["config"].get("sealed"):
            await self._jetstream.api(f"STREAM.UPDATE.{name}", {**info["config"], "sealed": True})

    # ---- reading

    async def versions(self, streams: Sequence[str]) -> list[int]:
        return [end.version for end in await self.ends(streams)]

    async def ends(self, streams: Sequence[str]) -> list[StreamEnd]:
        self._check_open()
        return await self._ends.ask(streams)

    async def _ask_ends(self, streams: Sequence[str]) -> list[StreamEnd]:
        return await self._call(self._reader.ends(streams), is_of_open=False)

    async def read_stream(
        self,
        stream: str,
        *,
        after: int = 0,
        limit: int = PAGE_SIZE,
        near: int | None = None,
        may_lag: bool = False,
    ) -> StreamPage:
        return await self._call(self._reader.read_stream(stream, after, limit, near, may_lag=may_lag))

    async def replay(self, stream: str, *, after: int = 0, near: int | None = None) -> ReplayPage:
        return await self._call(self._reader.replay(stream, after, near))

    async def read_all(
        self, *, after: int = 0, limit: int = PAGE_SIZE, where: LogFilter | None = None
    ) -> LogPage:
        return await self._call(self._reader.read_all(after, limit, where))

    async def head(self) -> Head:
        return await self._call(self._reader.head())

    async def wait(self, *, after: int) -> None:
        self._check_open()
        await self._watch.wait(after)

    async def _position(self) -> int:
        return (await self.head()).position

    async def streams(self, *, prefix: str = "", after: str = "", limit: int = PAGE_SIZE) -> list[StreamHead]:
        return await self._call(self._reader.streams(prefix, after, limit))

    # ---- snapshots

    async def save_snapshot(self, snapshot: StoredSnapshot, *, keep: int) -> None:
        await self._call(self._snapshots.save(snapshot, keep))

    async def load_snapshot(self, stream: str) -> StoredSnapshot | None:
        return await self._call(self._snapshots.load(stream))

    async def delete_snapshots(self, stream: str) -> None:
        await self._call(self._snapshots.delete(stream))

    # ---- checkpoints and views

    async def load_checkpoint(self, name: str) -> Checkpoint | None:
        return await self._call(self._consumers.load(name))

    async def save_checkpoint(
        self, checkpoint: Checkpoint, *, previous: Checkpoint | None, views: Sequence[ViewChange] = ()
    ) -> bool:
        self._check_open()
        check_save(checkpoint, previous, views, limit=MAX_VIEW_CHANGES)
        return await self._call(self._consumers.save(checkpoint, previous, views))

    async def list_checkpoints(self) -> list[Checkpoint]:
        return await self._call(self._consumers.load_all())

    async def reset_checkpoint(self, name: str) -> None:
        await self._call(self._consumers.reset(name))

    async def remove_checkpoint(self, name: str) -> None:
        await self._call(self._consumers.remove(name))

    async def load_view(self, name: str, key: str) -> bytes | None:
        return await self._call(self._consumers.load_view(name, key))

    async def load_views(self, name: str, keys: Sequence[str]) -> dict[str, bytes]:
        return await self._call(self._consumers.load_views(name, keys))

    async def list_views(
        self, name: str, *, prefix: str = "", after: str = "", limit: int = PAGE_SIZE
    ) -> list[tuple[str, bytes]]:
        return await self._call(self._consumers.list_views(name, prefix, after, limit))

    # ---- what is heard

    def _lost(self) -> None:
        self._forget()

    async def _changed(self, _: Msg) -> None:
        """Somebody has deleted, made or restored the JetStream stream of the events."""
        self._forget()

    def _forget(self) -> None:
        self._log.forget()
        self._consumers.forget()

    def _stored(self, position: int) -> None:
        """An append of ours was acknowledged."""
        self._hints.tell(position)
        self._told(position)

    def _told(self, position: int) -> None:
        self._watch.notice([Appended(0, position)])

    # ---- closing

    async def close(self) -> None:
        if self._closed == FORKED:
            return
        if self._closing is None:
            self._closed = "it is closed: open it again"
            self._closing = asyncio.create_task(self._close())
        # Shielded: a close, once begun, is finished, also when its caller is cancelled.
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._watch.close()
        await self._log.close()
        await asyncio.wait([asyncio.create_task(self._ends.close())], timeout=self._timeout)
        if self._calls:
            # Who has asked has his answer; but servers that give none hold nobody up for longer than they may.
            await asyncio.wait(self._calls, timeout=self._timeout)
        self._hints.close()
        await self._connection.close()

    def forked(self) -> None:
        self._closed = FORKED
        self._log.abandon(FORKED)

    def _check_open(self) -> None:
        if self._closed is not None:
            raise StoreClosedError(self._closed)

    async def _call(self, call: Coroutine[Any, Any, T], *, is_of_open: bool = True) -> T:
        """Ask in a task of its own: who is cancelled cancels only his wait."""
        try:
            if is_of_open:
                self._check_open()
        except StoreClosedError:
            call.close()
            raise
        task = asyncio.create_task(call)
        self._calls.add(task)
        task.add_done_callback(self._ended)
        try:
            return await asyncio.shield(task)
        except JetStreamError as error:
            raise self._jetstream.refused(error) from error

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._calls.discard(task)
        if not task.cancelled():
            task.exception()  # Who was cancelled does not look how it ended.
