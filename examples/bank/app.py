"""The bank: what exists. Importing it starts nothing.

rehydrate run examples.bank.app:app --store sqlite:///bank.db < examples/bank/commands.jsonl
"""

from __future__ import annotations

from examples.bank.aggregates import bank_account, money_transfer
from examples.bank.transfers import transfers
from rehydrate import App

__all__ = ["app", "bank_account", "money_transfer", "transfers"]

app = App(aggregates=[bank_account, money_transfer], processes=[transfers])
