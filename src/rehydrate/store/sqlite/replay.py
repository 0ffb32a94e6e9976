"""Reading streams for rehydration: a page in one step.

Row by row the driver lets go of the interpreter's lock and takes it again, and it is wanted on the event loop. So SQLite
joins each column of a page into one value, without the lock. What was joined is trusted only where it comes apart into as
many pieces as there are events, the last of which is as it is stored; else the page is read row by row.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from functools import partial
from typing import Final, TypeAlias

from msgspec.structs import replace

from rehydrate.store.event_rows import BETWEEN_DATA, EventRows
from rehydrate.store.port import PAGE_SIZE, ReplayPage
from rehydrate.store.replays import MAX_PAGES, Answer, Question, Replays
from rehydrate.store.sqlite import schema
from rehydrate.store.sqlite.database import code_of
from rehydrate.store.sqlite.reader import MAX_PAGE_BYTES, Readers, rows_within
from rehydrate.store.together import answer_all

_VERSIONS: Final = ",".join(map(str, range(1, PAGE_SIZE + 1)))
"""The versions of a page as they must be joined, counted from its beginning."""

_Found: TypeAlias = list[tuple[Answer, ReplayPage]]


def replays(readers: Readers) -> Replays:
    """The questions of all who rehydrate, asked by these threads."""
    return Replays(partial(_read_on, readers), partial(_read_many, readers))


async def _read_on(readers: Readers, question: Question) -> None:
    pages = _Pages(asyncio.get_running_loop(), question)
    try:
        page = await readers.read(pages.read)
        if not pages.next.done():
            pages.next.set_result(page)
    finally:
        if pages.next is not question.answer and not pages.next.done():
            pages.next.set_result(None)


class _Pages:
    """The pages of one stream, each of which is handed out while the next one is being read."""

    def __init__(self, loop: asyncio.AbstractEventLoop, question: Question) -> None:
        self._loop = loop
        self._question = question
        self.next = question.answer
        """Of the page that nobody has yet."""

    def read(self, connection: sqlite3.Connection) -> ReplayPage | None:
        """In a thread: hand out one page after the other, and return the last one."""
        stream, after = self._question.question
        page, size = _first(connection, stream, after)
        room = MAX_PAGE_BYTES
        for _ in range(1, MAX_PAGES):
            room -= size
            if page.is_last or room <= 0:
                return page
            rest: Answer = self._loop.create_future()
            found = [(self.next, replace(page, rest=rest))]
            self._loop.call_soon_threadsafe(answer_all, found)
            self.next = rest
            after += PAGE_SIZE
            behind = _joined(connection, stream, after, room)
            if behind is None:
                return None
            page, size = behind
        return page


async def _read_many(readers: Readers, questions: Sequence[Question]) -> None:
    loop = asyncio.get_running_loop()
    answer_all(await readers.read(partial(_first_pages, loop, questions)))


def _first_pages(
    loop: asyncio.AbstractEventLoop, questions: Sequence[Question], connection: sqlite3.Connection
) -> _Found:
    """In a thread: a page of each. As soon as there is as much as one page may hold, it is handed out."""
    found: _Found = []
    events = 0
    for question in questions:
        page, _ = _first(connection, *question.question)
        found.append((question.answer, page))
        events += len(page.rows)
        if events >= PAGE_SIZE:
            loop.call_soon_threadsafe(answer_all, found)
            found, events = [], 0
    return found


def _first(connection: sqlite3.Connection, stream: str, after: int) -> tuple[ReplayPage, int]:
    return _joined(connection, stream, after, MAX_PAGE_BYTES) or _row_by_row(connection, stream, after)


def _joined(
    connection: sqlite3.Connection, stream: str, after: int, room: int
) -> tuple[ReplayPage, int] | None:
    """A page in one step, and its bytes; None if there is no room for them, or it does not come apart."""
    limit = connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, room)
    try:
        found = connection.execute(
            schema.REPLAY_JOINED, {"stream": stream, "after": after, "limit": PAGE_SIZE}
        ).fetchone()
    except sqlite3.DataError as error:
        if code_of(error) != sqlite3.SQLITE_TOOBIG:
            raise
        return None
    finally:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, limit)
    if found is None or found[0] == 0:
        return ReplayPage([], "", "", 0, is_last=True), 0
    count, versions, joined_types, joined_data, first_id, last_id, last_position, *last = found
    types, data = joined_types.split("\n"), joined_data.split(BETWEEN_DATA)
    if not len(types) == len(data) == count or versions != _VERSIONS[: len(versions)]:
        return None
    if last != [types[-1], len(data[-1])]:
        return None
    rows = EventRows(after + 1, types, data)
    return ReplayPage(rows, first_id, last_id, last_position, is_last=count < PAGE_SIZE), len(joined_data)


def _row_by_row(connection: sqlite3.Connection, stream: str, after: int) -> tuple[ReplayPage, int]:
    """A page that may have all the bytes there is room for."""
    asked = {"stream": stream, "after": after, "limit": PAGE_SIZE + 1}
    rows, is_last = rows_within(connection.execute(schema.REPLAY, asked), PAGE_SIZE, data=2)
    if not rows:
        return ReplayPage(rows, "", "", 0, is_last), MAX_PAGE_BYTES
    *_, first_id = rows[0]
    *_, last_position, last_id = rows[-1]
    page = ReplayPage([row[:3] for row in rows], first_id, last_id, last_position, is_last)
    return page, MAX_PAGE_BYTES
