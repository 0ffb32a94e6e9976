"""A domain as users write it: not one annotation in it is there for Rehydrate."""

from __future__ import annotations

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
class Deposited:
    amount: int


@dataclass(frozen=True, slots=True)
class Withdrawn:
    amount: int


@dataclass(frozen=True, slots=True)
class Account:
    balance: int = 0


Command = Deposit | Withdraw
Event = Deposited | Withdrawn


class InsufficientFunds(Rejection): ...


def decide(account: Account, command: Command) -> Iterable[Event]:
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
    match event:
        case Deposited(amount):
            return replace(account, balance=account.balance + amount)
        case Withdrawn(amount):
            return replace(account, balance=account.balance - amount)
        case _:
            assert_never(event)


bank_account = Aggregate(
    name="bank_account",
    initial=Account(),
    decide=decide,
    evolve=evolve,
    commands=Command,
    events=Event,
    snapshot=Snapshot(every=100),
)


@dataclass(frozen=True, slots=True)
class Grow:
    pass


@dataclass(frozen=True, slots=True)
class Grown:
    pass


@dataclass(frozen=True, slots=True)
class Tree:
    """The other way to write a domain: methods of the state."""

    rings: int = 0

    def decide(self, command: Grow) -> list[Grown]:
        return [Grown()]

    def evolve(self, event: Grown) -> Tree:
        return Tree(self.rings + 1)


tree = Aggregate(
    name="tree", initial=Tree(), decide=Tree.decide, evolve=Tree.evolve, commands=Grow, events=Grown
)

app = App(aggregates=[bank_account, tree])
