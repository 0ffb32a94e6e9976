"""Single-event appends per second into SQLite: the store without actors, and raw inserts of the same rows."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import cache
from itertools import cycle
from pathlib import Path
from time import perf_counter, time_ns
from typing import Final

import msgspec

from bench.bank import Deposited, bank
from bench.dispatching import appends_per_commit
from bench.sample import MeasurementError, Sample, Size, require
from rehydrate import Metadata
from rehydrate.clock import unique_ids
from rehydrate.codec.aggregate import AggregateCodecs
from rehydrate.errors import StoreError
from rehydrate.store.port import Appended, NewEvent, Store
from rehydrate.store.sqlite import schema
from rehydrate.store.url import open_store

IN_FLIGHT: Final = 64
_MOST_PER_SECOND: Final = 150_000
"""How many events are made before the clock runs, for each second of it."""


def bare_store_rate(size: Size, folder: Path) -> Sample:
    """64 appends through `submit` are in flight at any time; the outcome of one sends the next."""
    path = folder / "bank.db"
    sample = asyncio.run(bare_store_sample(f"sqlite:///{path}", size))
    return Sample(sample.value, {**sample.facts, "appends per commit": appends_per_commit(path, size)})


async def bare_store_sample(url: str, size: Size, in_flight: int = IN_FLIGHT) -> Sample:
    """A store of any kind whose outcomes come later, without actors."""
    store = await open_store(url)
    try:
        streams = await fill(store, size)
        events = iter(new_events(int(size.seconds * _MOST_PER_SECOND)))
        gc.collect()
        began = perf_counter()
        flights = [
            _Flight(store, streams[n::in_flight], size.events, events)
            for n in range(min(in_flight, len(streams)))
        ]
        for flight in flights:
            flight.take_off(began + size.seconds)
        await asyncio.gather(*[flight.ended for flight in flights])
        seconds = perf_counter() - began
        stored = sum(await store.versions(streams))
    finally:
        await store.close()
    appends = sum(flight.appends for flight in flights)
    require(stored=stored, expected=size.accounts * size.events + appends, what="the bare store")
    return Sample(appends / seconds, {"appends": appends, "seconds": seconds})


class _Flight:
    """One of the appends that are in flight, over streams of its own."""

    def __init__(
        self, store: Store, streams: Sequence[str], version: int, events: Iterator[NewEvent]
    ) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.appends = 0
        self._submit = store.submit
        self._streams = cycle(streams)
        self._versions = dict.fromkeys(streams, version)
        self._events = events
        self._stream = ""
        self._until = 0.0

    def take_off(self, until: float) -> None:
        self._until = until
        self._next()

    def append_done(self, outcome: Appended | StoreError) -> None:
        if not isinstance(outcome, Appended):
            self.ended.set_exception(outcome)
            return
        self.appends += 1
        self._versions[self._stream] = outcome.version
        self._next()

    def _next(self) -> None:
        event = next(self._events, None) if perf_counter() < self._until else None
        if event is None:
            self.ended.set_result(None)
            return
        self._stream = stream = next(self._streams)
        outcome = self._submit(stream, [event], self._versions[stream], self)
        if outcome is not None:
            self.ended.set_exception(MeasurementError(f"not a store whose outcomes come later: {outcome}"))


def raw_insert_rate(rows_per_commit: int, size: Size, folder: Path) -> Sample:
    """`executemany` of prepared rows, so many a commit, in the tables and with the durability of the store."""
    path = folder / "bank.db"
    asyncio.run(_create(path, size))
    first = size.accounts * size.events
    batches = list(_batches(first, rows_per_commit, size))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
        if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            raise MeasurementError(f"{path} is not in WAL mode")
        gc.collect()
        rows = 0
        began = perf_counter()
        until = began + size.seconds
        for batch in batches:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(schema.ADD_EVENT, batch)
            connection.execute("COMMIT")
            rows += len(batch)
            if perf_counter() >= until:
                break
        seconds = perf_counter() - began
        (stored,) = connection.execute("SELECT count(*) FROM events").fetchone()
    require(stored=stored, expected=first + rows, what="raw inserts")
    return Sample(rows / seconds, {"rows": rows, "seconds": seconds, "rows per commit": rows_per_commit})


async def _create(path: Path, size: Size) -> None:
    store = await open_store(f"sqlite:///{path}")
    try:
        await fill(store, size)
    finally:
        await store.close()


def _batches(
    first: int, rows: int, size: Size
) -> Iterator[list[tuple[int, int, int, str, str, bytes, bytes, int]]]:
    """Rows as the store writes them, in the order in which the flights over the same streams would send them."""
    shares = [cycle(range(1 + n, 1 + size.accounts, rows)) for n in range(rows)]
    versions = dict.fromkeys(range(1, 1 + size.accounts), size.events)
    events = iter(new_events(int(size.seconds * _MOST_PER_SECOND)))
    position = first
    now = time_ns() // 1_000
    while True:
        batch: list[tuple[int, int, int, str, str, bytes, bytes, int]] = []
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


async def fill(store: Store, size: Size) -> list[str]:
    """The streams of all accounts, each with its events; the stream with key n is the n-th."""
    streams = [f"bank_account-account-{number}" for number in range(size.accounts)]
    for start in range(0, len(streams), IN_FLIGHT):
        some = streams[start : start + IN_FLIGHT]
        appends = [store.append(stream, new_events(size.events), expected_version=0) for stream in some]
        await asyncio.gather(*appends)
    return streams


def new_events(count: int) -> list[NewEvent]:
    """Deposits as the runtime writes them: encoded, with ids of their own and of their commands."""
    name, data, new_id, encode = _deposit()
    return [NewEvent(new_id(), name, data, encode(Metadata(command_id=new_id()))) for _ in range(count)]


@cache
def _deposit() -> tuple[str, bytes, Callable[[], str], Callable[[Metadata], bytes]]:
    """What all of them share: types are looked into once."""
    codec = AggregateCodecs.of(bank().account).events
    return codec.names[Deposited], codec.encode(Deposited(10)), unique_ids(), msgspec.json.Encoder().encode
