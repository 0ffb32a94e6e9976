"""The way from the store into a state: of streams of many lengths, without a snapshot and with one."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Final, NamedTuple

from bench.bank import Account, Bank, Deposited, bank, evolve
from bench.places import Place
from bench.preloading import AMOUNT, preload
from bench.sample import MeasurementError, Sample, Size
from rehydrate.store.port import Store
from rehydrate.store.url import open_store

_AT_ONCE: Final = 30_000
"""Events in the streams that take turns, so that short streams are many."""
_MOST_STREAMS: Final = 300
ENOUGH: Final = 1.0
"""Seconds of a measurement, where it is given more: nothing in it waits for anybody."""


class Loads(NamedTuple):
    """States that were asked for while nothing of them was in memory."""

    states: int
    seconds: float


def rate(place: Place, length: int, size: Size, folder: Path) -> Sample:
    """Events a second into a state, from streams of that length."""
    length = min(length, size.most)
    return loads_sample(asyncio.run(_measured(place, length, 0, size, folder)), length)


def microseconds(place: Place, length: int, size: Size, folder: Path) -> Sample:
    """For a state with a snapshot, half of whose interval lies between it and the end of the stream."""
    length = min(length, size.most)
    return time_sample(asyncio.run(_measured(place, length, snapshot_interval(length), size, folder)))


def fold_rate(length: int, size: Size, folder: Path) -> Sample:  # noqa: ARG001 - as all that are measured
    """Events a second folded that are decoded already: a loop over `evolve`."""
    length = min(length, size.most)
    events = [Deposited(AMOUNT) for _ in range(length)]
    states, seconds = 0, 0.0
    gc.collect()
    while seconds < min(size.seconds, ENOUGH):
        for _ in range(streams_of(length, size)):
            began = perf_counter()
            state = Account()
            for event in events:
                state = evolve(state, event)
            seconds += perf_counter() - began
            states += 1
    return loads_sample(Loads(states, seconds), length)


def loads_sample(loads: Loads, length: int) -> Sample:
    """As events a second."""
    events = loads.states * length
    return Sample(
        events / loads.seconds, {"events": events, "states": loads.states, "seconds": loads.seconds}
    )


def time_sample(loads: Loads) -> Sample:
    """As microseconds for each."""
    return Sample(1e6 * loads.seconds / loads.states, {"states": loads.states, "seconds": loads.seconds})


def streams_of(length: int, size: Size) -> int:
    """How many streams take turns."""
    return max(1, min(_MOST_STREAMS, _AT_ONCE // length, size.most // length))


def snapshot_interval(length: int) -> int:
    """100 events, or half of a stream that is shorter than two of these."""
    return min(100, length // 2)


async def _measured(place: Place, length: int, interval: int, size: Size, folder: Path) -> Loads:
    domain = bank(snapshot=interval or None)
    with place.url(folder) as url:
        store = await open_store(url)
        try:
            if interval:
                ids = await _with_snapshots(store, domain, length, interval // 2, size)
            else:
                ids = await preload(store, streams_of(length, size), length)
            return await _load(store, domain, ids, Account(AMOUNT * length, length), size)
        finally:
            await store.close()


async def _with_snapshots(store: Store, domain: Bank, length: int, tail: int, size: Size) -> list[str]:
    """Streams of that length, each with a snapshot so many events before its end."""
    ids = await preload(store, streams_of(length, size), length - tail - 1)
    async with domain.app.open(store) as runtime:
        for id in ids:
            await runtime.dispatch(domain.account, id, domain.deposit(AMOUNT))
    for id in ids:
        snapshot = await store.load_snapshot(domain.account.stream(id))
        if snapshot is None or snapshot.version != length - tail:
            raise MeasurementError(f"{store.url}: no snapshot at version {length - tail}: {snapshot}")
    await preload(store, len(ids), tail, after=length - tail)
    return ids


async def _load(store: Store, domain: Bank, ids: Sequence[str], expected: Account, size: Size) -> Loads:
    """A fresh Runtime on the same open store asks for the state of each account, one after the other."""
    states, seconds = 0, 0.0
    gc.collect()
    while seconds < min(size.seconds, ENOUGH):
        async with domain.app.open(store) as runtime:
            for id in ids:
                began = perf_counter()
                state = await runtime.state(domain.account, id)
                seconds += perf_counter() - began
                if state != expected:
                    raise MeasurementError(f"{store.url}: rehydrated {state}, and not {expected}")
        states += len(ids)
    return Loads(states, seconds)
