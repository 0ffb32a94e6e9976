"""MongoDB without Rehydrate: one document per command, by the driver alone."""

from __future__ import annotations

import asyncio
import gc
from itertools import cycle
from pathlib import Path
from time import perf_counter, time_ns
from typing import Any, Final

from pymongo import AsyncMongoClient, WriteConcern

from bench.appending import bare_store_sample, new_events
from bench.sample import Sample, Size, require
from bench.servers import Server

_MOST_PER_SECOND: Final = 20_000


def bare_store_rate(size: Size, _: Path) -> Sample:
    """64 appends through `submit` are in flight at any time; the outcome of one sends the next."""
    with Server.MONGODB.database() as url:
        return asyncio.run(bare_store_sample(url, size))


def one_by_one_rate(callers: int, size: Size, _: Path) -> Sample:
    """So many tasks send one `insert_one` after the other, each acknowledged by a majority's journal."""
    with Server.MONGODB.database() as url:
        return asyncio.run(_one_by_one(url, callers, size))


async def _one_by_one(url: str, callers: int, size: Size) -> Sample:
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(url)
    database = client.get_default_database()
    collection = database.get_collection("raw", write_concern=WriteConcern("majority", j=True))
    await collection.create_index([("stream", 1), ("version", 1)], unique=True)
    streams = cycle([f"bank_account-account-{number}" for number in range(size.accounts)])
    now = time_ns() // 1_000
    documents = iter(
        [
            {
                "_id": position,
                "stream": next(streams),
                "version": 1 + (position - 1) // size.accounts,
                "count": 1,
                "recorded_at": now,
                "events": [
                    {"id": event.id, "type": event.type, "data": event.data, "metadata": event.metadata}
                ],
            }
            for position, event in enumerate(new_events(int(size.seconds * _MOST_PER_SECOND)), 1)
        ]
    )
    counts = [0] * callers
    gc.collect()
    began = perf_counter()
    until = began + size.seconds

    async def write(number: int) -> None:
        for document in documents:
            await collection.insert_one(document)
            counts[number] += 1
            if perf_counter() >= until:
                return

    await asyncio.gather(*[write(number) for number in range(callers)])
    seconds = perf_counter() - began
    stored = await collection.count_documents({})
    await client.close()
    require(stored=stored, expected=sum(counts), what="one insert_one a command")
    return Sample(sum(counts) / seconds, {"rows": sum(counts), "seconds": seconds})
