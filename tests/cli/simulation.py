"""Commands in which order and repetition matter, and what must be stored after each ran once, in its order."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from tests.cli.terminal import deposit, typed, withdraw

Stored = dict[str, list[tuple[str, int]]]
"""The events of each account: type and amount."""


def mixed_lines(count: int, accounts: int, seed: int) -> list[str]:
    """Deposits and withdrawals, a good part of them refused at their turn and possible later on."""
    chance = random.Random(seed)
    lines: list[str] = []
    for _ in range(count):
        id = f"a{chance.randrange(accounts)}"
        amount = chance.randrange(1, 100)
        lines.append(deposit(id, amount) if chance.random() < 0.5 else withdraw(id, amount))
    return lines


def simulate(lines: Iterable[dict[str, Any]]) -> tuple[Stored, list[bool]]:
    """The events that running each line once in order stores, and for each line whether it is accepted."""
    stored: Stored = defaultdict(list)
    balances: defaultdict[str, int] = defaultdict(int)
    accepted: list[bool] = []
    for line in lines:
        id, amount = line["id"], line["data"]["amount"]
        is_deposit = line["command"] == "Deposit"
        accepted.append(is_deposit or amount <= balances[id])
        if accepted[-1]:
            balances[id] += amount if is_deposit else -amount
            stored[id].append(("Deposited" if is_deposit else "Withdrawn", amount))
    return dict(stored), accepted


def stored_in(store: str) -> Stored:
    """The events that a store holds."""
    stored: Stored = {}
    for head in typed("streams", "--store", store).answers:
        events = typed("events", head["stream"], "--store", store).answers
        stored[head["stream"].removeprefix("bank_account-")] = [
            (event["type"], event["data"]["amount"]) for event in events
        ]
    return stored
