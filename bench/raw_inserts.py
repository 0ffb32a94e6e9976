"""Rows a second that Python's own driver inserts into SQLite: those of the store, and those of the plainest table."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import cycle
from pathlib import Path
from time import perf_counter, time_ns
from typing import Final, TypeAlias

from bench.appending import MOST_PER_SECOND, fill, new_events
from bench.sample import MeasurementError, Sample, Size, require
from rehydrate.store.sqlite import schema
from rehydrate.store.sqlite.log import INDEXED_AT_ONCE
from rehydrate.store.url import open_store

_EventRow: TypeAlias = tuple[int, int, int, str, str, bytes, bytes, int]
_Rows: TypeAlias = Sequence[tuple[int | str | bytes, ...]]
_Batch: TypeAlias = Sequence[tuple[str, _Rows]]
"""What one commit inserts: statements, each with its rows."""

_PLAIN_TABLE: Final = (
    """
    CREATE TABLE plain.events (
        position INTEGER PRIMARY KEY, stream INTEGER NOT NULL, version INTEGER NOT NULL, id TEXT NOT NULL,
        type TEXT NOT NULL, data BLOB NOT NULL, metadata BLOB NOT NULL, recorded_at INTEGER NOT NULL
    )
    """,
    "CREATE UNIQUE INDEX plain.events_stream_version ON events (stream, version)",
    """
    INSERT INTO plain.events
    SELECT position, stream, version, id, type, data, metadata, recorded_at FROM main.events ORDER BY position
    """,
)
_NOT_INDEXED: Final = """
    SELECT stream, version, position FROM events
    WHERE (stream, version) NOT IN (SELECT stream, version FROM stream_index) ORDER BY position
"""
_ADD_PLAIN: Final = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


def store_tables_rate(rows_per_commit: int, size: Size, folder: Path) -> Sample:
    """So many events a commit, in the tables of the store, with the rows of their index."""
    path = asyncio.run(_filled(folder / "bank.db", size))
    return _rate(path, _store_batches(path, rows_per_commit, size), rows_per_commit, size)


def plain_table_rate(rows_per_commit: int, size: Size, folder: Path) -> Sample:
    """So many events a commit, in one table with a unique index on stream and version."""
    path = asyncio.run(_filled(folder / "bank.db", size))
    plain = folder / "plain.db"
    with closing(sqlite3.connect(plain)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ATTACH ? AS plain", (str(plain),))
        for statement in _PLAIN_TABLE:
            connection.execute(statement)
        connection.commit()
    batches = ([(_ADD_PLAIN, rows)] for rows in _batches(rows_per_commit, size))
    return _rate(plain, batches, rows_per_commit, size)


def _rate(path: Path, batches: Iterator[_Batch], rows_per_commit: int, size: Size) -> Sample:
    """`executemany` of rows that were made before, with the durability of the store."""
    first = size.accounts * size.events
    made = list(batches)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
        if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            raise MeasurementError(f"{path} is not in WAL mode")
        gc.collect()
        rows = 0
        began = perf_counter()
        until = began + size.seconds
        for batch in made:
            connection.execute("BEGIN IMMEDIATE")
            for statement, some in batch:
                connection.executemany(statement, some)
            connection.execute("COMMIT")
            rows += len(batch[0][1])
            if perf_counter() >= until:
                break
        seconds = perf_counter() - began
        (stored,) = connection.execute("SELECT count(*) FROM events").fetchone()
    require(stored=stored, expected=first + rows, what="raw inserts")
    return Sample(rows / seconds, {"rows": rows, "seconds": seconds, "rows per commit": rows_per_commit})


async def _filled(path: Path, size: Size) -> Path:
    store = await open_store(f"sqlite:///{path}")
    try:
        await fill(store, size)
    finally:
        await store.close()
    return path


def _store_batches(path: Path, rows_per_commit: int, size: Size) -> Iterator[_Batch]:
    """With the rows of the index as the store writes them: those of a stream when there are enough."""
    behind: defaultdict[int, list[tuple[int, int, int]]] = defaultdict(list)
    with closing(sqlite3.connect(path)) as connection:
        for row in connection.execute(_NOT_INDEXED):
            behind[row[0]].append(row)
    for rows in _batches(rows_per_commit, size):
        events: list[tuple[int | str | bytes, ...]] = []
        indexed: list[tuple[int, int, int]] = []
        for row in rows:
            position, stream, version, *_ = row
            waiting = behind[stream]
            events.append((*row, waiting[-1][2] if waiting else 0))
            waiting.append((stream, version, position))
            if version % INDEXED_AT_ONCE == 0:
                indexed += behind.pop(stream)
        yield [(schema.ADD_EVENT, events), (schema.ADD_INDEXED, indexed)]


def _batches(rows_per_commit: int, size: Size) -> Iterator[list[_EventRow]]:
    """Events in the order in which the flights over the same streams would send them: each stream in its turn."""
    shares = [cycle(range(1 + n, 1 + size.accounts, rows_per_commit)) for n in range(rows_per_commit)]
    versions = dict.fromkeys(range(1, 1 + size.accounts), size.events)
    events = iter(new_events(int(size.seconds * MOST_PER_SECOND)))
    position = size.accounts * size.events
    now = time_ns() // 1_000
    while True:
        batch: list[_EventRow] = []
        for share, event in zip(shares, events, strict=False):
            stream = next(share)
            versions[stream] += 1
            position += 1
            batch.append(
                (position, stream, versions[stream], event.id, event.type, event.data, event.metadata, now)
            )
        if not batch:
            return
        yield batch
