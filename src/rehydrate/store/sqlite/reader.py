"""The threads that read, each time in one go: nothing stays open between two pages."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from rehydrate.domain.streams import first_beyond
from rehydrate.errors import StoreUnavailableError
from rehydrate.fork import no_fork
from rehydrate.store.port import (
    Head,
    LogFilter,
    LogPage,
    StoredEvent,
    StreamHead,
    StreamPage,
)
from rehydrate.store.sqlite import schema
from rehydrate.store.sqlite.database import (
    FORKED,
    REPLACED,
    DatabaseFile,
    Identity,
    as_store_error,
    keep_for_ever,
    not_a_name,
)

T = TypeVar("T")

MAX_PAGE_BYTES: Final = 8 * 1024 * 1024
"""A page ends with the event that brings its data and metadata up to this."""
MAX_SCAN: Final = 10_000
"""How many events of the log a page looks at, matched or not."""


class Readers:
    """Connections that only read, and the threads that use them."""

    def __init__(self, file: DatabaseFile, count: int) -> None:
        self._file = file
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(count, thread_name_prefix=f"rehydrate reads {file.path.name}")
        self._idle: list[tuple[sqlite3.Connection, Identity]] = []

    async def read(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Ask the database as it is at a moment after this was called."""
        return await self._loop.run_in_executor(self._threads, self._read, question)

    def close(self) -> None:
        """Finish what was taken in, and close. Called in a thread."""
        self._threads.shutdown()
        while self._idle:
            self._file.close(*self._idle.pop())

    def abandon(self) -> None:
        """Touch nothing any more, and let nothing be closed: this is a forked child."""
        while self._idle:
            keep_for_ever(*self._idle.pop(), FORKED)

    def _read(self, question: Callable[[sqlite3.Connection], T]) -> T:
        try:
            with no_fork():
                connection, identity = self._take()
                try:
                    # One view of the file for all statements of a question: it may be restored between two of them.
                    connection.execute(schema.BEGIN_READ)
                    answer = question(connection)
                    connection.execute(schema.COMMIT)
                except BaseException:
                    connection.close()
                    raise
        except sqlite3.Error as error:
            raise as_store_error(error, self._file.path) from error
        except UnicodeEncodeError as error:
            raise not_a_name(error) from None
        except OverflowError:
            raise ValueError("after= and limit= must be below 2**63") from None
        self._idle.append((connection, identity))
        return answer

    def _take(self) -> tuple[sqlite3.Connection, Identity]:
        """A connection to the file that stands at the path now, without memories of another one."""
        while True:
            try:
                connection, then = self._idle.pop()
            except IndexError:
                return self._file.open_reader()
            try:
                now = self._file.identity()
                replaced = self._file.is_replaced(then, now)
            except StoreUnavailableError:
                self._idle.append((connection, then))
                raise
            if replaced:
                keep_for_ever(connection, then, REPLACED)
                continue
            if now.written != then.written:
                connection.execute(schema.FORGET_PAGES)
            return connection, now


def read_stream(connection: sqlite3.Connection, stream: str, after: int, limit: int) -> StreamPage:
    """A page of a stream."""
    limit = max(limit, 0)  # To SQLite a negative one means all.
    asked = {"stream": stream, "after": after, "limit": limit + 1}
    rows, is_last = rows_within(connection.execute(schema.READ_STREAM, asked), limit, data=4, metadata=5)
    return StreamPage([StoredEvent(stream, *row) for row in rows], is_last)


def read_all(connection: sqlite3.Connection, after: int, limit: int, where: LogFilter | None) -> LogPage:
    """A page of the log. Positions have no gaps, so that a range of them bounds how much is looked at."""
    limit = max(limit, 0)
    end = read_head(connection).position
    upto = min(end, after + MAX_SCAN)
    filters = _filters(where)
    found = connection.execute(schema.read_all(tuple(filters)), (after, upto, *filters.values(), limit + 1))
    rows, is_whole = rows_within(found, limit, data=5, metadata=6)
    events = [StoredEvent(*row) for row in rows]
    if events and not is_whole:
        last = events[-1]
        return LogPage(events, last.position, last.id, last.position >= end)
    if upto <= after or not is_whole:
        return LogPage(events, after, "", end <= after)
    (event_id,) = connection.execute(schema.EVENT_ID, (upto,)).fetchone()
    return LogPage(events, upto, event_id, upto == end)


def read_head(connection: sqlite3.Connection) -> Head:
    """The newest event."""
    row = connection.execute(schema.HEAD).fetchone()
    return Head(*row) if row else Head(0, "")


def read_position(connection: sqlite3.Connection) -> int:
    """The position of the newest event."""
    (position,) = connection.execute(schema.LAST_POSITION).fetchone()
    return int(position)


def list_streams(connection: sqlite3.Connection, prefix: str, after: str, limit: int) -> list[StreamHead]:
    """Streams by name."""
    rows = connection.execute(schema.LIST_STREAMS, (*name_range(prefix, after), max(limit, 0)))
    return [StreamHead(*row) for row in rows]


def name_range(prefix: str, after: str) -> tuple[str, str | bytes]:
    """The smallest name that begins with the prefix and comes after another, and the first one beyond them all."""
    first = after + "\0" if after >= prefix else prefix
    return first, first_beyond(prefix) or b""  # Every text comes before every blob.


def rows_within(found: sqlite3.Cursor, limit: int, *, data: int, metadata: int = 0) -> tuple[list[Any], bool]:
    """The rows up to the limits, and whether there are no more; `data` and `metadata` are columns with bytes."""
    rows: list[Any] = []
    size = 0
    for row in found:
        if len(rows) == limit or size >= MAX_PAGE_BYTES:
            found.close()
            return rows, False
        rows.append(row)
        size += len(row[data])
        if metadata:
            size += len(row[metadata])
    return rows, True


def _filters(where: LogFilter | None) -> dict[str, str]:
    """The parameter of each filter that is set."""
    if where is None:
        return {}
    filters = {
        "streams": where.streams,
        "aggregates": where.aggregates,
        "types": where.types,
        "without": where.without,
    }
    return {name: json.dumps(sorted(names)) for name, names in filters.items() if names}
