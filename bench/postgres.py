"""PostgreSQL without Rehydrate: rows as its store writes them, in the tables of its store, by the driver alone."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from time import perf_counter, time_ns
from typing import Any, Final, TypeAlias

import asyncpg

from bench import loops
from bench.appending import bare_store_sample, fill, new_events
from bench.sample import MeasurementError, Sample, Size, require
from bench.servers import Server
from rehydrate.store.url import open_store

CONNECTIONS: Final = 64
_MOST_PER_SECOND: Final = 50_000
_MOST_IN_BATCHES: Final = 250_000
"""How many rows are made before the clock runs, for each second of it."""
_SCHEMA: Final = "rehydrate"

_Row: TypeAlias = tuple[str, int, str, str, bytes, bytes, int, int]
_COLUMNS: Final = ("position", "stream", "version", "id", "type", "data", "metadata", "recorded_at", "first")

_INSERT_ONE: Final = """
    INSERT INTO events (position, stream, version, id, type, data, metadata, recorded_at, first)
    VALUES (nextval('raw_positions'), $1, $2, $3, $4, $5, $6, $7, $8)
"""
_INSERT_MANY: Final = """
    INSERT INTO events (position, stream, version, id, type, data, metadata, recorded_at, first)
    SELECT $1 + n, stream, version, id, type, data, metadata, recorded_at, first
    FROM unnest(
        $2::text[], $3::bigint[], $4::text[], $5::text[], $6::bytea[], $7::bytea[], $8::bigint[], $9::bigint[]
    ) WITH ORDINALITY AS row(stream, version, id, type, data, metadata, recorded_at, first, n)
"""


def bare_store_rate(size: Size, _: Path) -> Sample:
    """64 appends through `submit` are in flight at any time; the outcome of one sends the next."""
    with Server.POSTGRES.database() as url:
        return loops.run(bare_store_sample(url, size))


def one_by_one_rate(connections: int, size: Size, _: Path) -> Sample:
    """Each of so many connections sends one INSERT after the other, each a commit of its own."""
    with Server.POSTGRES.database() as url:
        return loops.run(_one_by_one(url, connections, size))


def batched_rate(rows: int, size: Size, _: Path) -> Sample:
    """One connection sends INSERT ... SELECT FROM unnest of so many rows, each a commit: the next when it is done."""
    with Server.POSTGRES.database() as url:
        return loops.run(_batched(url, rows, size))


def copied_rate(rows: int, size: Size, _: Path) -> Sample:
    """The same by binary COPY: nothing is checked but what the table itself does."""
    with Server.POSTGRES.database() as url:
        return loops.run(_copied(url, rows, size))


async def _one_by_one(url: str, connections: int, size: Size) -> Sample:
    streams = await _create(url, size)
    writers = [await _connect(url) for _ in range(connections)]
    await writers[0].execute(f"CREATE SEQUENCE raw_positions START {len(streams) * size.events + 1}")
    statements = [await writer.prepare(_INSERT_ONE) for writer in writers]
    rows = _rows(streams, size.events, int(size.seconds * _MOST_PER_SECOND))
    counts = [0] * connections
    gc.collect()
    began = perf_counter()
    until = began + size.seconds

    async def write(number: int) -> None:
        execute = statements[number].fetch
        for row in rows:
            await execute(*row)
            counts[number] += 1
            if perf_counter() >= until:
                return

    await asyncio.gather(*[write(number) for number in range(connections)])
    seconds = perf_counter() - began
    return await _sample(writers, sum(counts), seconds, size, "one INSERT a commit")


async def _batched(url: str, count: int, size: Size) -> Sample:
    streams = await _create(url, size)
    writer = await _connect(url)
    statement = await writer.prepare(_INSERT_MANY)
    batches = [[*zip(*rows, strict=True)] for rows in _in_batches(streams, count, size)]
    position = len(streams) * size.events

    async def write(batch: list[tuple[Any, ...]]) -> int:
        nonlocal position
        await statement.fetch(position, *batch)
        position += len(batch[0])
        return len(batch[0])

    return await _one_after_the_other(writer, write, batches, size, f"batches of {count}")


async def _copied(url: str, count: int, size: Size) -> Sample:
    streams = await _create(url, size)
    writer = await _connect(url)
    positions = itertools.count(len(streams) * size.events + 1)
    batches = [[(next(positions), *row) for row in rows] for rows in _in_batches(streams, count, size)]

    async def write(batch: list[tuple[Any, ...]]) -> int:
        await writer.copy_records_to_table("events", schema_name=_SCHEMA, columns=_COLUMNS, records=batch)
        return len(batch)

    return await _one_after_the_other(writer, write, batches, size, f"copies of {count}")


def _in_batches(streams: Mapping[str, int], count: int, size: Size) -> Iterator[list[_Row]]:
    rows = _rows(streams, size.events, int(size.seconds * _MOST_IN_BATCHES))
    while batch := list(itertools.islice(rows, count)):
        yield batch


async def _one_after_the_other(
    writer: asyncpg.Connection,
    write: Callable[[list[tuple[Any, ...]]], Awaitable[int]],
    batches: Sequence[list[tuple[Any, ...]]],
    size: Size,
    what: str,
) -> Sample:
    rows = 0
    gc.collect()
    began = perf_counter()
    until = began + size.seconds
    for batch in batches:
        rows += await write(batch)
        if perf_counter() >= until:
            break
    seconds = perf_counter() - began
    return await _sample([writer], rows, seconds, size, what)


async def _sample(
    writers: Sequence[asyncpg.Connection], rows: int, seconds: float, size: Size, what: str
) -> Sample:
    stored = await writers[0].fetchval("SELECT count(*) FROM events")
    for writer in writers:
        await writer.close()
    require(stored=stored, expected=size.accounts * size.events + rows, what=what)
    return Sample(rows / seconds, {"rows": rows, "seconds": seconds})


async def _create(url: str, size: Size) -> dict[str, int]:
    """The streams, and the position of the first event of each."""
    store = await open_store(url)
    try:
        return {
            stream: (await store.read_stream(stream, limit=1)).events[0].position
            for stream in await fill(store, size)
        }
    finally:
        await store.close()


async def _connect(url: str) -> asyncpg.Connection:
    """As durable as the store's own."""
    connection = await asyncpg.connect(url, server_settings={"search_path": _SCHEMA})
    for name in ("fsync", "synchronous_commit", "full_page_writes"):
        if await connection.fetchval(f"SHOW {name}") != "on":
            raise MeasurementError(f"the server has {name} off")
    return connection


def _rows(streams: Mapping[str, int], version: int, count: int) -> Iterator[_Row]:
    versions = dict.fromkeys(streams, version)
    now = time_ns() // 1_000
    for stream, event in zip(cycle(streams), new_events(count), strict=False):
        versions[stream] += 1
        yield stream, versions[stream], event.id, event.type, event.data, event.metadata, now, streams[stream]
