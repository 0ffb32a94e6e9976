"""The contract between Rehydrate and a store: all that the author of a backend reads.

A store moves bytes; it knows neither codec nor runtime. What each promises is proved by the conformance kit in
`rehydrate.testing.conformance`, and `docs/backends.md` shows how to write one. `store/memory.py` is the shortest.

Three rules hold throughout. Where reading resumes is `after=`, exclusive and never below 0. A `limit=` of 0 or less is answered with
nothing, or with a `ValueError`, and never with all. And no exception of a driver escapes: what a call raises is in `rehydrate.errors`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Final, Literal, Protocol, TypeAlias

import msgspec

from rehydrate.domain.streams import check_id, check_stream
from rehydrate.errors import AppendTooLargeError, StoreError, VersionConflictError
from rehydrate.transaction import check_outside

PAGE_SIZE: Final = 1_000
"""How many events a page holds where the caller does not say."""

ANY_VERSION: Final = "any version"
"""`expected_version` for an append that does not care what is there."""
STREAM_EXISTS: Final = "stream exists"
"""`expected_version` for an append to a stream that has at least one event."""

MIN_TIME: Final = -(2**63)
MAX_TIME: Final = 2**63 - 1
"""Between these is every time of an event: microseconds since 1970 that fit into 64 bits."""
NO_LIMIT: Final = 2**63 - 1
"""For what a store takes any number of."""

ExpectedVersion: TypeAlias = int | Literal["any version", "stream exists"]


class NewEvent(msgspec.Struct, frozen=True, gc=False):
    """An event to write."""

    id: str
    """Nobody else's: by it a repeated append is recognised."""
    type: str
    data: bytes
    metadata: bytes = b"{}"
    recorded_at: int | None = None
    """Microseconds since 1970, UTC; the store sets it unless a copy of another store brings its own."""


class StoredEvent(msgspec.Struct, frozen=True, gc=False):
    """An event as it is stored."""

    stream: str
    version: int
    position: int
    id: str
    type: str
    data: bytes
    metadata: bytes
    recorded_at: int
    """Microseconds since 1970, UTC."""


class Appended(msgspec.Struct, frozen=True, gc=False):
    """Version and position of the last event of an append; the positions inside it are contiguous."""

    version: int
    position: int


class StreamPage(msgspec.Struct, frozen=True):
    """Consecutive events of one stream."""

    events: list[StoredEvent]
    is_last: bool
    """Whether the stream ended here when it was read; a page may be shorter than asked for and not the last."""


class ReplayPage(msgspec.Struct, frozen=True):
    """Consecutive events of one stream with no more than rehydration needs."""

    rows: Sequence[tuple[int, str, bytes]]
    """Version, type and data of each."""
    first_id: str
    """The id of the first event; empty if there is none."""
    last_id: str
    last_position: int
    is_last: bool
    rest: Awaitable[ReplayPage | None] | None = None
    """The page behind this one, where a store reads on without being asked. Nobody has to wait for it, and it never raises:
    where it has come to nothing it is None, and the page is asked for. So it is where this page's last event is not there
    any more as the next page is read: the store was restored in between."""


class LogPage(msgspec.Struct, frozen=True):
    """Consecutive events of the whole store, in position order, after filtering."""

    events: list[StoredEvent]
    position: int
    """Up to where the log was read, matched or not: the next `after`."""
    event_id: str
    """The id of the event at that position; empty if nothing was read."""
    is_last: bool
    """Whether the log ended here when it was read."""


class LogFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which events of the log to hand out; an empty field filters nothing, several fields must all match."""

    streams: frozenset[str] = frozenset()
    aggregates: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    without: frozenset[tuple[str, str]] = frozenset()
    """Not these: an aggregate, and a type of its events. What nobody has named is handed out."""

    def matches(self, stream: str, type: str) -> bool:
        """Whether to hand out an event of this type in this stream."""
        return (
            (not self.streams or stream in self.streams)
            and (not self.aggregates or stream.partition("-")[0] in self.aggregates)
            and (not self.types or type in self.types)
            and (not self.without or (stream.partition("-")[0], type) not in self.without)
        )


class Head(msgspec.Struct, frozen=True, gc=False):
    """The newest event of a store: position 0 and an empty id in an empty one."""

    position: int
    event_id: str


class StreamHead(msgspec.Struct, frozen=True, gc=False):
    """A stream and the version of its last event."""

    stream: str
    version: int


class StreamEnd(msgspec.Struct, frozen=True, gc=False):
    """The last event of a stream: version 0 and an empty id for one without events."""

    version: int
    event_id: str


class StoredSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A saved state. It counts only while the stream holds the event `event_id` at `version`."""

    stream: str
    version: int
    position: int
    event_id: str
    schema: int
    fingerprint: str
    """Of the type of the state."""
    data: bytes
    recorded_at: int


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A consumer's saved place, and what it keeps beside it."""

    name: str
    position: int
    """The last position that was handled; 0 for none."""
    event_id: str
    """The event at that position; empty for position 0. A log that does not hold it there is another log."""
    epoch: int
    """Grows each time the consumer changes hands."""
    data: bytes = b""
    """The consumer's own."""


class ViewChange(msgspec.Struct, frozen=True, gc=False):
    """A view to write, or, without data, to remove."""

    key: str
    data: bytes | None


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a store can and cannot do, as data. The conformance kit runs a law unless it is declared away here."""

    durable: bool
    """What was acknowledged survives `kill -9` of the process, and of the server if there is one."""
    single_writer: bool
    """Nobody but this opened store can append: its users may trust what they know of a stream."""
    multi_process: bool
    """Several processes may write at once."""
    stopped_writer_holds_lock: bool
    """A process that is stopped inside its commit blocks other writers until it goes on or dies."""
    max_append_events: int
    max_append_bytes: int
    """Of data and metadata of one append, together."""
    max_view_changes: int = NO_LIMIT
    """How many views may change with one checkpoint."""
    transaction: Literal["", "sqlite3", "asyncpg", "pymongo"] = ""
    """Whose transaction a `TransactionalStore` gives to handlers; none where this is empty."""


class AppendWaiter(Protocol):
    """Who hears how an append ended. Never called from within `submit`, and exactly once, on the event loop."""

    def append_done(self, outcome: Appended | StoreError) -> None: ...


class SnapshotStore(Protocol):
    """Where states are saved. Losing all of it costs time, never facts."""

    async def save_snapshot(self, snapshot: StoredSnapshot, *, keep: int) -> None:
        """Save a state and leave the `keep` newest; one older than the newest there is changes nothing."""
        ...

    async def load_snapshot(self, stream: str) -> StoredSnapshot | None:
        """The newest state of a stream."""
        ...

    async def delete_snapshots(self, stream: str) -> None:
        """Forget the states of a stream."""
        ...

    async def close(self) -> None:
        """Give everything back. Closing twice is fine."""
        ...


class CheckpointStore(Protocol):
    """Where consumers keep their places, and their views beside them."""

    async def load_checkpoint(self, name: str) -> Checkpoint | None: ...

    async def save_checkpoint(
        self, checkpoint: Checkpoint, *, previous: Checkpoint | None, views: Sequence[ViewChange] = ()
    ) -> bool:
        """Save a place together with the views that changed, as one, if nobody else has moved it.

        `previous` is what this consumer last loaded or saved (`None`: there was nothing). False when the store holds
        another epoch or position than that: nothing was changed, somebody took over. Raises `ValueError` when the
        place would move back, below the previous position or epoch, or when more views change than the store takes.
        """
        ...

    async def list_checkpoints(self) -> list[Checkpoint]:
        """All of them, by name."""
        ...

    async def reset_checkpoint(self, name: str) -> None:
        """Back to position 0 without views and data, under a raised epoch, so that whoever runs it stops."""
        ...

    async def remove_checkpoint(self, name: str) -> None:
        """Remove place and views."""
        ...

    async def load_view(self, name: str, key: str) -> bytes | None: ...

    async def load_views(self, name: str, keys: Sequence[str]) -> dict[str, bytes]:
        """The views of some keys, at most `PAGE_SIZE` of them; a key that has no view is left out."""
        ...

    async def list_views(
        self, name: str, *, prefix: str = "", after: str = "", limit: int = PAGE_SIZE
    ) -> list[tuple[str, bytes]]:
        """Keys and views in code point order of the keys."""
        ...


class Store(SnapshotStore, CheckpointStore, Protocol):
    """The log of all events, with snapshots, checkpoints and views beside it."""

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def url(self) -> str:
        """Where it is, without credentials."""
        ...

    def submit(
        self,
        stream: str,
        events: Sequence[NewEvent],
        expected_version: int,
        waiter: AppendWaiter,
        last_id: str = "",
        last_position: int = 0,
    ) -> Appended | StoreError | None:
        """Append without a future: the outcome, if the store has it at once, or None; then the waiter is called.

        For actors: the name of the stream, the ids and the sizes were checked, and there is at least one event.
        `last_id` is the id of the event at `expected_version`, as far as the caller knows it, and `last_position` a hint
        where that is, which may be wrong. Where the stream ends at that version with another event the log went back, and
        the outcome is a `VersionConflictError` that `is_another_history`: a state must not go on whose events are no more.
        """
        ...

    async def append(
        self, stream: str, events: Sequence[NewEvent], *, expected_version: ExpectedVersion
    ) -> Appended:
        """Store all events, or nothing, after version `expected_version` of the stream.

        An append whose event ids already stand there returns its first result; where the expectation is no number a
        repeat cannot be told from a new append, and is stored again. An empty one stores nothing and returns where
        the stream is. Returns after the events are durable. Cancelling the caller does not cancel the
        append.

        Raises:
            VersionConflictError: the stream is elsewhere; nothing was stored.
            AppendTooLargeError: nothing was stored.
            StoreUnavailableError: its `stored` says what is known.
            InvalidIdError, StoreClosedError, StoreSealedError: nothing was stored.
            ValueError: a time of 65 bits; nothing was stored, and never will be.
        """
        ...

    async def seal(self) -> None:
        """Take no more appends, from any process, for good; sealing twice is fine.

        From when this returns every append that stores anything is a `StoreSealedError`, what was under way then
        included. One that is sent again and was stored before still returns its first result. All else goes on.
        """
        ...

    async def versions(self, streams: Sequence[str]) -> list[int]:
        """The version of each stream, 0 for one without events; as of a moment after the call began."""
        ...

    async def ends(self, streams: Sequence[str]) -> list[StreamEnd]:
        """The last event of each stream; as of a moment after the call began."""
        ...

    async def read_stream(
        self,
        stream: str,
        *,
        after: int = 0,
        limit: int = PAGE_SIZE,
        near: int | None = None,
        may_lag: bool = False,
    ) -> StreamPage:
        """A page of a stream. `near` is a position at or before the first event asked for: it may save a search.

        `may_lag`: a replica may answer, which does not have the newest events yet.
        """
        ...

    async def replay(self, stream: str, *, after: int = 0, near: int | None = None) -> ReplayPage:
        """A page of a stream for rehydration."""
        ...

    async def read_all(
        self, *, after: int = 0, limit: int = PAGE_SIZE, where: LogFilter | None = None
    ) -> LogPage:
        """A page of the log in commit order: no position ever appears behind a reader that has passed it.

        A replica may answer, if the store was opened with one; `streams` likewise.
        """
        ...

    async def head(self) -> Head:
        """The newest event."""
        ...

    async def wait(self, *, after: int) -> None:
        """Return when there may be events after that position."""
        ...

    async def streams(self, *, prefix: str = "", after: str = "", limit: int = PAGE_SIZE) -> list[StreamHead]:
        """Streams in code point order of their names."""
        ...


_MAX_TRIES: Final = 100


class _FutureWaiter:
    __slots__ = ("future",)

    def __init__(self) -> None:
        self.future: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()

    def append_done(self, outcome: Appended | StoreError) -> None:
        if self.future.done():
            return
        if isinstance(outcome, StoreError):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)


async def append_and_wait(
    store: Store, stream: str, events: Sequence[NewEvent], expected_version: ExpectedVersion
) -> Appended:
    """What `append` of a backend is: check, make the expectation a number, `submit`, wait."""
    check_outside()
    check_append(store.capabilities, stream, events)
    tries = 0
    while True:
        tries += 1
        expected = await _as_number(store, stream, expected_version)
        if not events:
            return await _where(store, stream, expected)
        waiter = _FutureWaiter()
        outcome = store.submit(stream, events, expected, waiter)
        try:
            if outcome is None:
                return await waiter.future
            if isinstance(outcome, StoreError):
                raise outcome
            return outcome
        except VersionConflictError:
            # Somebody was faster than the number: whoever accepts any version does not care, within reason.
            if isinstance(expected_version, int) or tries == _MAX_TRIES:
                raise


async def _as_number(store: Store, stream: str, expected_version: ExpectedVersion) -> int:
    if isinstance(expected_version, int):
        return expected_version
    (version,) = await store.versions([stream])
    if expected_version == STREAM_EXISTS and version == 0:
        raise VersionConflictError(stream, STREAM_EXISTS, 0)
    return version


async def _where(store: Store, stream: str, expected: int) -> Appended:
    """The end of the stream, for an append without events."""
    (version,) = await store.versions([stream])
    if version != expected:
        raise VersionConflictError(stream, expected, version)
    if version == 0:
        return Appended(0, 0)
    page = await store.read_stream(stream, after=version - 1, limit=1)
    return Appended(version, page.events[0].position)


def check_append(capabilities: Capabilities, stream: str, events: Sequence[NewEvent]) -> None:
    """Raise what an append that no store may take deserves, before anything is sent."""
    check_stream(stream)
    if len(events) > capabilities.max_append_events:
        raise AppendTooLargeError(stream, "events", len(events), capabilities.max_append_events)
    for event in events:
        check_id(event.id, "event id")
        check_id(event.type, "event type")
        if event.recorded_at is not None and not MIN_TIME <= event.recorded_at <= MAX_TIME:
            raise ValueError(f"event {event.id!r} is of {event.recorded_at}: a time has at most 64 bits")
    size = sum(len(event.data) + len(event.metadata) for event in events)
    if size > capabilities.max_append_bytes:
        raise AppendTooLargeError(stream, "bytes", size, capabilities.max_append_bytes)


def check_save(
    checkpoint: Checkpoint,
    previous: Checkpoint | None,
    views: Sequence[ViewChange],
    *,
    limit: int = NO_LIMIT,
) -> None:
    """Raise what a checkpoint that no store may save deserves, before anything is sent."""
    check_id(checkpoint.name, "name of a consumer")
    if len(views) > limit:
        raise ValueError(
            f"{len(views):,} views change with checkpoint {checkpoint.name!r}, and this store takes {limit:,}: save more often"
        )
    for view in views:
        check_id(view.key, "key of a view")
    if previous is not None and (
        checkpoint.position < previous.position or checkpoint.epoch < previous.epoch
    ):
        raise ValueError(
            f"checkpoint {checkpoint.name!r} cannot move back, from position {previous.position} and epoch "
            f"{previous.epoch} to {checkpoint.position} and {checkpoint.epoch}: reset it"
        )


def is_same_place(stored: Checkpoint | None, previous: Checkpoint | None) -> bool:
    """Whether what is stored is what a consumer last loaded or saved."""
    if stored is None or previous is None:
        return stored is previous
    return stored.epoch == previous.epoch and stored.position == previous.position


async def every_event(
    store: Store, stream: str, *, after: int = 0, limit: int | None = None
) -> AsyncIterator[StoredEvent]:
    """The events of a stream, page by page."""
    left = limit
    while left is None or left > 0:
        page = await store.read_stream(
            stream, after=after, limit=PAGE_SIZE if left is None else min(left, PAGE_SIZE), may_lag=True
        )
        for event in page.events:
            yield event
        if page.is_last or not page.events:
            return
        after = page.events[-1].version
        if left is not None:
            left -= len(page.events)
