"""A store in memory: nothing to install, gone with the process. Read this page to write a backend.

`memory://` is a new and private store at each open. `memory://NAME` is one store for all in this process who open
that name on the same event loop, and lives until the last of them closes it.

Every call is answered at once, in one go between two turns of the event loop, and that is all its atomicity. A
backend that has to wait coalesces its appends with `rehydrate.store.group_commit` and answers `submit` later.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterable, Sequence
from typing import Final

from rehydrate.clock import Clock
from rehydrate.errors import (
    ConfigurationError,
    StoreClosedError,
    StoreError,
    StoreSealedError,
    VersionConflictError,
)
from rehydrate.fork import FORKED, bind_to_process
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
    StoredEvent,
    StoredSnapshot,
    StreamEnd,
    StreamHead,
    StreamPage,
    ViewChange,
    append_and_wait,
    check_save,
    is_same_place,
)
from rehydrate.store_url import StoreUrl

MAX_SCAN: Final = 10_000
"""How many events one page of the log looks at, matched or not: a rare type must not hold up the event loop."""


class Stream(list[StoredEvent]):
    """The events of one stream."""

    __slots__ = ("last_id",)

    def __init__(self, events: Iterable[StoredEvent] = ()) -> None:
        super().__init__(events)
        self.last_id = self[-1].id if self else ""
        """Of the last event, which itself is not looked at: it was written long ago, and is in no cache of the processor."""


class Memory:
    """What is stored."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.opened = 0
        self.log: list[StoredEvent] = []
        """The event at position p is log[p - 1]."""
        self.streams: dict[str, Stream] = {}
        self.snapshots: dict[str, list[StoredSnapshot]] = {}
        """The newest last."""
        self.checkpoints: dict[str, Checkpoint] = {}
        self.views: dict[str, dict[str, bytes]] = {}
        self.waiting: set[asyncio.Future[None]] = set()
        self.sealed = False

    def wake(self) -> None:
        """Let everybody look for themselves who waits for an event."""
        for waiting in self.waiting:
            if not waiting.done():
                waiting.set_result(None)
        self.waiting.clear()


_named: dict[str, Memory] = {}


async def open_memory(url: StoreUrl, clock: Clock) -> MemoryStore:
    """Open `memory://` or `memory://NAME`."""
    url.refuse_credentials()
    url.refuse_the_rest()
    if url.path:
        raise ConfigurationError(f"{url.shown}: a store in memory has a name and no path: memory://NAME")
    memory = _named.get(url.host)
    if memory is None or memory.loop.is_closed():
        memory = Memory()
        if url.host:
            _named[url.host] = memory
    if memory.loop is not asyncio.get_running_loop():
        raise ConfigurationError(
            f"{url.shown} is open on another event loop: it cannot be shared with this one"
        )
    return MemoryStore(memory, url, clock)


class MemoryStore:
    """One opening of a store in memory."""

    def __init__(self, memory: Memory, url: StoreUrl, clock: Clock) -> None:
        self.url = url.shown
        self.capabilities = Capabilities(
            durable=False,
            single_writer=not url.host,
            multi_process=False,
            stopped_writer_holds_lock=False,
            max_append_events=4_096,
            max_append_bytes=16 * 1024 * 1024,
        )
        self._name = url.host
        self._clock = clock
        self._opened = memory
        self._closed: str | None = None
        memory.opened += 1
        bind_to_process(self)

    @property
    def _memory(self) -> Memory:
        if self._closed is not None:
            raise StoreClosedError(self._closed)
        return self._opened

    # ---- appending

    def submit(
        self,
        stream: str,
        events: Sequence[NewEvent],
        expected_version: int,
        waiter: AppendWaiter,  # noqa: ARG002
        last_id: str = "",
        last_position: int = 0,  # noqa: ARG002
    ) -> Appended | StoreError | None:
        """Never None: the outcome is known at once, and `waiter` is not needed."""
        if self._closed is not None:
            return StoreClosedError(self._closed)
        memory = self._opened
        stored = memory.streams.get(stream)
        version = len(stored) if stored else 0
        if expected_version != version or memory.sealed:
            return _repeated(stored or Stream(), events, expected_version) or (
                StoreSealedError(self.url)
                if memory.sealed
                else VersionConflictError(stream, expected_version, version)
            )
        if stored is None:
            stored = memory.streams[stream] = Stream()
        elif last_id is not stored.last_id and last_id and last_id != stored.last_id:
            return VersionConflictError(stream, expected_version, version, is_another_history=True)
        log = memory.log
        position = len(log)
        now = self._clock.wall()
        for event in events:
            version += 1
            position += 1
            recorded_at = now if event.recorded_at is None else event.recorded_at
            kept = StoredEvent(
                stream, version, position, event.id, event.type, event.data, event.metadata, recorded_at
            )
            stored.append(kept)
            log.append(kept)
            stored.last_id = event.id
        if memory.waiting:
            memory.wake()
        return Appended(version, position)

    async def append(
        self, stream: str, events: Sequence[NewEvent], *, expected_version: ExpectedVersion
    ) -> Appended:
        return await append_and_wait(self, stream, events, expected_version)

    async def seal(self) -> None:
        self._memory.sealed = True

    # ---- reading

    async def versions(self, streams: Sequence[str]) -> list[int]:
        stored = self._memory.streams
        return [len(stored.get(stream, ())) for stream in streams]

    async def ends(self, streams: Sequence[str]) -> list[StreamEnd]:
        stored = self._memory.streams
        return [
            StreamEnd(len(events), events.last_id) if (events := stored.get(stream)) else StreamEnd(0, "")
            for stream in streams
        ]

    async def read_stream(
        self,
        stream: str,
        *,
        after: int = 0,
        limit: int = PAGE_SIZE,
        near: int | None = None,  # noqa: ARG002
        may_lag: bool = False,  # noqa: ARG002
    ) -> StreamPage:
        stored: list[StoredEvent] = self._memory.streams.get(stream) or []
        limit = max(limit, 0)
        return StreamPage(stored[after : after + limit], after + limit >= len(stored))

    async def replay(self, stream: str, *, after: int = 0, near: int | None = None) -> ReplayPage:  # noqa: ARG002
        page = await self.read_stream(stream, after=after)
        rows = [(event.version, event.type, event.data) for event in page.events]
        if not rows:
            return ReplayPage(rows, "", "", 0, page.is_last)
        last = page.events[-1]
        return ReplayPage(rows, page.events[0].id, last.id, last.position, page.is_last)

    async def read_all(
        self, *, after: int = 0, limit: int = PAGE_SIZE, where: LogFilter | None = None
    ) -> LogPage:
        log, limit = self._memory.log, max(limit, 0)
        events: list[StoredEvent] = []
        position, event_id = after, ""
        for event in log[after : after + (limit if where is None else MAX_SCAN)]:
            if len(events) == limit:
                break
            if where is None or where.matches(event.stream, event.type):
                events.append(event)
            position, event_id = event.position, event.id
        return LogPage(events, position, event_id, position >= len(log))

    async def head(self) -> Head:
        log = self._memory.log
        return Head(log[-1].position, log[-1].id) if log else Head(0, "")

    async def wait(self, *, after: int) -> None:
        memory = self._memory
        if len(memory.log) > after:
            return
        waiting = memory.loop.create_future()
        memory.waiting.add(waiting)
        try:
            await waiting
        finally:
            memory.waiting.discard(waiting)
        _ = self._memory  # It may have been closing that woke this one.

    async def streams(self, *, prefix: str = "", after: str = "", limit: int = PAGE_SIZE) -> list[StreamHead]:
        stored = self._memory.streams
        names = (name for name in stored if name > after and name.startswith(prefix))
        return [StreamHead(name, len(stored[name])) for name in heapq.nsmallest(limit, names)]

    # ---- snapshots

    async def save_snapshot(self, snapshot: StoredSnapshot, *, keep: int) -> None:
        saved = self._memory.snapshots.setdefault(snapshot.stream, [])
        if saved and saved[-1].version > snapshot.version:
            return
        if saved and saved[-1].version == snapshot.version:
            saved.pop()
        saved.append(snapshot)
        del saved[:-keep]

    async def load_snapshot(self, stream: str) -> StoredSnapshot | None:
        saved = self._memory.snapshots.get(stream)
        return saved[-1] if saved else None

    async def delete_snapshots(self, stream: str) -> None:
        self._memory.snapshots.pop(stream, None)

    # ---- checkpoints and views

    async def load_checkpoint(self, name: str) -> Checkpoint | None:
        return self._memory.checkpoints.get(name)

    async def save_checkpoint(
        self, checkpoint: Checkpoint, *, previous: Checkpoint | None, views: Sequence[ViewChange] = ()
    ) -> bool:
        memory = self._memory
        check_save(checkpoint, previous, views)
        if not is_same_place(memory.checkpoints.get(checkpoint.name), previous):
            return False
        memory.checkpoints[checkpoint.name] = checkpoint
        kept = memory.views.setdefault(checkpoint.name, {})
        for view in views:
            if view.data is None:
                kept.pop(view.key, None)
            else:
                kept[view.key] = view.data
        return True

    async def list_checkpoints(self) -> list[Checkpoint]:
        checkpoints = self._memory.checkpoints
        return [checkpoints[name] for name in sorted(checkpoints)]

    async def reset_checkpoint(self, name: str) -> None:
        memory = self._memory
        saved = memory.checkpoints.get(name)
        if saved is not None:
            memory.checkpoints[name] = Checkpoint(name=name, position=0, event_id="", epoch=saved.epoch + 1)
            memory.views.pop(name, None)

    async def remove_checkpoint(self, name: str) -> None:
        memory = self._memory
        memory.checkpoints.pop(name, None)
        memory.views.pop(name, None)

    async def load_view(self, name: str, key: str) -> bytes | None:
        return self._memory.views.get(name, {}).get(key)

    async def load_views(self, name: str, keys: Sequence[str]) -> dict[str, bytes]:
        kept = self._memory.views.get(name, {})
        return {key: kept[key] for key in keys if key in kept}

    async def list_views(
        self, name: str, *, prefix: str = "", after: str = "", limit: int = PAGE_SIZE
    ) -> list[tuple[str, bytes]]:
        kept = self._memory.views.get(name, {})
        keys = (key for key in kept if key > after and key.startswith(prefix))
        return [(key, kept[key]) for key in heapq.nsmallest(limit, keys)]

    # ---- closing

    async def close(self) -> None:
        if self._closed is not None:
            return
        self._closed = "it is closed: open it again"
        memory = self._opened
        memory.wake()
        memory.opened -= 1
        if memory.opened == 0 and _named.get(self._name) is memory:
            del _named[self._name]

    def forked(self) -> None:
        self._closed = FORKED


def _repeated(
    stored: Sequence[StoredEvent], events: Sequence[NewEvent], expected_version: int
) -> Appended | None:
    """The first result of an append that is here already."""
    if expected_version < 0:
        return None
    there = stored[expected_version : expected_version + len(events)]
    if [event.id for event in there] != [event.id for event in events]:
        return None
    return Appended(there[-1].version, there[-1].position)
