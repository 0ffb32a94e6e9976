"""The domain of the fault matrix: accounts whose state and refusals say which version they were decided on.

`REHYDRATE_TEST_BANK=2` is a later version of the code, with one more command and one more event.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, assert_never

from rehydrate import Aggregate, App, Rejection, Snapshot

CODE: Final = int(os.environ.get("REHYDRATE_TEST_BANK", "1"))


@dataclass(frozen=True, slots=True)
class Deposit:
    amount: int


@dataclass(frozen=True, slots=True)
class Split:
    """Deposits the amount in that many events of one command."""

    amount: int
    parts: int


@dataclass(frozen=True, slots=True)
class Withdraw:
    amount: int


@dataclass(frozen=True, slots=True)
class Gift:
    """What only later code knows."""

    amount: int


@dataclass(frozen=True, slots=True)
class Deposited:
    amount: int


@dataclass(frozen=True, slots=True)
class Withdrawn:
    amount: int


@dataclass(frozen=True, slots=True)
class Given:
    amount: int


class InsufficientFunds(Rejection): ...


@dataclass(frozen=True, slots=True)
class Account:
    balance: int = 0
    version: int = 0


Command = Deposit | Split | Withdraw | Gift
Event = Deposited | Withdrawn | Given


def decide(account: Account, command: Command) -> Iterable[Event]:
    match command:
        case Deposit(amount):
            yield Deposited(amount)
        case Split(amount, parts):
            for _ in range(parts):
                yield Deposited(amount // parts)
        case Withdraw(amount):
            if amount > account.balance:
                raise InsufficientFunds(balance=account.balance, version=account.version)
            yield Withdrawn(amount)
        case Gift(amount):
            yield Given(amount)
        case _:
            assert_never(command)


def evolve(account: Account, event: Event) -> Account:
    return replace(account, balance=account.balance + change(event), version=account.version + 1)


def change(event: Event) -> int:
    """What an event does to the balance."""
    return -event.amount if isinstance(event, Withdrawn) else event.amount


def _account() -> Aggregate[Account, Command, Event]:
    # What the earlier code does not know is not declared by it; to the type checker there is one version.
    commands = Command if CODE > 1 else Deposit | Split | Withdraw
    events = Event if CODE > 1 else Deposited | Withdrawn
    return Aggregate(
        name="account",
        initial=Account(),
        decide=decide,
        evolve=evolve,
        commands=commands,
        events=events,
        snapshot=Snapshot(every=50, schema=1),
        passivate_after=5,
    )


account = _account()
app = App(aggregates=[account])
