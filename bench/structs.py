"""The same domain as in `bench.bank`, line by line, with msgspec Structs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

import msgspec

from bench.bank import Bank, InsufficientFunds
from rehydrate import Aggregate, App


class Deposit(msgspec.Struct, frozen=True):
    amount: int


class Withdraw(msgspec.Struct, frozen=True):
    amount: int


class Fill(msgspec.Struct, frozen=True):
    """Deposits 1 in that many events: what is there before the clock runs."""

    events: int


class Deposited(msgspec.Struct, frozen=True):
    amount: int


class Withdrawn(msgspec.Struct, frozen=True):
    amount: int


Command = Deposit | Withdraw | Fill
Event = Deposited | Withdrawn


class Account(msgspec.Struct, frozen=True):
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


def bank() -> Bank:
    """The domain of this module, ready to be opened."""
    account = Aggregate(
        name="bank_account",
        initial=Account(),
        decide=decide,
        evolve=evolve,
        commands=Command,
        events=Event,
    )
    return Bank(App(aggregates=[account]), account, Deposit, Withdraw, Fill)
