"""Process managers: transfers per second, from the command that sends money to the event that it has arrived.

Each is three appends: the money leaves, the process manager takes that in with the command that follows, and the money
arrives. All of it runs in one process, as `app.open` has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Final, assert_never

from bench.sample import Sample, Size, require
from bench.servers import Server
from rehydrate import Aggregate, App, EventEnvelope, ProcessManager, Rejected, Runtime, Send

_CALLERS: Final = 64
_AHEAD: Final = 5_000
"""Transfers that callers may have begun that have not arrived: more of them would only be waited for at the end."""
_LOOK: Final = 0.005


@dataclass(frozen=True, slots=True)
class SendMoney:
    transfer: str
    to: str
    amount: int


@dataclass(frozen=True, slots=True)
class ReceiveMoney:
    transfer: str
    amount: int


@dataclass(frozen=True, slots=True)
class MoneySent:
    transfer: str
    to: str
    amount: int


@dataclass(frozen=True, slots=True)
class MoneyReceived:
    transfer: str
    amount: int


Command = SendMoney | ReceiveMoney
Event = MoneySent | MoneyReceived


@dataclass(frozen=True, slots=True)
class Account:
    sent: int = 0
    received: int = 0


def _decide(account: Account, command: Command) -> Iterable[Event]:  # noqa: ARG001
    match command:
        case SendMoney(transfer, to, amount):
            yield MoneySent(transfer, to, amount)
        case ReceiveMoney(transfer, amount):
            yield MoneyReceived(transfer, amount)
        case _:
            assert_never(command)


def _evolve(account: Account, event: Event) -> Account:
    match event:
        case MoneySent(_, _, amount):
            return replace(account, sent=account.sent + amount)
        case MoneyReceived(_, amount):
            return replace(account, received=account.received + amount)
        case _:
            assert_never(event)


account = Aggregate(
    name="account", initial=Account(), decide=_decide, evolve=_evolve, commands=Command, events=Event
)


def _transfer_of(envelope: EventEnvelope[Event]) -> str | None:
    """Only what leaves an account begins something: an arrival needs no instance to hear of it."""
    return envelope.event.transfer if isinstance(envelope.event, MoneySent) else None


def _count(steps: int, event: Event | Rejected) -> int:  # noqa: ARG001
    return steps + 1


def _follow(steps: int, event: Event | Rejected) -> Iterable[Send]:  # noqa: ARG001
    if isinstance(event, MoneySent):
        yield Send(account, event.to, ReceiveMoney(event.transfer, event.amount))


transfers = ProcessManager(
    name="transfers", initial=0, correlate=_transfer_of, evolve=_count, react=_follow, sources=[account]
)
app = App(aggregates=[account], processes=[transfers])


def memory_rate(size: Size, _: Path) -> Sample:
    """Transfers between the accounts of a bank in `memory://`, each by way of a process manager."""
    return asyncio.run(_rate("memory://", size))


def sqlite_rate(size: Size, folder: Path) -> Sample:
    """The same on a file."""
    return asyncio.run(_rate(f"sqlite:///{folder / 'bank.db'}", size))


def postgres_rate(size: Size, _: Path) -> Sample:
    """The same on PostgreSQL."""
    with Server.POSTGRES.database() as url:
        return asyncio.run(_rate(url, size))


async def _rate(url: str, size: Size) -> Sample:
    async with app.open(url) as bank:
        # Connections are made, and each consumer has its name, before the clock runs.
        await _send(bank, size, range(_CALLERS))
        await _arrived(bank)
        sent, begun = _CALLERS, perf_counter()
        while perf_counter() < begun + size.seconds:
            await _send(bank, size, range(sent, sent + _AHEAD))
            await _arrived(bank)
            sent += _AHEAD
        seconds = perf_counter() - begun
        states = [await bank.state(account, str(n)) for n in range(size.accounts)]
    received = sum(state.received for state in states)
    require(stored=received, expected=sent, what=f"{url.partition(':')[0]}: money that arrived")
    return Sample((sent - _CALLERS) / seconds, {"transfers": sent - _CALLERS, "seconds": seconds})


async def _send(bank: Runtime, size: Size, transfers: Iterable[int]) -> None:
    """Begin transfers, each caller one after the other."""
    numbers = iter(transfers)

    async def one_caller() -> None:
        for number in numbers:
            source, to = str(number % size.accounts), str(number * 7 % size.accounts)
            await bank.dispatch(account, source, SendMoney(f"t{number}", to, 1))

    await asyncio.gather(*[one_caller() for _ in range(_CALLERS)])


async def _arrived(bank: Runtime) -> None:
    """Wait until nothing follows any more."""
    while True:
        head = (await bank.store.head()).position
        places = [0 if one.parked else one.position for one in bank.statistics().consumers]
        if min(places) >= head == (await bank.store.head()).position:
            return
        await asyncio.sleep(_LOOK)
