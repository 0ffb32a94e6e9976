"""A store in MongoDB, for many machines: a replica set (one member is enough), shared by many processes.

mongodb://host1,host2/bank?replicaSet=rs0         the database is named; user and password stand before the hosts

prefix=             what the names of the collections begin with, so that several applications share a database
readers=8           connections that read; appends have one of their own
poll=0.2            seconds between two looks for events of other processes, while anybody waits for them and the
                    change stream does not tell
timeout=10.0        seconds for the server to answer, and to be found, and for one of the readers to be free

and of the driver's own parameters those in `address.PASSED_ON`, with the driver's meaning.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from pymongo.asynchronous.client_session import AsyncClientSession

from rehydrate.clock import Clock
from rehydrate.errors import StoreClosedError, StoreError, StoreUnavailableError
from rehydrate.fork import FORKED, bind_to_process
from rehydrate.store.end_questions import EndQuestions
from rehydrate.store.group_commit import Group, GroupCommit, Outcome
from rehydrate.store.log_watch import LogWatch
from rehydrate.store.mongodb.address import Address, read_address
from rehydrate.store.mongodb.commands import Commands
from rehydrate.store.mongodb.consumers import Consumers, Snapshots
from rehydrate.store.mongodb.driver import Calls, Connections, Driver
from rehydrate.store.mongodb.hints import Hints
from rehydrate.store.mongodb.log import Log
from rehydrate.store.mongodb.opening import open_database
from rehydrate.store.mongodb.reader import Reader
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

logger = logging.getLogger(__name__)

T = TypeVar("T")

CAPABILITIES: Final = Capabilities(
    durable=True,
    single_writer=False,
    multi_process=True,
    stopped_writer_holds_lock=False,
    max_append_events=4_096,
    # With the longest ids and types of so many events, an append of this size still is a document of 16 MiB.
    max_append_bytes=11 * 1024 * 1024,
    transaction="pymongo",
)
_BESIDE_READERS: Final = 2
"""Connections for what must not wait for readers: questions for versions, and the change stream."""


async def open_mongodb(url: StoreUrl, clock: Clock) -> MongoStore:
    """Open `mongodb://HOSTS/DATABASE`; what is not there yet is made."""
    store = MongoStore(read_address(url), clock)
    try:
        await store.open()
    except BaseException:
        await store.close()
        raise
    return store


class MongoStore:
    """One opening of a database: a connection that appends, some that read, and a group commit before them."""

    capabilities = CAPABILITIES

    def __init__(self, address: Address, clock: Clock) -> None:
        self.url = address.shown
        self._address = address
        commands = Commands(address.prefix, address.timeout)
        connections = Connections()
        self._commands = commands
        self._calls = Calls(self.url)
        self._appending = Driver(address, connections=1, listener=connections)
        self._driver = Driver(address, connections=address.readers + _BESIDE_READERS)
        self._log = Log(
            self._appending, connections, commands, self.url, wall=clock.wall, timeout=address.timeout
        )
        self._groups = GroupCommit(self._send, gathers=True)
        self._reader = Reader(self._driver, commands)
        self._snapshots = Snapshots(self._driver, commands)
        self._consumers = Consumers(self._driver, commands, self.url, address.timeout)
        self._ends = EndQuestions(self._ask_ends)
        self._watch = LogWatch(self._position, address.poll)
        self._hints = Hints(self._driver, commands, self._watch.hint)
        self._readers = address.readers
        self._turns = asyncio.Semaphore(address.readers)
        self._patience = address.timeout
        self._closed: str | None = None
        self._closing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Reach the server, and open or create the store."""
        bind_to_process(self)
        opening = open_database(self._driver, self._commands, self.url, create=self._address.create)
        try:
            await self._calls.run(opening)
        except BaseException:
            # Who gives up is not held up: nothing that he has begun has to be finished.
            self._calls.stop()
            raise

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
        self._check_open()
        await self._calls.run(self._log.seal())

    def _send(self, group: Group) -> None:
        self._calls.begin(self._log.append(group)).add_done_callback(partial(self._sent, group))

    def _sent(self, group: Group, sending: asyncio.Task[list[Outcome]]) -> None:
        """Every append of a group hears of its end, whatever that is: else all that come after it would wait for ever."""
        cause = asyncio.CancelledError() if sending.cancelled() else sending.exception()
        if cause is None:
            outcomes = sending.result()
            self._watch.notice(outcomes)
        else:
            logger.error("%s: a group of appends was broken off: %r", self.url, cause, exc_info=cause)
            outcomes = [self._broken_off(cause) for _ in group]
        self._groups.completed(group, outcomes)

    def _broken_off(self, cause: BaseException) -> StoreError:
        error = StoreUnavailableError(f"{self.url}: this append was broken off: {cause!r}", stored=None)
        error.__cause__ = cause
        return error

    # ---- reading

    async def versions(self, streams: Sequence[str]) -> list[int]:
        return [end.version for end in await self.ends(streams)]

    async def ends(self, streams: Sequence[str]) -> list[StreamEnd]:
        self._check_open()
        return await self._ends.ask(streams)

    async def _ask_ends(self, streams: Sequence[str]) -> list[StreamEnd]:
        return await self._calls.run(self._reader.ends(streams))

    async def read_stream(
        self,
        stream: str,
        *,
        after: int = 0,
        limit: int = PAGE_SIZE,
        near: int | None = None,  # noqa: ARG002
        may_lag: bool = False,  # noqa: ARG002
    ) -> StreamPage:
        return await self._call(self._reader.read_stream(stream, after, limit))

    async def replay(self, stream: str, *, after: int = 0, near: int | None = None) -> ReplayPage:  # noqa: ARG002
        return await self._call(self._reader.replay(stream, after))

    async def read_all(
        self, *, after: int = 0, limit: int = PAGE_SIZE, where: LogFilter | None = None
    ) -> LogPage:
        return await self._call(self._reader.read_all(after, limit, where))

    async def head(self) -> Head:
        return await self._call(self._reader.head())

    async def wait(self, *, after: int) -> None:
        self._check_open()
        self._hints.begin()
        try:
            await self._watch.wait(after)
        finally:
            self._hints.end()

    async def _position(self) -> int:
        return await self._call(self._reader.position())

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
        check_save(checkpoint, previous, views)
        return await self._call(self._consumers.save(checkpoint, previous, views))

    async def transact(
        self,
        checkpoint: Checkpoint,
        *,
        previous: Checkpoint | None,
        views: Sequence[ViewChange],
        change: Callable[[AsyncClientSession], Awaitable[object]],
    ) -> bool:
        self._check_open()
        check_save(checkpoint, previous, views)
        return await self._call(self._consumers.save(checkpoint, previous, views, change))

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
        await self._groups.close()
        await self._hints.close()
        # Who has asked has his answer; but a server that gives none holds nobody up for longer than it may.
        answered = asyncio.gather(self._ends.close(), self._calls.finished())
        await asyncio.wait([answered], timeout=self._patience)
        self._calls.stop()
        await self._consumers.close()
        await asyncio.gather(self._appending.close(), self._driver.close())
        await answered

    def forked(self) -> None:
        self._closed = FORKED
        self._groups.abandon(FORKED)
        self._appending.abandon()
        self._driver.abandon()

    def _check_open(self) -> None:
        if self._closed is not None:
            raise StoreClosedError(self._closed)

    async def _call(self, call: Coroutine[Any, Any, T]) -> T:
        try:
            await self._take_turn()
        except BaseException:
            call.close()
            raise
        return await self._calls.run(call, ended=self._turns.release)

    async def _take_turn(self) -> None:
        """Wait for one of the connections that read. Who is cancelled meanwhile, or waits for too long, asks nothing."""
        self._check_open()
        try:
            async with asyncio.timeout(self._patience):
                await self._turns.acquire()
        except TimeoutError:
            raise StoreUnavailableError(
                f"{self.url}: all {self._readers} connections that read (readers=) are busy"
            ) from None
        try:
            self._check_open()
        except StoreClosedError:
            self._turns.release()
            raise
