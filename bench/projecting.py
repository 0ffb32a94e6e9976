"""Read models: events per second from the log into views, and the time from a command's answer to its view."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Final

import msgspec

from bench.bank import Deposit, Deposited, Event, bank
from bench.sample import MeasurementError, Sample, Size
from bench.servers import Server
from rehydrate import App, EventEnvelope, Projection, Runtime, open_store
from rehydrate.store.port import NewEvent, Store

_APPEND: Final = 10
_RATE: Final = 1_000
"""Commands a second, while it is measured how long a view takes."""
_METADATA: Final = b'{"command_id":"0197f3a0c2d07c1e8a00000000000000"}'
"""As large as what a command writes."""


@dataclass(frozen=True, slots=True)
class Balance:
    amount: int = 0
    changes: int = 0


def _evolve(balance: Balance, envelope: EventEnvelope[Event]) -> Balance:
    match envelope.event:
        case Deposited(amount):
            return replace(balance, amount=balance.amount + amount, changes=balance.changes + 1)
        case _:
            return replace(
                balance, amount=balance.amount - envelope.event.amount, changes=balance.changes + 1
            )


def _whose(envelope: EventEnvelope[Event]) -> str:
    return envelope.aggregate_id


_domain = bank()
balances = Projection(
    name="balances",
    initial=Balance(),
    key=_whose,
    evolve=_evolve,
    sources=[_domain.account],
)
app = App(aggregates=[_domain.account], projections=[balances])


def memory_rate(size: Size, _: Path) -> Sample:
    """A projection of a log in `memory://`, built from its beginning."""
    return asyncio.run(_on("memory://", size, build))


def sqlite_rate(size: Size, folder: Path) -> Sample:
    """The same on a file."""
    return asyncio.run(_on(f"sqlite:///{folder / 'bank.db'}", size, build))


def postgres_rate(size: Size, _: Path) -> Sample:
    """The same on PostgreSQL."""
    with Server.POSTGRES.database() as url:
        return asyncio.run(_on(url, size, build))


def mongodb_rate(size: Size, _: Path) -> Sample:
    """The same on MongoDB."""
    with Server.MONGODB.database() as url:
        return asyncio.run(_on(url, size, build))


def sqlite_read_rate(size: Size, folder: Path) -> Sample:
    """The log of a file, read in pages, and nothing else done."""
    return asyncio.run(_on(f"sqlite:///{folder / 'bank.db'}", size, read))


def postgres_read_rate(size: Size, _: Path) -> Sample:
    """The same on PostgreSQL."""
    with Server.POSTGRES.database() as url:
        return asyncio.run(_on(url, size, read))


def mongodb_read_rate(size: Size, _: Path) -> Sample:
    """The same on MongoDB."""
    with Server.MONGODB.database() as url:
        return asyncio.run(_on(url, size, read))


async def _on(url: str, size: Size, measure: Callable[[Store, Size, int], Awaitable[Sample]]) -> Sample:
    store = await open_store(url)
    try:
        await fill(store, size)
        gc.collect()
        return await measure(store, size, (await store.head()).position)
    finally:
        await store.close()


def events_each(size: Size) -> int:
    """How many events each account has."""
    return max(_APPEND, size.log // 5 // size.accounts // _APPEND * _APPEND)


async def fill(store: Store, size: Size) -> None:
    """Deposits, as appends of ten, over all accounts."""

    async def one(account: int) -> None:
        stream = _domain.account.stream(str(account))
        for version in range(0, events_each(size), _APPEND):
            new = [
                NewEvent(
                    id=f"{account}-{version}-{n}", type="Deposited", data=b'{"amount":5}', metadata=_METADATA
                )
                for n in range(_APPEND)
            ]
            await store.append(stream, new, expected_version=version)

    await asyncio.gather(*[one(account) for account in range(size.accounts)])


async def build(store: Store, size: Size, head: int) -> Sample:
    """Views of all accounts, from position 0, as often as the time allows."""
    events, seconds = 0, 0.0
    each = events_each(size)
    while seconds < size.seconds:
        await store.remove_checkpoint(balances.consumer)
        async with app.open(store) as runtime:
            began = perf_counter()
            view = await runtime.view(balances, "1", at_least=head, timeout=600)
            seconds += perf_counter() - began
        events += each * size.accounts
        if view != Balance(5 * each, each):
            raise MeasurementError(f"{store.url}: projected {view} of {each} events")
    return Sample(events / seconds, {"events": events, "seconds": seconds})


async def read(store: Store, size: Size, head: int) -> Sample:
    """The same log, read."""
    events, seconds = 0, 0.0
    while seconds < size.seconds:
        began, after = perf_counter(), 0
        while after < head:
            page = await store.read_all(after=after)
            events += len(page.events)
            after = page.position
        seconds += perf_counter() - began
        if events % (each := events_each(size) * size.accounts) or not events:
            raise MeasurementError(f"{store.url}: read {events} events, and there are {each}")
    return Sample(events / seconds, {"events": events, "seconds": seconds})


def memory_latency(percent: int, size: Size, _: Path) -> Sample:
    """Milliseconds from the answer of a command to its view, which so many percent of them stayed below."""
    return _latency("memory://", percent, size)


def sqlite_latency(percent: int, size: Size, folder: Path) -> Sample:
    """The same on a file."""
    return _latency(f"sqlite:///{folder / 'bank.db'}", percent, size)


def postgres_latency(percent: int, size: Size, _: Path) -> Sample:
    """The same on PostgreSQL."""
    with Server.POSTGRES.database() as url:
        return _latency(url, percent, size)


def _latency(url: str, percent: int, size: Size) -> Sample:
    found = asyncio.run(latencies(url, rate=_RATE, seconds=size.seconds))
    return Sample(found[len(found) * percent // 100], {"commands": len(found), "rate": _RATE})


async def latencies(url: str, *, rate: int, seconds: float) -> list[float]:
    """Milliseconds from the answer of a command until its view has it, at so many commands a second; sorted."""
    found: list[float] = []

    async def one(runtime: Runtime, number: int) -> None:
        account = str(number % 1_000)
        done = await runtime.dispatch(_domain.account, account, Deposit(1))
        began = perf_counter()
        await runtime.view(balances, account, at_least=done.position)
        found.append((perf_counter() - began) * 1_000)

    async with app.open(url) as runtime:
        # Connections are made, and the projection is built, before the clock runs.
        await asyncio.gather(*[one(runtime, number) for number in range(200)])
        found.clear()
        async with asyncio.TaskGroup() as tasks:
            began = perf_counter()
            for number in range(int(rate * seconds)):
                due = began + number / rate
                if (wait := due - perf_counter()) > 0:
                    await asyncio.sleep(wait)
                tasks.create_task(one(runtime, number))
    return sorted(found)


def build_memory(events: int, size: Size, folder: Path) -> Sample:
    """MiB by which the process is larger at the most while a log of so many events becomes views, than before.

    Another process fills the log: what it leaves to be used again would hide what building takes. On Linux, where a
    process may be asked for the most that it had since it was told to forget that.
    """
    url, whole = f"sqlite:///{folder / 'bank.db'}", msgspec.structs.replace(size, log=5 * events)
    filling = get_context("spawn").Process(target=_fill_alone, args=(url, whole))
    filling.start()
    filling.join()
    if filling.exitcode != 0:
        raise MeasurementError(f"{url} could not be filled")
    return asyncio.run(_build_and_weigh(url, whole))


def _fill_alone(url: str, size: Size) -> None:
    asyncio.run(_on(url, size, _nothing))


async def _nothing(_: Store, size: Size, head: int) -> Sample:
    return Sample(head, {"accounts": size.accounts})


async def _build_and_weigh(url: str, size: Size) -> Sample:
    store = await open_store(url)
    try:
        head = (await store.head()).position
        gc.collect()
        _forget_the_most()
        before = _memory("VmRSS")
        await build(store, size, head)
        return Sample(_memory("VmHWM") - before, {"events": head})
    finally:
        await store.close()


def _forget_the_most() -> None:
    Path("/proc/self/clear_refs").write_text("5", "ascii")


def _memory(of: str) -> float:
    """In MiB, as Linux tells it."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{of}:")) / 1024
