"""`rehydrate events`: what a stream holds, and what comes into it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import msgspec

from rehydrate.cli.endings import say
from rehydrate.cli.existing import existing_store
from rehydrate.cli.json import as_json
from rehydrate.cli.table import Column, RowWriter, write_json
from rehydrate.domain.streams import check_stream
from rehydrate.store.port import PAGE_SIZE, LogFilter, Store, StoredEvent

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS: Final = (
    Column("version", 7, is_number=True),
    Column("position", 9, is_number=True),
    Column("recorded at (UTC)", 19),
    Column("type", 19),
    Column("data", 0),
)


class Selection(NamedTuple):
    """Which events of which stream."""

    stream: str
    after: int
    limit: int | None
    follow: bool


class EventLine(msgspec.Struct, frozen=True):
    """An event as a line of JSON."""

    stream: str
    version: int
    position: int
    id: str
    type: str
    recorded_at: datetime | int
    data: msgspec.Raw
    metadata: msgspec.Raw


async def show_events(url: str, selection: Selection, *, as_table: bool) -> int:
    """Write the events page by page, and with `follow` those that come. Returns the exit code."""
    check_stream(selection.stream)
    rows = RowWriter(_COLUMNS)
    shown = 0
    async with existing_store(url) as store:
        async for page in _pages(store, selection):
            shown += len(page)
            if not as_table:
                write_json([_as_line(event) for event in page], flush=selection.follow)
                continue
            for event in page:
                rows.write(_as_row(event))
        if not shown:
            say(
                f"{store.url} has no events of {selection.stream!r}"
                + (
                    f" after {selection.after}"
                    if selection.after
                    else "; `rehydrate streams` lists the streams, each named AGGREGATE-ID"
                )
            )
    return 0


async def _pages(store: Store, selection: Selection) -> AsyncIterator[list[StoredEvent]]:
    """The events in order, up to the limit."""
    # Taken before the first look: what comes after it is seen by one of the two.
    head = (await store.head()).position if selection.follow else 0
    version, left = selection.after, selection.limit
    while left is None or left > 0:
        page = await store.read_stream(
            selection.stream, after=version, limit=PAGE_SIZE if left is None else min(left, PAGE_SIZE)
        )
        if page.events:
            yield page.events
            version = page.events[-1].version
            left = None if left is None else left - len(page.events)
        if page.is_last or not page.events:
            break
    if selection.follow and left != 0:
        async for events in _coming(store, selection.stream, version, head):
            yield events if left is None else events[:left]
            left = None if left is None else left - len(events)
            if left is not None and left <= 0:
                return


async def _coming(store: Store, stream: str, version: int, position: int) -> AsyncIterator[list[StoredEvent]]:
    """The events of a stream after a version, as they come; those up to `position` are known."""
    where = LogFilter(streams=frozenset({stream}))
    while True:
        page = await store.read_all(after=position, where=where)
        position = page.position
        if later := [event for event in page.events if event.version > version]:
            yield later
        elif page.is_last:
            await store.wait(after=position)


def _as_line(event: StoredEvent) -> bytes:
    return msgspec.json.encode(
        EventLine(
            stream=event.stream,
            version=event.version,
            position=event.position,
            id=event.id,
            type=event.type,
            recorded_at=_recorded_at(event),
            data=as_json(event.data),
            metadata=as_json(event.metadata),
        )
    )


def _as_row(event: StoredEvent) -> list[str]:
    return [
        f"{event.version:,}",
        f"{event.position:,}",
        _shown(_recorded_at(event)),
        event.type,
        event.data.decode(errors="backslashreplace"),
    ]


def _recorded_at(event: StoredEvent) -> datetime | int:
    """When it was stored; the microseconds since 1970 where the year has no four digits, as in what export writes."""
    try:
        return _EPOCH + timedelta(microseconds=event.recorded_at)
    except OverflowError:
        return event.recorded_at


def _shown(moment: datetime | int) -> str:
    return str(moment) if isinstance(moment, int) else f"{moment:%Y-%m-%d %H:%M:%S}"
