"""Commands per second through a Runtime."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import cycle
from pathlib import Path
from time import perf_counter

from bench.bank import Bank
from bench.sample import Sample, Size, require
from rehydrate.runtime.runtime import Runtime


def memory_rate(make: Callable[[], Bank], callers: int, size: Size, _: Path) -> Sample:
    """On `memory://`."""
    return asyncio.run(_dispatch_rate(make(), "memory://", callers, size))


def sqlite_rate(make: Callable[[], Bank], callers: int, size: Size, folder: Path) -> Sample:
    """On a new file, with the store's defaults: WAL, synchronous=FULL."""
    path = folder / "bank.db"
    sample = asyncio.run(_dispatch_rate(make(), f"sqlite:///{path}", callers, size))
    return Sample(sample.value, {**sample.facts, "appends per commit": appends_per_commit(path, size)})


def appends_per_commit(path: Path, size: Size) -> float:
    """How large groups were: all events of one commit bear the same time."""
    with closing(sqlite3.connect(path)) as connection:
        events, commits = connection.execute(
            "SELECT count(*), count(DISTINCT recorded_at) FROM events WHERE position > ?",
            (size.accounts * size.events,),
        ).fetchone()
    return float(events / max(1, commits))


async def _dispatch_rate(bank: Bank, url: str, callers: int, size: Size) -> Sample:
    """Each caller has accounts of its own, and in turn deposits and withdraws, awaiting each result."""
    async with bank.app.open(url) as runtime:
        ids = [f"account-{number}" for number in range(size.accounts)]
        await fill(runtime, bank, ids, size.events)
        gc.collect()
        versions = dict.fromkeys(ids, size.events)
        began = perf_counter()
        until = began + size.seconds
        await asyncio.gather(
            *[caller(runtime, bank, ids[number::callers], until, versions) for number in range(callers)]
        )
        seconds = perf_counter() - began
        stored = (await runtime.store.head()).position
        require(stored=stored, expected=sum(versions.values()), what=f"{url} with {callers} callers")
        commands = stored - size.accounts * size.events
        return Sample(commands / seconds, {"commands": commands, "seconds": seconds, "stored": stored})


async def fill(runtime: Runtime, bank: Bank, ids: Sequence[str], events: int) -> None:
    """Give each account that many events."""
    for start in range(0, len(ids), 64):
        some = ids[start : start + 64]
        await asyncio.gather(*[runtime.dispatch(bank.account, id, bank.fill(events)) for id in some])


async def caller(
    runtime: Runtime, bank: Bank, ids: Sequence[str], until: float, versions: dict[str, int]
) -> None:
    """One caller's loop; it notes the version that it was last told of each of its accounts."""
    dispatch, account, deposit, withdraw = runtime.dispatch, bank.account, bank.deposit, bank.withdraw
    for id in cycle(ids):
        await dispatch(account, id, deposit(10))
        result = await dispatch(account, id, withdraw(1))
        versions[id] = result.version
        if perf_counter() >= until:
            break
