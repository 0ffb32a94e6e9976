"""MongoDB without Rehydrate: documents as its store writes them, by the driver alone."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from time import perf_counter, time_ns
from typing import Any, Final, TypeAlias

from pymongo import AsyncMongoClient, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection

from bench.appending import bare_store_sample, new_events
from bench.sample import Sample, Size, require
from bench.servers import Server

_MOST_PER_SECOND: Final = 20_000
_MOST_IN_BATCHES: Final = 100_000
"""How many documents are made before the clock runs, for each second of it."""

_Document: TypeAlias = dict[str, Any]


def bare_store_rate(in_flight: int, size: Size, _: Path) -> Sample:
    """So many appends through `submit` are in flight at any time; the outcome of one sends the next."""
    with Server.MONGODB.database() as url:
        return asyncio.run(bare_store_sample(url, size, in_flight))


def one_by_one_rate(callers: int, size: Size, _: Path) -> Sample:
    """So many tasks send one `insert_one` after the other, each acknowledged by a majority's journal."""
    with Server.MONGODB.database() as url:
        return asyncio.run(_measured(url, partial(_one_by_one, callers), _MOST_PER_SECOND, size))


def batched_rate(documents: int, size: Size, _: Path) -> Sample:
    """One task sends `insert_many` of so many documents, acknowledged likewise: the next when it is done."""
    with Server.MONGODB.database() as url:
        return asyncio.run(_measured(url, partial(_batched, documents), _MOST_IN_BATCHES, size))


async def _measured(
    url: str,
    write: Callable[[AsyncCollection[_Document], list[_Document], float], Awaitable[int]],
    per_second: int,
    size: Size,
) -> Sample:
    client: AsyncMongoClient[_Document] = AsyncMongoClient(url)
    collection = client.get_default_database().get_collection(
        "raw", write_concern=WriteConcern("majority", j=True)
    )
    await collection.create_index([("stream", 1), ("version", 1)], unique=True)
    documents = _documents(size.accounts, int(size.seconds * per_second))
    gc.collect()
    began = perf_counter()
    written = await write(collection, documents, began + size.seconds)
    seconds = perf_counter() - began
    stored = await collection.count_documents({})
    await client.close()
    require(stored=stored, expected=written, what="documents by the driver alone")
    return Sample(written / seconds, {"rows": written, "seconds": seconds})


def _documents(streams: int, count: int) -> list[_Document]:
    """What the store writes for appends of one event, to one stream after the other."""
    now = time_ns() // 1_000
    return [
        {
            "_id": position,
            "stream": f"bank_account-account-{(position - 1) % streams}",
            "version": 1 + (position - 1) // streams,
            "count": 1,
            "recorded_at": now,
            "events": [{"id": event.id, "type": event.type, "data": event.data, "metadata": event.metadata}],
        }
        for position, event in enumerate(new_events(count), 1)
    ]


async def _one_by_one(
    callers: int, collection: AsyncCollection[_Document], documents: list[_Document], until: float
) -> int:
    left = iter(documents)

    async def write() -> int:
        written = 0
        for document in left:
            await collection.insert_one(document)
            written += 1
            if perf_counter() >= until:
                break
        return written

    return sum(await asyncio.gather(*[write() for _ in range(callers)]))


async def _batched(
    count: int, collection: AsyncCollection[_Document], documents: list[_Document], until: float
) -> int:
    written = 0
    for start in range(0, len(documents), count):
        batch = documents[start : start + count]
        await collection.insert_many(batch)
        written += len(batch)
        if perf_counter() >= until:
            break
    return written
