"""A burst of commands for aggregates none of which is in memory: as after a restart."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from time import perf_counter
from typing import Final

from bench.bank import bank
from bench.places import Place
from bench.preloading import AMOUNT, preload, stored_events
from bench.sample import Sample, Size, require
from rehydrate.store.url import open_store

_AGGREGATES: Final = 10_000


def aggregates_of(size: Size) -> int:
    """How many get a command at once."""
    return min(_AGGREGATES, size.live, size.most // size.events)


def rate(place: Place, size: Size, folder: Path) -> Sample:
    """Aggregates a second: one command for each, all sent at once, until the last is answered."""
    with place.url(folder) as url:
        return asyncio.run(_rate(url, size))


async def _rate(url: str, size: Size) -> Sample:
    domain, count = bank(), aggregates_of(size)
    store = await open_store(url)
    ids = await preload(store, count, size.events)
    await store.close()
    async with domain.app.open(url) as runtime:
        deposit = domain.deposit(AMOUNT)
        gc.collect()
        began = perf_counter()
        results = await asyncio.gather(*[runtime.dispatch(domain.account, id, deposit) for id in ids])
        seconds = perf_counter() - began
        stored = await stored_events(runtime.store, ids)
    require(stored=stored, expected=count * (size.events + 1), what=f"{url}, cold")
    require(stored=stored, expected=sum(result.version for result in results), what=f"{url}, cold")
    return Sample(count / seconds, {"aggregates": count, "seconds": seconds})
