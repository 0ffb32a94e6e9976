"""A bank account: the domain. Pure functions over frozen values; one import from Rehydrate, and only to say no."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias, assert_never

from rehydrate import Rejection


@dataclass(frozen=True, slots=True)
class Deposit:
    amount: int


@dataclass(frozen=True, slots=True)
class Withdraw:
    amount: int


Command: TypeAlias = Deposit | Withdraw


@dataclass(frozen=True, slots=True)
class Deposited:  # This name is stored: alias it, never rename it in place.
    amount: int


@dataclass(frozen=True, slots=True)
class Withdrawn:
    amount: int


Event: TypeAlias = Deposited | Withdrawn


class AmountNotPositive(Rejection):
    """Money moves in one direction: a withdrawal is no negative deposit."""


class InsufficientFunds(Rejection):
    """The account does not hold what was asked of it."""


@dataclass(frozen=True, slots=True)
class Account:
    """What has become of an account."""

    balance: int = 0


def decide(account: Account, command: Command) -> Iterable[Event]:
    """What a command leads to, or why it is refused."""
    if command.amount <= 0:
        raise AmountNotPositive(amount=command.amount)
    match command:
        case Deposit(amount):
            yield Deposited(amount)
        case Withdraw(amount):
            if amount > account.balance:
                raise InsufficientFunds(balance=account.balance, amount=amount)
            yield Withdrawn(amount)
        case _:
            assert_never(command)


def evolve(account: Account, event: Event) -> Account:
    """What an account is after an event."""
    match event:
        case Deposited(amount):
            return replace(account, balance=account.balance + amount)
        case Withdrawn(amount):
            return replace(account, balance=account.balance - amount)
        case _:
            assert_never(event)
