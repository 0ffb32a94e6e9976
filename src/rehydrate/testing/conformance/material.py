"""What the laws write, and how they read it back."""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Self

import msgspec

from rehydrate.store.port import (
    PAGE_SIZE,
    Appended,
    LogFilter,
    NewEvent,
    Store,
    StoredEvent,
    StreamHead,
    every_event,
)
from rehydrate.testing.clock import until


def event(type: str = "Happened", data: bytes = b"{}", *, id: str | None = None) -> NewEvent:
    """An event that nobody else wrote."""
    return NewEvent(id=secrets.token_hex(12) if id is None else id, type=type, data=data)


def events(count: int) -> list[NewEvent]:
    return [event(data=b'{"n":%d}' % n) for n in range(1, count + 1)]


async def fill(store: Store, stream: str, count: int, *, each: int = 1) -> list[Appended]:
    """Append that many events to a stream, so many at a time."""
    (version,) = await store.versions([stream])
    end = version + count
    appended: list[Appended] = []
    while version < end:
        last = await store.append(stream, events(min(each, end - version)), expected_version=version)
        appended.append(last)
        version = last.version
    return appended


async def stream_events(store: Store, stream: str) -> list[StoredEvent]:
    return [stored async for stored in every_event(store, stream)]


async def log_events(
    store: Store, *, limit: int = PAGE_SIZE, where: LogFilter | None = None
) -> list[StoredEvent]:
    """The log from its beginning to its end, in pages of at most that many."""
    read: list[StoredEvent] = []
    after = 0
    while True:
        page = await store.read_all(after=after, limit=limit, where=where)
        assert len(page.events) <= limit, "a page holds more than was asked for"
        read += page.events
        if page.is_last:
            return read
        assert page.position > after, "a page that is not the last has to get on"
        after = page.position


async def stream_heads(store: Store, *, prefix: str = "", limit: int = PAGE_SIZE) -> list[StreamHead]:
    heads: list[StreamHead] = []
    after = ""
    while page := await store.streams(prefix=prefix, after=after, limit=limit):
        assert len(page) <= limit, "a page holds more than was asked for"
        assert page[0].stream > after, "a page has to get on"
        heads += page
        after = page[-1].stream
    return heads


async def sound_log(store: Store) -> list[StoredEvent]:
    """The log of a store at rest, after checking all that holds for every log."""
    log = await log_events(store)
    streams = by_stream(log)
    positions = [stored.position for stored in log]
    assert all(a < b for a, b in pairwise([0, *positions])), "positions increase strictly from 1"
    for stream, stored in streams.items():
        assert [e.version for e in stored] == list(range(1, len(stored) + 1)), (
            f"{stream}: versions run 1, 2, 3"
        )
        assert await stream_events(store, stream) == stored, f"{stream}: read_stream agrees with read_all"
    assert await store.versions(list(streams)) == [len(stored) for stored in streams.values()]
    assert await stream_heads(store) == [StreamHead(name, len(streams[name])) for name in sorted(streams)]
    head = await store.head()
    assert (head.position, head.event_id) == ((log[-1].position, log[-1].id) if log else (0, ""))
    return log


def by_stream(log: Iterable[StoredEvent]) -> dict[str, list[StoredEvent]]:
    streams: defaultdict[str, list[StoredEvent]] = defaultdict(list)
    for stored in log:
        streams[stored.stream].append(stored)
    return dict(streams)


def ids(stored: Iterable[StoredEvent | NewEvent]) -> list[str]:
    return [one.id for one in stored]


class Part(msgspec.Struct, frozen=True):
    """What the id of an event in a `lot` says: which append it belongs to, and which part of it this is."""

    lot: str
    index: int
    size: int


def lot(name: str, size: int) -> list[NewEvent]:
    """The events of one append whose ids tell whether all of it is there."""
    return [event(id=f"{name}/{index}/{size}") for index in range(size)]


def part(id: str) -> Part:
    name, index, size = id.rsplit("/", 2)
    return Part(name, int(index), int(size))


def whole_lots(log: Sequence[StoredEvent]) -> dict[str, Appended]:
    """Where each append of a log ended, after checking that each is there once, whole and in one piece."""
    lots: dict[str, Appended] = {}
    rest = iter(log)
    for first in rest:
        begun = part(first.id)
        assert begun.index == 0, f"{begun.lot} begins in the middle"
        assert begun.lot not in lots, f"{begun.lot} is there twice"
        last = first
        for index in range(1, begun.size):
            last = next(rest, last)
            assert part(last.id) == Part(begun.lot, index, begun.size), f"{begun.lot} is not there whole"
            assert last.stream == first.stream
            assert last.version == first.version + index
            assert last.position == first.position + index
        lots[begun.lot] = Appended(last.version, last.position)
    return lots


class Follower:
    """Reads a log to its end again and again while others write, and never looks back.

    Begin it before the writers; `finish` it after them: what it saw has to be the log. It takes a breath of `pause`
    seconds at the end of the log, so that other processes have the machine.
    """

    def __init__(self, store: Store, *, limit: int = 7, pause: float = 0.0) -> None:
        self.seen: list[StoredEvent] = []
        self._store = store
        self._limit = limit
        self._pause = pause
        self._stop = False
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        after = 0
        while True:
            stopping = self._stop
            page = await self._store.read_all(after=after, limit=self._limit)
            if page.events:
                after = page.position
                self.seen += page.events
                if page.is_last:
                    at_end = part(page.events[-1].id)
                    assert at_end.index == at_end.size - 1, (
                        f"{at_end.lot} was seen in part at the end of the log"
                    )
            elif stopping and page.is_last:
                return
            await asyncio.sleep(0 if page.events else self._pause)

    async def reaches(self, position: int) -> None:
        """Wait until it has seen the event there."""
        await until(lambda: self._task.done() or (self.seen and self.seen[-1].position >= position))

    async def finish(self, log: Sequence[StoredEvent]) -> None:
        """Read on to the end and compare with the log read at once."""
        self._stop = True
        await self._task
        seen = {(one.position, one.id) for one in self.seen}
        missed = [one for one in log if (one.position, one.id) not in seen]
        assert self.seen == list(log), f"appeared behind the reader: {missed}"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
