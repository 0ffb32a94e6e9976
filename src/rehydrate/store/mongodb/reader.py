"""Reading: whole documents come from the server, and pages of events are cut from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from rehydrate.errors import StoreUnavailableError
from rehydrate.store.mongodb import failures
from rehydrate.store.mongodb.commands import SEALED, Commands, is_text
from rehydrate.store.mongodb.driver import Document, Driver
from rehydrate.store.mongodb.log import end_of
from rehydrate.store.port import (
    PAGE_SIZE,
    Head,
    LogFilter,
    LogPage,
    ReplayPage,
    StoredEvent,
    StreamEnd,
    StreamHead,
    StreamPage,
)

MAX_PAGE_BYTES: Final = 8 * 1024 * 1024
"""A page ends with the event that brings its data and metadata up to this."""
MAX_SCAN: Final = 10_000
"""How many events of the log a page looks at, matched or not."""
MAX_STREAMS: Final = 5_000
"""How many streams one question is about."""
MAX_LIMIT: Final = 1_000_000
"""How many documents are asked for at most, whatever the limit: a reply does not hold as many."""
MAX_NUMBER: Final = 2**63 - 1
"""The highest position and version there could be."""


class _End(msgspec.Struct, frozen=True):
    """The end of a document."""

    first: int
    """The position at which it begins."""
    position: int
    """Of its last event."""
    event_id: str


class Reader:
    """The questions of one opened store. Each begins and ends in itself: no cursor stays open."""

    def __init__(self, driver: Driver, commands: Commands) -> None:
        self._driver = driver
        self._commands = commands

    # ---- streams

    async def read_stream(self, stream: str, after: int, limit: int) -> StreamPage:
        documents, is_whole = await self._documents_of(stream, after, limit)
        page = _Page(_bounded(limit))
        for document in documents:
            if not page.take(document, _events_of(document, above_version=after)):
                break
        return StreamPage(page.events, page.is_open and is_whole)

    async def replay(self, stream: str, after: int) -> ReplayPage:
        documents, is_whole = await self._documents_of(
            stream, after, PAGE_SIZE, narrow=("id", "type", "data")
        )
        rows: list[tuple[int, str, bytes]] = []
        first_id = last_id = ""
        position = size = 0
        is_cut = False
        for document in documents:
            version = int(document["version"])
            skipped = max(0, after + 1 - version)
            events = document["events"][skipped:]
            version += skipped
            start = len(rows)
            for event in events:
                if len(rows) == PAGE_SIZE or size >= MAX_PAGE_BYTES:
                    is_cut = True
                    break
                rows.append((version, event["type"], event["data"]))
                version += 1
                size += len(event["data"])
            if taken := len(rows) - start:
                first_id = first_id or events[0]["id"]
                last_id = events[taken - 1]["id"]
                position = int(document["_id"]) + skipped + taken - 1
            if is_cut:
                break
        return ReplayPage(rows, first_id, last_id, position, is_whole and not is_cut)

    async def _documents_of(
        self, stream: str, after: int, limit: int, *, narrow: Sequence[str] = ()
    ) -> tuple[list[Document], bool]:
        """The documents with the events behind a version, one event more than the limit; whether these are all."""
        # Versions have no gaps, so that a range of them bounds how much is fetched.
        upto = min(after + _bounded(limit) + 1, max(after, MAX_NUMBER))
        documents, is_whole = await self._fetch(
            self._commands.stream_between(stream, after, upto, narrow=narrow)
        )
        if after > 0 and not (documents and documents[0]["version"] == after + 1):
            # The page begins in the middle of an append. Asked in this order: what is behind that append was seen
            # above, so it is here, too.
            around = self._commands.stream_around(stream, after, narrow=narrow)
            documents = [*(await self._fetch(around))[0], *documents]
        return documents, is_whole

    async def ends(self, streams: Sequence[str]) -> list[StreamEnd]:
        """The last event of each stream."""
        found: dict[str, StreamEnd] = {}
        for start in range(0, len(streams), MAX_STREAMS):
            # A name that is no text is the name of no stream, and those who ask together with it have their answers.
            asked = list(filter(is_text, dict.fromkeys(streams[start : start + MAX_STREAMS])))
            if not asked:
                continue
            # A primary that others have replaced does not know it at once, and would answer from the past. Where there
            # is nobody else, there is nothing to confirm, and it would wait 100 ms for the journal's next flush.
            heads = self._commands.heads(asked, confirmed=self._driver.may_fail_over())
            for document in (await self._fetch(heads))[0]:
                found[document["_id"]] = end_of(document)
        return [found.get(stream, StreamEnd(0, "")) for stream in streams]

    async def streams(self, prefix: str, after: str, limit: int) -> list[StreamHead]:
        """Streams by name."""
        if limit <= 0:
            return []
        found, _ = await self._fetch(self._commands.streams(prefix, after, _bounded(limit)))
        names = [document["stream"] for document in found]
        heads: dict[str, int] = {}
        for start in range(0, len(names), MAX_STREAMS):
            for document in (await self._fetch(self._commands.heads(names[start : start + MAX_STREAMS])))[0]:
                heads[document["_id"]] = end_of(document).version
        return [StreamHead(name, heads[name]) for name in names if name in heads]

    # ---- the log

    async def read_all(self, after: int, limit: int, where: LogFilter | None) -> LogPage:
        if where is not None and where != LogFilter():
            return await self._read_filtered(after, limit, where)
        if after == MAX_NUMBER:
            return LogPage([], after, "", is_last=True)
        # Positions have no gaps, either.
        limit = _bounded(limit)
        last = min(after + limit + 1, max(after + 1, MAX_NUMBER))
        documents, is_whole = await self._fetch(self._commands.log_between(after + 1, last, last - after))
        if after > 0 and not (documents and documents[0]["_id"] == after + 1):
            documents = [*(await self._fetch(self._commands.log_around(after)))[0], *documents]
        page = _Page(limit)
        for document in documents:
            if not page.take(document, _events_of(document, above_position=after)):
                break
        is_last = page.is_open and is_whole
        if not page.events:
            return LogPage([], after, "", is_last)
        return LogPage(page.events, page.position, page.event_id, is_last)

    async def _read_filtered(self, after: int, limit: int, where: LogFilter) -> LogPage:
        """A page for which so many positions are looked at, by the server; fewer, where they are too large for it."""
        scan = MAX_SCAN
        while True:
            try:
                return await self._scan(after, limit, where, scan)
            except StoreUnavailableError as error:
                if not failures.is_out_of_time(error) or scan == 1:
                    raise
                scan = max(1, scan // 10)

    async def _scan(self, after: int, limit: int, where: LogFilter, scan: int) -> LogPage:
        end = await self._newest()
        if end.position <= after:
            return LogPage([], after, "", is_last=True)
        first = after + 1
        if after > 0:
            begun = await self._end_around(after)
            if begun.position > after:
                first = begun.first
        upto = end if end.position <= after + scan else await self._end_around(after + scan)
        limit = _bounded(limit)
        fetched = limit + 1
        documents, is_whole = await self._fetch(self._commands.log_between(first, upto.first, fetched, where))
        page = _Page(limit)
        for document in documents:
            if not page.take(document, _events_of(document, above_position=after), where):
                break
        if page.is_open and is_whole and len(documents) < fetched:
            return LogPage(page.events, upto.position, upto.event_id, upto.position == end.position)
        if page.position == 0:
            return LogPage([], after, "", is_last=False)
        return LogPage(page.events, page.position, page.event_id, page.position == end.position)

    async def head(self) -> Head:
        """The newest event."""
        end = await self._newest()
        return Head(end.position, end.event_id)

    async def position(self) -> int:
        """The position of the newest event."""
        return (await self._newest()).position

    async def _newest(self) -> _End:
        documents, _ = await self._fetch(self._commands.newest())
        return next((_end(document) for document in documents if document["stream"] != SEALED), _NOTHING)

    async def _end_around(self, position: int) -> _End:
        documents, _ = await self._fetch(self._commands.end_around(position))
        return _end(documents[0]) if documents else _NOTHING

    async def _fetch(self, command: Document) -> tuple[list[Document], bool]:
        return await self._driver.read_all_of(command)


def _bounded(limit: int) -> int:
    return min(max(limit, 0), MAX_LIMIT)


_NOTHING: Final = _End(0, 0, "")


def _end(document: Document) -> _End:
    first = int(document["_id"])
    return _End(first, first + document["count"] - 1, document.get("event_id", ""))


class _Page:
    """Events, up to a number and a size."""

    def __init__(self, limit: int) -> None:
        self.events: list[StoredEvent] = []
        self.is_open = True
        """Whether everything that was offered has been taken, or passed over."""
        self.position = 0
        """Of the last event that was looked at."""
        self.event_id = ""
        self._limit = limit
        self._size = 0

    def take(self, document: Document, events: Iterable[StoredEvent], where: LogFilter | None = None) -> bool:
        """Take what matches of a document; false as soon as something does not go in any more."""
        if document["stream"] == SEALED:
            return True
        for event in events:
            if where is not None and not where.matches(event.stream, event.type):
                pass
            elif len(self.events) >= self._limit or self._size >= MAX_PAGE_BYTES:
                self.is_open = False
                return False
            else:
                self.events.append(event)
                self._size += len(event.data) + len(event.metadata)
            self.position, self.event_id = event.position, event.id
        return True


def _events_of(
    document: Document, *, above_version: int = 0, above_position: int = 0
) -> Iterator[StoredEvent]:
    """The events of an append, from behind a version and a position on."""
    stream: str = document["stream"]
    version, position = int(document["version"]), int(document["_id"])
    recorded_at = int(document["recorded_at"])
    for event in document["events"]:
        if version > above_version and position > above_position:
            own_time = event.get("recorded_at")
            yield StoredEvent(
                stream,
                version,
                position,
                event["id"],
                event["type"],
                event["data"],
                event["metadata"],
                recorded_at if own_time is None else int(own_time),
            )
        version += 1
        position += 1
