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


@dataclass(frozen=True, slots=True)
class SendMoney:
    """Take the amount of a transfer out of this account."""

    transfer: str
    amount: int


@dataclass(frozen=True, slots=True)
class ReceiveMoney:
    """Put the amount of a transfer into this account."""

    transfer: str
    amount: int


@dataclass(frozen=True, slots=True)
class TakeBack:
    """Put the amount of a transfer that failed back: never refused."""

    transfer: str
    amount: int


@dataclass(frozen=True, slots=True)
class Close:
    """From now on nobody sends money here."""


Command: TypeAlias = Deposit | Withdraw | SendMoney | ReceiveMoney | TakeBack | Close


@dataclass(frozen=True, slots=True)
class Deposited:  # This name is stored: alias it, never rename it in place.
    amount: int


@dataclass(frozen=True, slots=True)
class Withdrawn:
    amount: int


@dataclass(frozen=True, slots=True)
class MoneySent:
    transfer: str
    amount: int


@dataclass(frozen=True, slots=True)
class MoneyReceived:
    transfer: str
    amount: int


@dataclass(frozen=True, slots=True)
class MoneyTakenBack:
    transfer: str
    amount: int


@dataclass(frozen=True, slots=True)
class Closed:
    pass


Event: TypeAlias = Deposited | Withdrawn | MoneySent | MoneyReceived | MoneyTakenBack | Closed


class AmountNotPositive(Rejection):
    """Money moves in one direction: a withdrawal is no negative deposit."""


class InsufficientFunds(Rejection):
    """The account does not hold what was asked of it."""


class AccountClosed(Rejection):
    """Nobody puts money into a closed account."""


@dataclass(frozen=True, slots=True)
class Account:
    """What has become of an account."""

    balance: int = 0
    is_closed: bool = False


def decide(account: Account, command: Command) -> Iterable[Event]:
    """What a command leads to, or why it is refused."""
    if not isinstance(command, Close) and command.amount <= 0:
        raise AmountNotPositive(amount=command.amount)
    match command:
        case Deposit(amount):
            _check_open(account)
            yield Deposited(amount)
        case Withdraw(amount):
            _check_funds(account, amount)
            yield Withdrawn(amount)
        case SendMoney(transfer, amount):
            _check_funds(account, amount)
            yield MoneySent(transfer, amount)
        case ReceiveMoney(transfer, amount):
            _check_open(account)
            yield MoneyReceived(transfer, amount)
        case TakeBack(transfer, amount):
            yield MoneyTakenBack(transfer, amount)
        case Close():
            if not account.is_closed:
                yield Closed()
        case _:
            assert_never(command)


def evolve(account: Account, event: Event) -> Account:
    """What an account is after an event."""
    match event:
        case Deposited(amount) | MoneyReceived(_, amount) | MoneyTakenBack(_, amount):
            return replace(account, balance=account.balance + amount)
        case Withdrawn(amount) | MoneySent(_, amount):
            return replace(account, balance=account.balance - amount)
        case Closed():
            return replace(account, is_closed=True)
        case _:
            assert_never(event)


def _check_open(account: Account) -> None:
    if account.is_closed:
        raise AccountClosed


def _check_funds(account: Account, amount: int) -> None:
    if amount > account.balance:
        raise InsufficientFunds(balance=account.balance, amount=amount)
