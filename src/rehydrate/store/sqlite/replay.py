"""Reading a stream for rehydration: a page in one step, and the next ones while those before are being folded.

Row by row the driver lets go of the interpreter's lock and takes it again, and it is wanted on the event loop. So SQLite
joins each column of a page into one value, without the lock. What was joined is trusted only where it comes apart into as
many pieces as there are events, the last of which is as it is stored; else the page is read row by row.
"""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Final, TypeAlias

import msgspec

from rehydrate.store.port import PAGE_SIZE, ReplayPage
from rehydrate.store.sqlite import schema
from rehydrate.store.sqlite.database import code_of
from rehydrate.store.sqlite.reader import MAX_PAGE_BYTES, Readers, rows_within

MAX_PAGES: Final = 10
"""How many pages are read in one go; together they have no more bytes than one may have."""
_BETWEEN_DATA: Final = bytes.fromhex(schema.BETWEEN_DATA)
_VERSIONS: Final = ",".join(map(str, range(1, PAGE_SIZE + 2)))
"""The versions of a page as they must be joined, counted from its beginning."""

_Page: TypeAlias = asyncio.Future[ReplayPage | None]


async def replay(readers: Readers, stream: str, after: int) -> ReplayPage:
    """A page of a stream, without what rehydration does not need; and those behind it, as its `rest`."""
    pages = _Pages(asyncio.get_running_loop(), stream, after)
    first = pages.next
    readers.begin(pages.read).add_done_callback(pages.ended)
    page = await first
    assert page is not None
    return page


class _Pages:
    """The pages of one question, each of which is handed out as soon as it is there."""

    def __init__(self, loop: asyncio.AbstractEventLoop, stream: str, after: int) -> None:
        self._loop = loop
        self._stream = stream
        self._after = after
        self._is_first = True
        self.next: _Page = loop.create_future()
        """The page that nobody has yet; None where it has to be asked for again."""

    def read(self, connection: sqlite3.Connection) -> ReplayPage | None:
        """In a thread: hand out one page after the other, and return the last one."""
        after, room = self._after, MAX_PAGE_BYTES
        for _ in range(MAX_PAGES):
            page, size = _joined(connection, self._stream, after, room)
            if page is None:
                return _row_by_row(connection, self._stream, after) if self._is_first else None
            if page.is_last:
                return page
            rest: _Page = self._loop.create_future()
            page = msgspec.structs.replace(page, rest=rest)
            self._loop.call_soon_threadsafe(_set_result, self.next, page)
            self.next, self._is_first = rest, False
            after += PAGE_SIZE
            room -= size
        return None

    def ended(self, reading: asyncio.Future[ReplayPage | None]) -> None:
        """On the event loop: hand out the last page, or say to the first one's reader why there is none."""
        if self.next.done():
            return
        if reading.cancelled():
            self.next.cancel()
        elif (error := reading.exception()) is None:
            self.next.set_result(reading.result())
        elif self._is_first:
            self.next.set_exception(error)
        else:
            self.next.set_result(None)


def _set_result(future: _Page, page: ReplayPage) -> None:
    if not future.done():
        future.set_result(page)


def _joined(
    connection: sqlite3.Connection, stream: str, after: int, room: int
) -> tuple[ReplayPage | None, int]:
    """A page and how many bytes it has; None if it has more than there is room for, or does not come apart."""
    limit = connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, room)
    try:
        found = connection.execute(schema.REPLAY_JOINED, (after, stream, after, PAGE_SIZE + 1)).fetchone()
    except sqlite3.DataError as error:
        if code_of(error) != sqlite3.SQLITE_TOOBIG:
            raise
        return None, 0
    finally:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, limit)
    count, versions, joined_types, joined_data = found
    if count == 0:
        return ReplayPage([], "", "", 0, is_last=True), 0
    types, data = joined_types.split("\n"), joined_data.split(_BETWEEN_DATA)
    if not len(types) == len(data) == count or versions != _VERSIONS[: len(versions)]:
        return None, 0
    rows = list(zip(range(after + 1, after + 1 + PAGE_SIZE), types, data, strict=False))
    version, type, last_data = rows[-1]
    ends = connection.execute(schema.ENDS_OF_REPLAY, (stream, after + 1, version)).fetchall()
    first_id, last_id, position = ends[0][0], ends[-1][0], ends[-1][1]
    if ends[-1][2:] != (type, len(last_data)):
        return None, 0
    return ReplayPage(rows, first_id, last_id, position, is_last=count <= PAGE_SIZE), len(joined_data)


def _row_by_row(connection: sqlite3.Connection, stream: str, after: int) -> ReplayPage:
    found = connection.execute(schema.REPLAY, (stream, after, PAGE_SIZE + 1))
    rows, is_last = rows_within(found, PAGE_SIZE, data=2)
    if not rows:
        return ReplayPage(rows, "", "", 0, is_last)
    ends = connection.execute(schema.ENDS_OF_REPLAY, (stream, rows[0][0], rows[-1][0])).fetchall()
    return ReplayPage(rows, ends[0][0], ends[-1][0], ends[-1][1], is_last)
