"""Bytes of memory per live idle aggregate, beyond the state that is the user's own."""

from __future__ import annotations

import asyncio
import gc
import resource
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Final

import msgspec

from bench.appending import new_events
from bench.bank import Account, Bank, bank
from bench.sample import MeasurementError, Sample, Size
from rehydrate import Metadata
from rehydrate.runtime.limits import WINDOW_EVENTS, Limits
from rehydrate.runtime.runtime import Runtime
from rehydrate.store.port import NewEvent, Store
from rehydrate.store.url import open_store

_CALLERS: Final = 64


class Windows(Enum):
    """What of the ids of its past commands each aggregate has in memory."""

    NONE = "no window"
    LOADED = "a window of one command"
    FULL = "a full window"


def allocated(count: int, windows: Windows, size: Size, folder: Path) -> Sample:
    """By tracemalloc: what is given back when the runtime closes, while the store stays open, less the states."""
    count = _count(count, windows, size)
    tracemalloc.start()
    try:
        states = _allocated_by_states(count)
        before, live, after = asyncio.run(_live(folder / "bank.db", count, windows, _traced_bytes))
    finally:
        tracemalloc.stop()
    of_actors = (live - after) / count
    return Sample(
        of_actors - states,
        {
            "aggregates": count,
            "the user's state": states,
            "with the store's own": (live - before) / count - states,
        },
    )


def resident(count: int, windows: Windows, size: Size, folder: Path) -> Sample:
    """By the operating system: how much the process grew while the aggregates came alive, states and store included."""
    count = _count(count, windows, size)
    before, live, _ = asyncio.run(_live(folder / "bank.db", count, windows, _resident_bytes))
    return Sample((live - before) / count, {"aggregates": count, "resident MiB": live / 2**20})


def process(count: int, windows: Windows, size: Size, folder: Path) -> Sample:
    """MiB of the whole process, with interpreter and libraries, states and store, while all of them are alive."""
    count = _count(count, windows, size)
    before, live, _ = asyncio.run(_live(folder / "bank.db", count, windows, _resident_bytes))
    return Sample(live / 2**20, {"aggregates": count, "bytes each": (live - before) / count})


def _count(count: int, windows: Windows, size: Size) -> int:
    return min(count, size.windows if windows is Windows.FULL else size.live)


async def _live(path: Path, count: int, windows: Windows, measure: Callable[[], int]) -> tuple[int, int, int]:
    """What `measure` says before, with all aggregates alive and idle, and after their runtime has closed."""
    domain = bank(passivate_after=float("inf"))
    store = await open_store(f"sqlite:///{path}")
    try:
        if windows is Windows.FULL:
            await _fill_windows(store, count)
        async with domain.app.open(store, limits=Limits(max_live=count)) as runtime:
            before = measure()
            shares = [range(number, count, _CALLERS) for number in range(_CALLERS)]
            await asyncio.gather(*[_wake(runtime, domain, share, windows) for share in shares])
            statistics = runtime.statistics()
            if (statistics.live, statistics.busy) != (count, 0):
                raise MeasurementError(f"not {count} live idle aggregates: {statistics}")
            live = measure()
        del runtime
        return before, live, measure()
    finally:
        await store.close()


async def _wake(runtime: Runtime, domain: Bank, numbers: Sequence[int], windows: Windows) -> None:
    """Give each aggregate a command; where windows are wanted, with an id, which loads the window."""
    for number in numbers:
        given = None if windows is Windows.NONE else f"given-{number}"
        await runtime.dispatch(
            domain.account, f"account-{number}", domain.deposit(_amount(number)), command_id=given
        )


async def _fill_windows(store: Store, count: int) -> None:
    """Streams of 1,024 events, each of a command whose caller gave the id, like `order-17/payment-4`."""
    encode = msgspec.json.Encoder().encode
    for number in range(count):
        events = [
            NewEvent(
                event.id,
                event.type,
                event.data,
                encode(Metadata(command_id=_given(number, version), fingerprint="0" * 16)),
            )
            for version, event in enumerate(new_events(WINDOW_EVENTS))
        ]
        await store.append(f"bank_account-account-{number}", events, expected_version=0)


def _given(number: int, version: int) -> str:
    return f"order-{number:08}/payment-{version:08}"


def _amount(number: int) -> int:
    """Another one for each account, so that no two states share an object."""
    return 1_000_000 + number


def _allocated_by_states(count: int) -> float:
    """Bytes of one state, measured as the rest is."""
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    states = [Account(_amount(number), 1) for number in range(count)]
    states_and_list = tracemalloc.get_traced_memory()[0] - before
    return (states_and_list - sys.getsizeof(states)) / count


def _traced_bytes() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def _resident_bytes() -> int:
    gc.collect()
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except FileNotFoundError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1_024
    return pages * resource.getpagesize()
