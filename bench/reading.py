"""Events per second out of a large log, from its beginning to its end: through the store, and by the driver alone."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import asyncpg
from pymongo import AsyncMongoClient

from bench.sample import Sample, Size, require
from bench.servers import Server
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
    began = perf_counter()
    events = after = 0
    while True:
        page = await store.read_all(after=after)
        events += len(page.events)
        after = page.position
        if page.is_last:
            break
    seconds = perf_counter() - began
    await store.close()
    return events, seconds


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
