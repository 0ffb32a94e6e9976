"""How long commands take that come at a fixed rate, whether the ones before them are answered or not.

When each is due is laid down before the first is sent, and its time counts from there: a command that is sent late, for
the program was busy with others, is late for its caller, too.
"""

from __future__ import annotations

import asyncio
import gc
import selectors
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Final

from bench.bank import Bank, bank
from bench.dispatching import caller, fill
from bench.places import Place
from bench.preloading import AMOUNT, stored_events
from bench.sample import Sample, Size, require
from rehydrate.runtime.runtime import Runtime

_CALLERS: Final = 64
_SOONEST: Final = 0.000_1
"""Seconds that the one who sends sleeps at least: what is due by then goes out together."""
PERCENTS: Final = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9}


def latency(place: Place, share: float, size: Size, folder: Path) -> Sample:
    """Milliseconds that 99 of 100 commands stay below, at this share of the rate that 64 callers reach before."""
    with place.url(folder) as url, _without_what_was_imported(), asyncio.Runner(loop_factory=_loop) as runner:
        return runner.run(_latency(place, url, share, size))


@contextmanager
def _without_what_was_imported() -> Generator[None]:
    """The garbage collector looks at what is made from here on, as in a program that has frozen its modules."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _loop() -> asyncio.AbstractEventLoop:
    """asyncio's own, that waits by select: by epoll it sleeps whole milliseconds only, and would send too late."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


async def _latency(place: Place, url: str, share: float, size: Size) -> Sample:
    domain = bank()
    async with domain.app.open(url) as runtime:
        ids = [f"account-{number}" for number in range(size.accounts)]
        await fill(runtime, domain, ids, size.events)
        before, limit = await _limit(runtime, domain, ids, size.seconds)
        rate = limit * share
        pace = Pace(runtime, domain, ids, rate)
        gc.collect()
        sent = int(rate * size.seconds)
        # On a store that answers at once a command is over when the next one is due, or is what makes it late.
        await (pace.one_by_one(sent) if place is Place.MEMORY else pace.beside_each_other(sent))
        stored = await stored_events(runtime.store, ids)
    require(stored=stored, expected=len(ids) * size.events + before + sent, what=f"{url} at {rate:,.0f}/s")
    found = sorted(pace.milliseconds)
    facts = {name: found[int(len(found) * percent / 100)] for name, percent in PERCENTS.items()}
    return Sample(facts["p99"], {**facts, "worst": found[-1], "rate": rate, "limit": limit, "commands": sent})


async def _limit(runtime: Runtime, domain: Bank, ids: Sequence[str], seconds: float) -> tuple[int, float]:
    """Commands, and how many a second, of callers of whom each waits for its answer."""
    gc.collect()
    began = perf_counter()
    answered = await asyncio.gather(
        *[caller(runtime, domain, ids[number::_CALLERS], began + seconds) for number in range(_CALLERS)]
    )
    return sum(answered), sum(answered) / (perf_counter() - began)


class Pace:
    """Deposits at a fixed rate, over all accounts in turn."""

    def __init__(self, runtime: Runtime, domain: Bank, ids: Sequence[str], rate: float) -> None:
        self.milliseconds: list[float] = []
        self._runtime = runtime
        self._account = domain.account
        self._deposit = domain.deposit(AMOUNT)
        self._ids = ids
        self._every = 1 / rate
        self._began = perf_counter()

    async def one_by_one(self, count: int) -> None:
        """Each is awaited before the next is sent."""
        for number in range(count):
            await self._until(number)
            await self._send(number)

    async def beside_each_other(self, count: int) -> None:
        """Each is a task of its own, and none waits for another."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(count):
                await self._until(number)
                tasks.create_task(self._send(number))

    async def _until(self, number: int) -> None:
        wait = self._began + number * self._every - perf_counter()
        if wait > 0:
            await asyncio.sleep(max(wait, _SOONEST))

    async def _send(self, number: int) -> None:
        await self._runtime.dispatch(self._account, self._ids[number % len(self._ids)], self._deposit)
        due = self._began + number * self._every
        self.milliseconds.append((perf_counter() - due) * 1_000)
