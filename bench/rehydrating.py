"""Events per second from the store into a state."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from time import perf_counter

from bench.bank import Account, bank
from bench.sample import MeasurementError, Sample, Size
from rehydrate.store.url import open_store

_STREAMS = 3
_APPEND = 1_000


def memory_rate(size: Size, _: Path) -> Sample:
    """From `memory://`."""
    return asyncio.run(_rehydration_rate("memory://", size))


def sqlite_rate(size: Size, folder: Path) -> Sample:
    """From a file."""
    return asyncio.run(_rehydration_rate(f"sqlite:///{folder / 'bank.db'}", size))


async def _rehydration_rate(url: str, size: Size) -> Sample:
    """A fresh Runtime on the same open store asks for the state of an account that is not in memory."""
    domain = bank()
    ids = [f"account-{number}" for number in range(_STREAMS)]
    store = await open_store(url)
    try:
        async with domain.app.open(store) as runtime:
            for id in ids:
                for start in range(0, size.stream, _APPEND):
                    events = min(_APPEND, size.stream - start)
                    await runtime.dispatch(domain.account, id, domain.fill(events))
        gc.collect()
        events, seconds = 0, 0.0
        while seconds < size.seconds:
            async with domain.app.open(store) as runtime:
                for id in ids:
                    began = perf_counter()
                    state = await runtime.state(domain.account, id)
                    seconds += perf_counter() - began
                    if state != Account(size.stream, size.stream):
                        raise MeasurementError(f"{url}: rehydrated {state} from {size.stream} events")
                    events += size.stream
    finally:
        await store.close()
    return Sample(events / seconds, {"events": events, "seconds": seconds})
