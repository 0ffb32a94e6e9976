"""Commands a second of 64 callers as the store grows: over the events that lie there, and over the streams.

All aggregates are in memory and stay there, so what grows is the store, and the number of actors.
"""

from __future__ import annotations

import asyncio
import gc
import math
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from time import perf_counter
from typing import Final

from bench.bank import Bank, bank
from bench.places import Place
from bench.preloading import AMOUNT, preload, stored_events, wake
from bench.sample import Fact, Sample, Size, require
from rehydrate.runtime.limits import Limits
from rehydrate.runtime.runtime import Runtime

_CALLERS: Final = 64
_STREAMS: Final = 1_000
_ROUND: Final = 10_000
"""Commands after which there is a new store, where it would otherwise be twice as large as its row says."""


def over_events(place: Place, events: int, size: Size, folder: Path) -> Sample:
    """In a store that holds so many events, in 1,000 streams; it is made anew when as many have been added."""
    wanted, events = events, min(events, size.most)
    streams = min(_STREAMS, size.accounts, events)
    most = max(_ROUND, events)
    commands, seconds, rounds = 0, 0.0, 0
    while seconds < size.seconds:
        with place.url(folder) as url:
            added, took = asyncio.run(_round(url, streams, events // streams, most, size.seconds - seconds))
        commands, seconds, rounds = commands + added, seconds + took, rounds + 1
    facts: dict[str, Fact] = {"commands": commands, "seconds": seconds, "stores": rounds}
    return Sample(commands / seconds, facts | _cut(events, wanted))


def _cut(there: int, wanted: int) -> dict[str, Fact]:
    """What a small run has to say: its store is not as large as the name of the contestant."""
    return {} if there == wanted else {"cut to": there}


def over_streams(place: Place, streams: int, size: Size, folder: Path) -> Sample:
    """In a store of so many streams, which begin with one event each."""
    wanted, streams = streams, min(streams, size.live)
    with place.url(folder) as url:
        commands, seconds = asyncio.run(_round(url, streams, 0, math.inf, size.seconds))
    facts: dict[str, Fact] = {"commands": commands, "seconds": seconds, "streams": streams}
    return Sample(commands / seconds, facts | _cut(streams, wanted))


async def _round(url: str, streams: int, events: int, most: float, seconds: float) -> tuple[int, float]:
    """How many commands in how much time: at most so many, or so much."""
    domain = bank(passivate_after=math.inf)
    async with domain.app.open(url, limits=Limits(max_live=streams)) as runtime:
        if events:
            ids = await preload(runtime.store, streams, events)
            await wake(runtime, domain, ids)
        else:
            # The quickest way to have both an event and an actor of each.
            ids, events = [f"account-{number}" for number in range(streams)], 1
            await _burst(runtime, domain, ids, until=math.inf)
        gc.collect()
        began = perf_counter()
        commands = await _burst(runtime, domain, ids, until=began + seconds, most=most)
        took = perf_counter() - began
        stored = await stored_events(runtime.store, ids)
    require(stored=stored, expected=streams * events + commands, what=f"{url} with {streams} streams")
    return commands, took


async def _burst(
    runtime: Runtime, domain: Bank, ids: Sequence[str], *, until: float, most: float | None = None
) -> int:
    """How many deposits 64 callers made, each on accounts of its own: one each where nothing else is said."""
    shares = [ids[number::_CALLERS] for number in range(min(_CALLERS, len(ids)))]
    made = await asyncio.gather(
        *[
            _caller(runtime, domain, share, until, len(share) if most is None else most / len(shares))
            for share in shares
        ]
    )
    return sum(made)


async def _caller(runtime: Runtime, domain: Bank, ids: Sequence[str], until: float, most: float) -> int:
    dispatch, account, deposit = runtime.dispatch, domain.account, domain.deposit
    made = 0
    for id in cycle(ids):
        made += len((await dispatch(account, id, deposit(AMOUNT))).events)
        if made >= most or perf_counter() >= until:
            break
    return made
