"""The domain that the tests of the runtime run: accounts that refuse overdrafts, with commands that misbehave."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import assert_never

from rehydrate import Aggregate, App, Rejection, Snapshot


@dataclass(frozen=True, slots=True)
class Deposit:
    amount: int


@dataclass(frozen=True, slots=True)
class Withdraw:
    amount: int


@dataclass(frozen=True, slots=True)
class Split:
    """Deposits the amount in that many events of one command."""

    amount: int
    parts: int


@dataclass(frozen=True, slots=True)
class Touch:
    """Is accepted, and changes nothing."""


@dataclass(frozen=True, slots=True)
class Crash:
    """A bug: in `decide`, or in `evolve` of the second event."""

    where: str


@dataclass(frozen=True, slots=True)
class Deposited:
    amount: int


@dataclass(frozen=True, slots=True)
class Withdrawn:
    amount: int


@dataclass(frozen=True, slots=True)
class Cursed:
    """An event that `evolve` fails at."""


Command = Deposit | Withdraw | Split | Touch | Crash
Event = Deposited | Withdrawn | Cursed


class InsufficientFunds(Rejection): ...


@dataclass(frozen=True, slots=True)
class Account:
    balance: int = 0
    changes: int = 0


def decide(account: Account, command: Command) -> Iterable[Event]:
    match command:
        case Deposit(amount):
            yield Deposited(amount)
        case Withdraw(amount):
            if amount > account.balance:
                raise InsufficientFunds(balance=account.balance, amount=amount)
            yield Withdrawn(amount)
        case Split(amount, parts):
            for _ in range(parts):
                yield Deposited(amount // parts)
        case Touch():
            pass
        case Crash(where):
            if where == "decide":
                raise RuntimeError("a bug in decide")
            yield Deposited(1)
            yield Cursed()
        case _:
            assert_never(command)


def evolve(account: Account, event: Event) -> Account:
    match event:
        case Deposited(amount):
            return replace(account, balance=account.balance + amount, changes=account.changes + 1)
        case Withdrawn(amount):
            return replace(account, balance=account.balance - amount, changes=account.changes + 1)
        case Cursed():
            raise RuntimeError("a bug in evolve")
        case _:
            assert_never(event)


def bank_account(
    *, snapshot: Snapshot | None = None, passivate_after: float = math.inf
) -> Aggregate[Account, Command, Event]:
    return Aggregate(
        name="bank_account",
        initial=Account(),
        decide=decide,
        evolve=evolve,
        commands=Command,
        events=Event,
        snapshot=snapshot,
        passivate_after=passivate_after,
    )


account = bank_account()
app = App(aggregates=[account])
