"""Reading streams for rehydration: a page in one step, many streams in one go, or one stream while it is being folded.

Row by row the driver lets go of the interpreter's lock and takes it again, and it is wanted on the event loop. So SQLite
joins each column of a page into one value, without the lock. What was joined is trusted only where it comes apart into as
many pieces as there are events, the last of which is as it is stored; else the page is read row by row.

Every way to a thread and back costs more than a short stream does. So questions go there together, and who asks alone
gets the next pages, too, each as soon as it is there.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Final, TypeAlias

import msgspec

from rehydrate.store.event_rows import EventRows
from rehydrate.store.port import PAGE_SIZE, ReplayPage
from rehydrate.store.sqlite import schema
from rehydrate.store.sqlite.database import code_of
from rehydrate.store.sqlite.reader import MAX_PAGE_BYTES, Readers, rows_within

MAX_PAGES: Final = 10
"""How many pages are read on in one go; together they have no more bytes than one may have."""
_JOBS: Final = 2
"""Under way at a time: one is read while what the other has brought is folded."""
_QUESTIONS: Final = 32
"""The most that go to a thread together."""
_BETWEEN_DATA: Final = bytes.fromhex(schema.BETWEEN_DATA)
_VERSIONS: Final = ",".join(map(str, range(1, PAGE_SIZE + 1)))
"""The versions of a page as they must be joined, counted from its beginning."""

_Answer: TypeAlias = asyncio.Future[ReplayPage | None]
"""None where the page has to be asked for."""


class _Question(msgspec.Struct, frozen=True, eq=False):
    stream: str
    after: int
    answer: _Answer


class Replays:
    """The questions of all who rehydrate."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Question] = deque()
        self._alone: deque[_Question] = deque()
        """Questions of a job that failed; each is asked again by itself, so that an error meets its owner only."""
        self._jobs = 0
        self._is_due = False
        self._idle: asyncio.Future[None] | None = None

    async def ask(self, stream: str, after: int) -> ReplayPage:
        """A page of a stream, without what rehydration does not need."""
        answer: _Answer = self._loop.create_future()
        self._waiting.append(_Question(stream, after, answer))
        if not self._is_due:
            # At the end of this turn, so that all who ask in it go together.
            self._loop.call_soon(self._send)
            self._is_due = True
        page = await answer
        assert page is not None
        return page

    async def close(self) -> None:
        """Return when all who have asked have their answer."""
        if self._jobs or self._is_due:
            if self._idle is None:
                self._idle = self._loop.create_future()
            await asyncio.shield(self._idle)

    def _send(self) -> None:
        self._is_due = False
        while self._jobs < _JOBS and (questions := self._next_questions()):
            self._jobs += 1
            if len(questions) == 1:
                one = _ReadOn(self._loop, questions[0])
                self._readers.begin(one.read).add_done_callback(partial(self._one_ended, one))
            else:
                reading = self._readers.begin(partial(self._read_many, questions))
                reading.add_done_callback(partial(self._many_ended, questions))
        if self._jobs == 0 and self._idle is not None:
            self._idle.set_result(None)
            self._idle = None

    def _next_questions(self) -> list[_Question]:
        """Those whose owners still wait."""
        while self._alone:
            question = self._alone.popleft()
            if not question.answer.done():
                return [question]
        questions: list[_Question] = []
        while self._waiting and len(questions) < _QUESTIONS:
            question = self._waiting.popleft()
            if not question.answer.done():
                questions.append(question)
        return questions

    def _one_ended(self, one: _ReadOn, reading: asyncio.Future[ReplayPage | None]) -> None:
        self._jobs -= 1
        one.ended(reading)
        self._send()

    def _many_ended(self, questions: Sequence[_Question], reading: asyncio.Future[list[_Found]]) -> None:
        self._jobs -= 1
        if reading.cancelled():
            for question in questions:
                question.answer.cancel()
        elif reading.exception() is not None:
            self._alone.extend(questions)
        else:
            _hand_out(reading.result())
        self._send()

    def _read_many(self, questions: Sequence[_Question], connection: sqlite3.Connection) -> list[_Found]:
        """In a thread: the first page of each; as soon as there is as much as one page may hold, it is handed out."""
        found: list[_Found] = []
        events = 0
        for question in questions:
            page, _ = _first(connection, question)
            found.append((question.answer, page))
            events += len(page.rows)
            if events >= PAGE_SIZE:
                self._loop.call_soon_threadsafe(_hand_out, found)
                found, events = [], 0
        return found


_Found: TypeAlias = tuple[_Answer, ReplayPage]


def _hand_out(found: Sequence[_Found]) -> None:
    for answer, page in found:
        if not answer.done():
            answer.set_result(page)


class _ReadOn:
    """The pages of one stream, each of which is handed out while the next one is being read."""

    def __init__(self, loop: asyncio.AbstractEventLoop, question: _Question) -> None:
        self._loop = loop
        self._question = question
        self._next = question.answer
        """Of the page that nobody has yet."""

    def read(self, connection: sqlite3.Connection) -> ReplayPage | None:
        """In a thread: hand out one page after the other, and return the last one."""
        stream, after, room = self._question.stream, self._question.after, MAX_PAGE_BYTES
        page, size = _first(connection, self._question)
        for _ in range(1, MAX_PAGES):
            room -= size
            if page.is_last or room <= 0:
                return page
            rest: _Answer = self._loop.create_future()
            found = (self._next, msgspec.structs.replace(page, rest=rest))
            self._loop.call_soon_threadsafe(_hand_out, [found])
            self._next = rest
            after += PAGE_SIZE
            behind = _joined(connection, stream, after, room)
            if behind is None:
                return None
            page, size = behind
        return page

    def ended(self, reading: asyncio.Future[ReplayPage | None]) -> None:
        """On the event loop: hand out the last page, or say to who asked why there is none."""
        if self._next.done():
            return
        if reading.cancelled():
            self._next.cancel()
        elif (error := reading.exception()) is None:
            self._next.set_result(reading.result())
        elif self._next is self._question.answer:
            self._next.set_exception(error)
        else:
            self._next.set_result(None)


def _first(connection: sqlite3.Connection, question: _Question) -> tuple[ReplayPage, int]:
    stream, after = question.stream, question.after
    return _joined(connection, stream, after, MAX_PAGE_BYTES) or _row_by_row(connection, stream, after)


def _joined(
    connection: sqlite3.Connection, stream: str, after: int, room: int
) -> tuple[ReplayPage, int] | None:
    """A page in one step, and its bytes; None if there is no room for them, or it does not come apart."""
    limit = connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, room)
    try:
        found = connection.execute(
            schema.REPLAY_JOINED, (stream, after, stream, after, PAGE_SIZE, after + 1, after)
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
    types, data = joined_types.split("\n"), joined_data.split(_BETWEEN_DATA)
    if not len(types) == len(data) == count or versions != _VERSIONS[: len(versions)]:
        return None
    if last != [types[-1], len(data[-1])]:
        return None
    rows = EventRows(after + 1, types, data)
    return ReplayPage(rows, first_id, last_id, last_position, is_last=count < PAGE_SIZE), len(joined_data)


def _row_by_row(connection: sqlite3.Connection, stream: str, after: int) -> tuple[ReplayPage, int]:
    """A page that may have all the bytes there is room for."""
    found = connection.execute(schema.REPLAY, (stream, after, PAGE_SIZE + 1))
    rows, is_last = rows_within(found, PAGE_SIZE, data=2)
    if not rows:
        return ReplayPage(rows, "", "", 0, is_last), MAX_PAGE_BYTES
    ends = connection.execute(schema.ENDS_OF_REPLAY, (stream, rows[0][0], rows[-1][0])).fetchall()
    return ReplayPage(rows, ends[0][0], ends[-1][0], ends[-1][1], is_last), MAX_PAGE_BYTES
