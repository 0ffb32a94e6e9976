"""How late a ticker of 10 ms is beside dispatches that never suspend."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from time import perf_counter

from bench.bank import bank
from bench.dispatching import caller, fill
from bench.sample import Sample, Size

_EVERY = 0.01


def ticker_delay(callers: int, size: Size, _: Path) -> Sample:
    """Milliseconds by which ticks came late, p99, while callers loop over `dispatch` in memory."""
    return asyncio.run(_ticker_delay(callers, size))


async def _ticker_delay(callers: int, size: Size) -> Sample:
    domain = bank()
    async with domain.app.open("memory://") as runtime:
        ids = [f"account-{number}" for number in range(size.accounts)]
        await fill(runtime, domain, ids, size.events)
        gc.collect()
        until = perf_counter() + size.seconds
        ticking = asyncio.create_task(_tick(until))
        await asyncio.gather(
            *[caller(runtime, domain, ids[number::callers], until) for number in range(callers)]
        )
        late = sorted(await ticking)
    p99 = late[int(len(late) * 0.99)]
    return Sample(p99, {"worst": late[-1], "median": late[len(late) // 2], "ticks": len(late)})


async def _tick(until: float) -> list[float]:
    """At least once, for on a busy machine a short time may be over before the first."""
    late: list[float] = []
    while True:
        now = perf_counter()
        await asyncio.sleep(_EVERY)
        late.append((perf_counter() - now - _EVERY) * 1_000)
        if perf_counter() >= until:
            return late
