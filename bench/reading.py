"""Events per second out of a large log, from its beginning to its end: through the store, and by the driver alone."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import asyncpg
from pymongo import AsyncMongoClient

from bench.nats import messages_of
from bench.places import Place
from bench.preloading import preload
from bench.sample import Sample, Size, require
from bench.stock import stock
from rehydrate.store.port import Store
from rehydrate.store.url import open_store

_STREAMS: Final = 1_000
_FILL: Final = """
    INSERT INTO rehydrate.events (position, stream, version, id, type, data, metadata, recorded_at, first)
    SELECT n, 'bank_account-account-' || n % $2, 1 + (n - 1) / $2, md5(n::text), 'Deposited', '{"amount":10}',
           convert_to('{"command_id":"' || md5(n::text) || '"}', 'UTF8'), 1795854531000000 + n, 1 + (n - 1) % $2
    FROM generate_series(1, $1) AS n
"""
_READ: Final = """
    SELECT stream, version, position, id, type, data, metadata, recorded_at
    FROM rehydrate.events ORDER BY position
"""
_READ_SQLITE: Final = """
    SELECT name, version, position, events.id, type, data, metadata, recorded_at
    FROM events JOIN streams ON streams.id = events.stream ORDER BY position
"""
_PREFETCH: Final = 1_000
_APPEND: Final = 1_000


def store_rate(size: Size, _: Path) -> Sample:
    """`read_all`, page by page."""
    return asyncio.run(_of_the_row(size))


def memory_rate(size: Size, _: Path) -> Sample:
    """The same in memory, of a log that is written just before."""
    return asyncio.run(_just_filled("memory://", size.log, size, most=_APPEND))


def single_events_rate(place: Place, size: Size, folder: Path) -> Sample:
    """The same where each event came in an append of its own, and with fewer of them."""
    with place.url(folder) as url:
        return asyncio.run(_just_filled(url, messages_of(size), size, most=1))


def sqlite_driver_rate(size: Size, _: Path) -> Sample:
    """A cursor of sqlite3 over the same file, 1,000 rows ahead."""
    with closing(sqlite3.connect(stock().removeprefix("sqlite:///"))) as connection:
        began = perf_counter()
        events = 0
        cursor = connection.execute(_READ_SQLITE)
        while rows := cursor.fetchmany(_PREFETCH):
            events += len(rows)
        seconds = perf_counter() - began
    return _sample(events, seconds, _written(size.log, size))


def postgres_driver_rate(size: Size, _: Path) -> Sample:
    """A cursor of asyncpg, 1,000 records ahead."""
    return _sample(*asyncio.run(_by_asyncpg(stock())), _written(size.log, size))


def mongodb_driver_rate(size: Size, _: Path) -> Sample:
    """A cursor of PyMongo over the same documents, 1,000 at a time."""
    return _sample(*asyncio.run(_by_pymongo(stock())), _written(size.log, size))


async def _of_the_row(size: Size) -> Sample:
    store = await open_store(stock())
    try:
        return await _through(store, _written(size.log, size))
    finally:
        await store.close()


async def _just_filled(url: str, events: int, size: Size, *, most: int) -> Sample:
    store = await open_store(url)
    try:
        await _fill(store, events, size, most=most)
        return await _through(store, _written(events, size))
    finally:
        await store.close()


async def _through(store: Store, expected: int) -> Sample:
    before = _most_memory()
    began = perf_counter()
    events = after = 0
    while True:
        page = await store.read_all(after=after)
        events += len(page.events)
        after = page.position
        if page.is_last:
            break
    sample = _sample(events, perf_counter() - began, expected)
    return Sample(sample.value, {**sample.facts, "memory beyond, MiB": _most_memory() - before})


def _sample(events: int, seconds: float, expected: int) -> Sample:
    require(stored=events, expected=expected, what="reading the log")
    return Sample(events / seconds, {"events": events, "seconds": seconds})


def _most_memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024


async def _by_asyncpg(url: str) -> tuple[int, float]:
    connection = await asyncpg.connect(url)
    began = perf_counter()
    events = 0
    async with connection.transaction():
        cursor = await connection.cursor(_READ)
        while records := await cursor.fetch(_PREFETCH):
            events += len(records)
    seconds = perf_counter() - began
    await connection.close()
    return events, seconds


async def _by_pymongo(url: str) -> tuple[int, float]:
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(url)
    collection = client.get_default_database()["events"]
    began = perf_counter()
    events = 0
    async with collection.find({}, sort=[("_id", 1)], batch_size=_PREFETCH) as cursor:
        async for _ in cursor:
            events += 1
    seconds = perf_counter() - began
    await client.close()
    return events, seconds


async def fill_sqlite(url: str, size: Size) -> None:
    """The log of a row, written in large appends."""
    store = await open_store(url)
    await _fill(store, size.log, size, most=_APPEND)
    await store.close()


async def fill_postgres(url: str, size: Size) -> None:
    """The same by the server itself; it has no work left when that is done."""
    await (await open_store(url)).close()
    connection = await asyncpg.connect(url)
    await connection.execute(_FILL, _written(size.log, size), _streams(size))
    await connection.execute("VACUUM ANALYZE rehydrate.events")
    await connection.close()


async def fill_mongodb(url: str, size: Size) -> None:
    """The same, a document for each event."""
    await (await open_store(url)).close()
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(url)
    collection = client.get_default_database()["events"]
    streams, end = _streams(size), _written(size.log, size) + 1
    for start in range(1, end, 10_000):
        await collection.insert_many(
            [
                {
                    "_id": n,
                    "stream": f"bank_account-account-{n % streams}",
                    "version": 1 + (n - 1) // streams,
                    "count": 1,
                    "recorded_at": 1_795_854_531_000_000 + n,
                    "events": [
                        {
                            "id": f"{n:032x}",
                            "type": "Deposited",
                            "data": b'{"amount":10}',
                            "metadata": b'{"command_id":"%032x"}' % n,
                        }
                    ],
                }
                for n in range(start, min(start + 10_000, end))
            ]
        )
    await client.close()


async def _fill(store: Store, events: int, size: Size, *, most: int) -> None:
    await preload(store, _streams(size), _written(events, size) // _streams(size), most=most)


def _streams(size: Size) -> int:
    return min(_STREAMS, size.accounts)


def _written(wanted: int, size: Size) -> int:
    """How many there are where all streams get the same."""
    return _streams(size) * max(1, wanted // _streams(size))
