"""The read models that the tests of the read side build: of the accounts of `tests.bank`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rehydrate import App, EventEnvelope, Projection
from tests.bank import Cursed, Deposited, Event, Withdrawn, account


@dataclass(frozen=True, slots=True)
class Balance:
    amount: int = 0
    changes: int = 0


def account_id(envelope: EventEnvelope[Event]) -> str:
    return envelope.aggregate_id


def add(balance: Balance, envelope: EventEnvelope[Event]) -> Balance:
    match envelope.event:
        case Deposited(amount):
            return replace(balance, amount=balance.amount + amount, changes=balance.changes + 1)
        case Withdrawn(amount):
            return replace(balance, amount=balance.amount - amount, changes=balance.changes + 1)
        case Cursed():
            raise RuntimeError("a bug in evolve")


balances = Projection(name="balances", initial=Balance(), key=account_id, evolve=add, sources=[account])
app = App(aggregates=[account], projections=[balances])
