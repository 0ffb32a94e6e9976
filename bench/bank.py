"""The domain of every row: accounts that refuse overdrafts, with frozen dataclasses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, assert_never

import msgspec

from rehydrate import Aggregate, App, Rejection, Snapshot


@dataclass(frozen=True, slots=True)
class Deposit:
    amount: int


@dataclass(frozen=True, slots=True)
class Withdraw:
    amount: int


@dataclass(frozen=True, slots=True)
class Fill:
    """Deposits 1 in that many events: what is there before the clock runs."""

    events: int


@dataclass(frozen=True, slots=True)
class Deposited:
    amount: int


@dataclass(frozen=True, slots=True)
class Withdrawn:
    amount: int


Command = Deposit | Withdraw | Fill
Event = Deposited | Withdrawn


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
        case Fill(events):
            for _ in range(events):
                yield Deposited(1)
        case _:
            assert_never(command)


def evolve(account: Account, event: Event) -> Account:
    match event:
        case Deposited(amount):
            return Account(account.balance + amount, account.changes + 1)
        case Withdrawn(amount):
            return Account(account.balance - amount, account.changes + 1)
        case _:
            assert_never(event)


class Bank(msgspec.Struct, frozen=True):
    """A domain as the measurements use it, whatever its classes are made of."""

    app: App
    account: Aggregate[Any, Any, Any]
    deposit: Callable[[int], Any]
    withdraw: Callable[[int], Any]
    fill: Callable[[int], Any]


def bank_account(
    *, passivate_after: float = 5.0, snapshot: int | None = None
) -> Aggregate[Account, Command, Event]:
    """The aggregate; its `passivate_after` is the default unless a row says otherwise."""
    return Aggregate(
        name="bank_account",
        initial=Account(),
        decide=decide,
        evolve=evolve,
        commands=Command,
        events=Event,
        snapshot=None if snapshot is None else Snapshot(every=snapshot),
        passivate_after=passivate_after,
    )


def bank(*, passivate_after: float = 5.0, snapshot: int | None = None) -> Bank:
    """The domain of this module, ready to be opened."""
    account = bank_account(passivate_after=passivate_after, snapshot=snapshot)
    return Bank(App(aggregates=[account]), account, Deposit, Withdraw, Fill)
