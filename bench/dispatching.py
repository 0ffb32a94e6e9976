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

from bench import loops
from bench.bank import Bank
from bench.sample import Sample, Size, require
from bench.servers import Server
from rehydrate.runtime.runtime import Runtime


def memory_rate(make: Callable[[], Bank], callers: int, size: Size, _: Path) -> Sample:
    """On `memory://`."""
    return loops.run(_dispatch_rate(make(), "memory://", callers, size))


def sqlite_rate(make: Callable[[], Bank], callers: int, size: Size, folder: Path) -> Sample:
    """On a new file, with the store's defaults: WAL, synchronous=FULL."""
    path = folder / "bank.db"
    sample = loops.run(_dispatch_rate(make(), f"sqlite:///{path}", callers, size))
    return Sample(sample.value, {**sample.facts, "appends per commit": appends_per_commit(path, size)})


def appends_per_commit(path: Path, size: Size) -> float:
    """How large groups were: all events of one commit bear the same time."""
    with closing(sqlite3.connect(path)) as connection:
        events, commits = connection.execute(
            "SELECT count(*), count(DISTINCT recorded_at) FROM events WHERE position > ?",
            (size.accounts * size.events,),
        ).fetchone()
    return float(events / max(1, commits))


def server_rate(make: Callable[[], Bank], server: Server, callers: int, size: Size, _: Path) -> Sample:
    """On a new database of a server, with the store's defaults."""
    with server.database() as url:
        return loops.run(_dispatch_rate(make(), url, callers, size))


def hot_server_rate(make: Callable[[], Bank], server: Server, callers: int, size: Size, _: Path) -> Sample:
    """The same, with a single account that all callers share."""
    with server.database() as url:
        return loops.run(_dispatch_rate(make(), url, callers, size, hot=True))


async def _dispatch_rate(bank: Bank, url: str, callers: int, size: Size, *, hot: bool = False) -> Sample:
    """Each caller has accounts of its own, unless there is one for all, and in turn deposits and withdraws."""
    async with bank.app.open(url) as runtime:
        ids = [f"account-{number}" for number in range(1 if hot else size.accounts)]
        await fill(runtime, bank, ids, size.events)
        gc.collect()
        began = perf_counter()
        until = began + size.seconds
        answered = await asyncio.gather(
            *[
                caller(runtime, bank, ids if hot else ids[number::callers], until)
                for number in range(min(callers, callers if hot else len(ids)))
            ]
        )
        seconds = perf_counter() - began
        commands = sum(answered)
        stored = sum(await runtime.store.versions([bank.account.stream(id) for id in ids]))
        require(
            stored=stored,
            expected=len(ids) * size.events + commands,
            what=f"{runtime.store.url} with {callers} callers",
        )
        return Sample(commands / seconds, {"commands": commands, "seconds": seconds, "stored": stored})


async def fill(runtime: Runtime, bank: Bank, ids: Sequence[str], events: int) -> None:
    """Give each account that many events."""
    for start in range(0, len(ids), 64):
        some = ids[start : start + 64]
        await asyncio.gather(*[runtime.dispatch(bank.account, id, bank.fill(events)) for id in some])


async def caller(runtime: Runtime, bank: Bank, ids: Sequence[str], until: float) -> int:
    """One caller's loop; how many commands were answered, each of which stored one event."""
    dispatch, account, deposit, withdraw = runtime.dispatch, bank.account, bank.deposit, bank.withdraw
    answered = 0
    for id in cycle(ids):
        first = await dispatch(account, id, deposit(10))
        second = await dispatch(account, id, withdraw(1))
        answered += len(first.events) + len(second.events)
        if perf_counter() >= until:
            break
    return answered
