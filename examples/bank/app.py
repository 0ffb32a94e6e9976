"""The bank: what exists. Importing it starts nothing.

rehydrate run examples.bank.app:app --store sqlite:///bank.db < examples/bank/commands.jsonl
"""

from __future__ import annotations

from examples.bank.account import Account, Command, Event, decide, evolve
from rehydrate import Aggregate, App, Snapshot

bank_account = Aggregate(
    name="bank_account",
    initial=Account(),
    decide=decide,
    evolve=evolve,
    commands=Command,
    events=Event,
    snapshot=Snapshot(every=100),
    passivate_after=300,
)

app = App(aggregates=[bank_account])
