"""Events per second out of a large log, from its beginning to its end: through the store, and by the driver alone."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
from collections.abc import Awaitable, Callable
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
from bench.servers import Server
from rehydrate.store.port import Store
from rehydrate.store.url import open_store

_STREAMS: Final = 1_000
_FILL: Final = """
    INSERT INTO rehydrate.events (position, stream, version, id, type, data, metadata, recorded_at)
    SELECT n, 'bank_account-account-' || n % $2, 1 + (n - 1) / $2, md5(n::text), 'Deposited', '{"amount":10}',
           convert_to('{"command_id":"' || md5(n::text) || '"}', 'UTF8'), 1795854531000000 + n
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


def postgres_rate(size: Size, _: Path) -> Sample:
    """`read_all`, page by page."""
    with Server.POSTGRES.database() as url:
        return asyncio.run(_measured(url, size, _fill_postgres, _through_the_store))


def postgres_driver_rate(size: Size, _: Path) -> Sample:
    """A cursor of asyncpg, 1,000 records ahead."""
    with Server.POSTGRES.database() as url:
        return asyncio.run(_measured(url, size, _fill_postgres, _by_asyncpg))


def mongodb_rate(size: Size, _: Path) -> Sample:
    """`read_all`, page by page."""
    with Server.MONGODB.database() as url:
        return asyncio.run(_measured(url, size, _fill_mongodb, _through_the_store))


def mongodb_driver_rate(size: Size, _: Path) -> Sample:
    """A cursor of PyMongo over the same documents, 1,000 at a time."""
    with Server.MONGODB.database() as url:
        return asyncio.run(_measured(url, size, _fill_mongodb, _by_pymongo))


def preloaded_rate(place: Place, size: Size, folder: Path) -> Sample:
    """`read_all`, page by page, of a log that was written in large appends."""
    with place.url(folder) as url:
        return asyncio.run(_preloaded(url, size, size.log, most=1_000))


def single_events_rate(place: Place, size: Size, folder: Path) -> Sample:
    """The same where each event came in an append of its own, and with fewer of them."""
    with place.url(folder) as url:
        return asyncio.run(_preloaded(url, size, messages_of(size), most=1))


def sqlite_driver_rate(size: Size, folder: Path) -> Sample:
    """A cursor of sqlite3 over the same file, 1,000 rows ahead."""
    with Place.SQLITE.url(folder) as url:
        written = asyncio.run(_preloaded(url, size, size.log, most=1_000)).facts["events"]
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            began = perf_counter()
            events = 0
            cursor = connection.execute(_READ_SQLITE)
            while rows := cursor.fetchmany(_PREFETCH):
                events += len(rows)
            seconds = perf_counter() - began
    require(stored=events, expected=int(written), what="reading the log")
    return Sample(events / seconds, {"events": events, "seconds": seconds})


async def _preloaded(url: str, size: Size, count: int, *, most: int) -> Sample:
    store = await open_store(url)
    try:
        streams = min(_STREAMS, size.accounts)
        written = streams * max(1, count // streams)
        await preload(store, streams, written // streams, most=most)
        before = _most_memory()
        events, seconds = await _pages(store)
    finally:
        await store.close()
    require(stored=events, expected=written, what="reading the log")
    return Sample(events / seconds, {"events": events, "memory beyond, MiB": _most_memory() - before})


async def _measured(
    url: str,
    size: Size,
    fill: Callable[[str, Size], Awaitable[None]],
    read: Callable[[str], Awaitable[tuple[int, float]]],
) -> Sample:
    store = await open_store(url)
    await store.close()
    await fill(url, size)
    before = _most_memory()
    events, seconds = await read(url)
    require(stored=events, expected=size.log, what="reading the log")
    return Sample(events / seconds, {"events": events, "memory beyond, MiB": _most_memory() - before})


def _most_memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024


async def _through_the_store(url: str) -> tuple[int, float]:
    store = await open_store(url)
    read = await _pages(store)
    await store.close()
    return read


async def _pages(store: Store) -> tuple[int, float]:
    began = perf_counter()
    events = after = 0
    while True:
        page = await store.read_all(after=after)
        events += len(page.events)
        after = page.position
        if page.is_last:
            break
    return events, perf_counter() - began


async def _fill_postgres(url: str, size: Size) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(_FILL, size.log, _STREAMS)
    await connection.execute("ANALYZE rehydrate.events")
    await connection.close()


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


async def _fill_mongodb(url: str, size: Size) -> None:
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(url)
    collection = client.get_default_database()["events"]
    for start in range(1, size.log + 1, 10_000):
        await collection.insert_many(
            [
                {
                    "_id": n,
                    "stream": f"bank_account-account-{n % _STREAMS}",
                    "version": 1 + (n - 1) // _STREAMS,
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
                for n in range(start, min(start + 10_000, size.log + 1))
            ]
        )
    await client.close()


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
