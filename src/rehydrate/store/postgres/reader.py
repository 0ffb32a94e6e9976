"""Questions to the log, each one statement, so that it is answered as of one moment."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final

import asyncpg

from rehydrate.domain.streams import first_beyond
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


async def replay(connection: Connection, stream: str, after: int) -> ReplayPage:
    """A page of a stream, without what rehydration does not need."""
    check_name(stream)
    rows = await connection.fetch(sql.REPLAY, stream, within(after), PAGE_SIZE + 1, MAX_PAGE_BYTES)
    is_last = _cut(rows, PAGE_SIZE)
    if not rows:
        return ReplayPage([], "", "", 0, is_last)
    narrow = [(version, type, data) for version, type, data, _, _, _ in rows]
    return ReplayPage(narrow, rows[0]["id"], rows[-1]["id"], rows[-1]["position"], is_last)


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
    """Streams, aggregates, types: the names that are wanted, or None if all are."""
    if where is None:
        return None, None, None
    return tuple(
        json_text([name for name in wanted if is_storable(name)]) if wanted else None
        for wanted in (where.streams, where.aggregates, where.types)
    )
