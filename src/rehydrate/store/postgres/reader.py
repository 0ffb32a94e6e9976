"""Questions to the log, each one statement, so that it is answered as of one moment."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import asyncpg
import msgspec

from rehydrate.domain.streams import first_beyond
from rehydrate.store.event_rows import BETWEEN_DATA, EventRows
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
from rehydrate.store.postgres import sql
from rehydrate.store.postgres.connection import Connection
from rehydrate.store.postgres.failures import check_name, is_storable
from rehydrate.store.postgres.json_text import json_text
from rehydrate.store.replays import MAX_PAGES, Answer, Question
from rehydrate.store.together import answer_all

MAX_PAGE_BYTES: Final = 8 * 1024 * 1024
"""A page ends with the event that brings its data and metadata up to this."""
MAX_PAGE: Final = 10_000
"""Nor has it more events than this, whatever was asked for."""
MAX_SCAN: Final = 10_000
"""How many events of the log a filtered page looks at, matched or not."""
MAX_SLICE: Final = 1_000
"""How many events are made in one go; then everybody else has a turn."""
MAX_POSITION: Final = 2**63 - 1
BEYOND_ALL_NAMES: Final = "\U0010ffff" * 256
"""Longer than any name can be, so that it comes after all of them."""


async def read_stream(connection: Connection, stream: str, after: int, limit: int) -> StreamPage:
    """A page of a stream."""
    check_name(stream)
    limit = within(limit, MAX_PAGE)
    rows = await connection.fetch(sql.READ_STREAM, stream, within(after), limit + 1, MAX_PAGE_BYTES)
    is_last = _cut(rows, limit)
    events: list[StoredEvent] = []
    for some in _slices(rows):
        if events:
            await asyncio.sleep(0)
        events += [
            StoredEvent(stream, version, position, id, type, data, metadata, recorded_at)
            for version, position, id, type, data, metadata, recorded_at, _ in some
        ]
    return StreamPage(events, is_last)


async def replay_on(connection: Connection, question: Question) -> None:
    """Answer with a page of a stream, without what rehydration does not need; then read on, while that is folded."""
    stream, after = question.question
    answer, room = question.answer, MAX_PAGE_BYTES
    try:
        ((page, size),) = await _replay(connection, [(stream, after)], MAX_PAGE_BYTES)
        for _ in range(1, MAX_PAGES):
            room -= size
            after += len(page.rows)
            if answer.done():
                return  # Nobody waits any more.
            if page.is_last or room <= 0:
                break
            rest: Answer = asyncio.get_running_loop().create_future()
            answer.set_result(msgspec.structs.replace(page, rest=rest))
            answer = rest
            behind = await _read_on(connection, stream, after, page.last_id)
            if behind is None:
                return
            page, size = behind
        if not answer.done():
            answer.set_result(page)
    finally:
        if answer is not question.answer and not answer.done():
            answer.set_result(None)


async def replay_many(connection: Connection, questions: Sequence[Question]) -> None:
    """Answer with a page of each stream; together they have no more bytes than one may have."""
    asked = [question.question for question in questions]
    pages = await _replay(connection, asked, MAX_PAGE_BYTES // len(asked))
    answer_all([(question.answer, page) for question, (page, _) in zip(questions, pages, strict=True)])


async def _replay(
    connection: Connection, asked: Sequence[tuple[str, int]], most: int
) -> list[tuple[ReplayPage, int]]:
    """A page of each, and the bytes of its data."""
    for stream, _ in asked:
        check_name(stream)
    places = json_text([(stream, within(after)) for stream, after in asked])
    found = await connection.fetch(sql.REPLAY, places, PAGE_SIZE, most)
    pages: list[tuple[ReplayPage, int]] = []
    for (stream, after), row in zip(asked, found, strict=True):
        page = _joined(row, most)
        pages.append(page or (await _replay_by_rows(connection, stream, after), most))
    return pages


async def _read_on(
    connection: Connection, stream: str, after: int, last_id: str
) -> tuple[ReplayPage, int] | None:
    """The page behind one that ends with that event; None where it has to be asked for.

    As where another history has been restored meanwhile: a state is never of two.
    """
    places = json_text([(stream, within(after))])
    ((*row, before),) = await connection.fetch(sql.READ_ON, places, PAGE_SIZE, MAX_PAGE_BYTES)
    return _joined(row, MAX_PAGE_BYTES) if before == last_id else None


def _joined(row: Iterable[Any], most: int) -> tuple[ReplayPage, int] | None:
    """A page whose data came as one value, and its bytes; None if it does not come apart as it was joined."""
    count, first, last, types, joined, size, first_id, last_id, last_position = row
    if count == 0:
        return ReplayPage([], "", "", 0, is_last=True), 0
    data = joined.split(BETWEEN_DATA)
    if len(data) != count or last - first != count - 1:
        return None
    is_last = count < PAGE_SIZE and size < most
    return ReplayPage(EventRows(first, types, data), first_id, last_id, last_position, is_last), int(size)


async def _replay_by_rows(connection: Connection, stream: str, after: int) -> ReplayPage:
    """Where data does not come apart as it was joined, or somebody has taken events away, who asks must see which."""
    page = await read_stream(connection, stream, after, PAGE_SIZE)
    rows = [(event.version, event.type, event.data) for event in page.events]
    first, last = page.events[0], page.events[-1]
    return ReplayPage(rows, first.id, last.id, last.position, page.is_last)


async def read_all(connection: Connection, after: int, limit: int, where: LogFilter | None) -> LogPage:
    """A page of the log."""
    limit = within(limit, MAX_PAGE)
    filters = _filters(where)
    if any(wanted is not None for wanted in filters):
        return await _read_filtered(connection, after, limit, filters)
    rows = await connection.fetch(sql.READ_ALL, within(after), limit + 1, MAX_PAGE_BYTES)
    is_last = _cut(rows, limit)
    events = await _events(rows)
    if not events:
        return LogPage([], after, "", is_last)
    return LogPage(events, events[-1].position, events[-1].id, is_last)


async def _read_filtered(
    connection: Connection, after: int, limit: int, filters: Sequence[str | None]
) -> LogPage:
    start = within(after)
    upto = within(start + MAX_SCAN)
    rows = await connection.fetch(sql.READ_FILTERED, start, limit + 1, MAX_PAGE_BYTES, upto, *filters)
    if not rows:
        return LogPage([], after, "", is_last=True)  # The log is empty.
    head, upto, upto_id = rows[0]["head"], rows[0]["upto"], rows[0]["upto_id"]
    if rows[0]["position"] is None:
        rows = []
    is_whole = _cut(rows, limit)
    events = await _events(rows)
    if events and not is_whole:
        last = events[-1]
        return LogPage(events, last.position, last.id, last.position >= head)
    if upto <= after or not is_whole:
        return LogPage(events, after, "", head <= after)
    return LogPage(events, upto, upto_id, upto >= head)


async def read_head(connection: Connection) -> Head:
    """The newest event."""
    row = await connection.fetchrow(sql.HEAD)
    return Head(0, "") if row is None else Head(row["position"], row["id"])


async def read_ends(connection: Connection, streams: Sequence[str]) -> list[StreamEnd]:
    """The last event of each stream; what cannot be one has no events."""
    asked = json_text([name if is_storable(name) else "" for name in streams])
    return [StreamEnd(*row) for row in await connection.fetch(sql.ENDS, asked)]


async def list_streams(connection: Connection, prefix: str, after: str, limit: int) -> list[StreamHead]:
    """Streams by name."""
    rows = await connection.fetch(sql.LIST_STREAMS, *name_range(prefix, after), within(limit))
    return [StreamHead(stream, version) for stream, version in rows]


def within(number: int, most: int = MAX_POSITION) -> int:
    """A limit, or where to read on, as the database has room for: nothing is below 0, or above all positions."""
    return max(0, min(number, most))


def name_range(prefix: str, after: str) -> tuple[str, str, str]:
    """What names come after, the smallest that begins with the prefix, and the first one beyond all that do."""
    check_name(prefix)
    check_name(after)
    return after, prefix, first_beyond(prefix) or BEYOND_ALL_NAMES


def _cut(rows: list[asyncpg.Record], limit: int) -> bool:
    """Take away the row beyond the limit; whether there is nothing after what is left."""
    if len(rows) > limit:
        del rows[limit:]
        return False
    return not rows or not rows[-1]["is_full"]


def _slices(rows: list[asyncpg.Record]) -> Iterator[list[asyncpg.Record]]:
    if len(rows) <= MAX_SLICE:
        yield rows
    else:
        for first in range(0, len(rows), MAX_SLICE):
            yield rows[first : first + MAX_SLICE]


async def _events(rows: list[asyncpg.Record]) -> list[StoredEvent]:
    events: list[StoredEvent] = []
    for some in _slices(rows):
        if events:
            await asyncio.sleep(0)
        events += [
            StoredEvent(stream, version, position, id, type, data, metadata, recorded_at)
            for stream, version, position, id, type, data, metadata, recorded_at, *_ in some
        ]
    return events


def _filters(where: LogFilter | None) -> tuple[str | None, ...]:
    """Streams, aggregates, types that are wanted, or None if all are; what is not wanted, or None if nothing."""
    if where is None:
        return None, None, None, None
    wanted = (
        json_text([name for name in names if is_storable(name)]) if names else None
        for names in (where.streams, where.aggregates, where.types)
    )
    unwanted = [pair for pair in where.without if all(map(is_storable, pair))]
    return *wanted, json_text(unwanted) if unwanted else None
