"""Single-event appends per second: a store without actors."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import cycle
from pathlib import Path
from time import perf_counter
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
from rehydrate.store.url import open_store

IN_FLIGHT: Final = 64
MOST_PER_SECOND: Final = 150_000
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
        events = iter(new_events(int(size.seconds * MOST_PER_SECOND)))
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
