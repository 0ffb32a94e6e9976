"""How long the garbage collector stops everything beside many live aggregates, and what a program can do about it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Generator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from time import perf_counter
from typing import Literal

from bench import loops
from bench.bank import bank
from bench.dispatching import caller, fill
from bench.sample import MeasurementError, Sample, Size
from rehydrate.runtime.limits import Limits

_MOST = 100_000
"""Live aggregates."""
_BUSY = 1_000
"""Of them get commands while the others idle."""
_CALLERS = 64


class Advice(Enum):
    """What the program does once its aggregates are warm."""

    NOTHING = "as it comes"
    FREEZE = "gc.freeze() when warm"


def full_collection(advice: Advice, size: Size, folder: Path) -> Sample:
    """Milliseconds of one, after callers have dispatched for a while; their rate is reported with it."""
    return loops.run(_full_collection(advice, size, f"sqlite:///{folder / 'bank.db'}"))


async def _full_collection(advice: Advice, size: Size, url: str) -> Sample:
    count = min(size.live, _MOST)
    domain = bank(passivate_after=float("inf"))
    async with domain.app.open(url, limits=Limits(max_live=count)) as runtime:
        ids = [f"account-{number}" for number in range(count)]
        await fill(runtime, domain, ids, 1)
        gc.collect()
        if advice is Advice.FREEZE:
            gc.freeze()
        with _watched() as pauses:
            began = perf_counter()
            shares = [ids[number:_BUSY:_CALLERS] for number in range(_CALLERS)]
            answered = await asyncio.gather(
                *[caller(runtime, domain, share, began + size.seconds) for share in shares if share]
            )
            seconds = perf_counter() - began
            met = max(pauses, default=0.0)
            gc.collect()
        if runtime.statistics().live != count:
            raise MeasurementError(f"not {count} live aggregates: {runtime.statistics()}")
    return Sample(
        pauses[-1] * 1_000,
        {"rate": sum(answered) / seconds, "longest met, ms": met * 1_000, "aggregates": count},
    )


@contextmanager
def _watched() -> Generator[list[float]]:
    """How long each collection takes: `gc` calls back before and after."""
    pauses: list[float] = []
    began = 0.0

    def watch(phase: Literal["start", "stop"], _: dict[str, int]) -> None:
        nonlocal began
        if phase == "start":
            began = perf_counter()
        else:
            pauses.append(perf_counter() - began)

    gc.callbacks.append(watch)
    try:
        yield pauses
    finally:
        gc.callbacks.remove(watch)
