"""Single-event appends per second into the store in memory, and into a dictionary and lists."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from time import perf_counter, time_ns
from typing import Final, TypeAlias

from bench.appending import fill, new_events
from bench.sample import MeasurementError, Sample, Size, require
from rehydrate.errors import StoreError
from rehydrate.store.port import Appended
from rehydrate.store.url import open_store

_PER_SECOND: Final = 300_000
"""How many appends there are, for each second of a measurement: as many as the memory of a small machine holds."""

_Kept: TypeAlias = tuple[str, int, int, str, str, bytes, bytes, int]


def store_rate(size: Size, _: Path) -> Sample:
    """The store in memory, whose outcomes come at once: one append through `submit` after the other."""
    return asyncio.run(_store_rate(size))


async def _store_rate(size: Size) -> Sample:
    store = await open_store("memory://")
    streams = await fill(store, size)
    events = new_events(int(size.seconds * _PER_SECOND))
    waiter = _Nobody()
    gc.collect()
    began = perf_counter()
    for number, event in enumerate(events):
        version, stream = divmod(number, len(streams))
        outcome = store.submit(streams[stream], [event], size.events + version, waiter)
        if not isinstance(outcome, Appended):
            raise MeasurementError(f"an append in memory ended with {outcome}")
    seconds = perf_counter() - began
    stored = sum(await store.versions(streams))
    await store.close()
    require(stored=stored, expected=size.accounts * size.events + len(events), what="the store in memory")
    return Sample(len(events) / seconds, {"appends": len(events), "seconds": seconds})


def plain_rate(size: Size, _: Path) -> Sample:
    """A list for each stream and one for the log, both with a tuple of each event, behind a check of the version."""
    streams: dict[str, list[_Kept]] = {f"bank_account-account-{n}": [] for n in range(size.accounts)}
    names = list(streams)
    log: list[_Kept] = []
    events = new_events(int(size.seconds * _PER_SECOND))
    gc.collect()
    began = perf_counter()
    for number, event in enumerate(events):
        version, name = divmod(number, len(names))
        stream = streams[names[name]]
        if len(stream) != version:
            raise MeasurementError(f"{names[name]} is at version {len(stream)}")
        kept = (
            names[name],
            version + 1,
            len(log) + 1,
            event.id,
            event.type,
            event.data,
            event.metadata,
            time_ns(),
        )
        stream.append(kept)
        log.append(kept)
    seconds = perf_counter() - began
    require(stored=sum(map(len, streams.values())), expected=len(log), what="dict and list")
    return Sample(len(log) / seconds, {"appends": len(log), "seconds": seconds})


class _Nobody:
    def append_done(self, outcome: Appended | StoreError) -> None:
        raise MeasurementError(f"an append in memory ended later: {outcome}")
