"""The aggregates of the bank, as values: what is sent to, and where events come from."""

from __future__ import annotations

from examples.bank import account, transfer
from rehydrate import Aggregate, Snapshot

bank_account = Aggregate(
    name="bank_account",
    initial=account.Account(),
    decide=account.decide,
    evolve=account.evolve,
    commands=account.Command,
    events=account.Event,
    snapshot=Snapshot(every=100),
    passivate_after=300,
)

money_transfer = Aggregate(
    name="money_transfer",
    initial=transfer.Transfer(),
    decide=transfer.decide,
    evolve=transfer.evolve,
    commands=transfer.Command,
    events=transfer.Event,
)
