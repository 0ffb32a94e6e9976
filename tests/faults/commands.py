"""The commands that the fault tests hand out."""

from __future__ import annotations

import random

from tests.faults.worker import Run


def some_commands(count: int, accounts: int, chance: random.Random) -> list[Run]:
    """Mostly deposits; some of several events, some that may be refused."""
    commands: list[Run] = []
    for n in range(count):
        name = f"account{chance.randrange(accounts)}"
        kind = chance.random()
        if kind < 0.8:
            commands.append(Run(id=f"c{n}", account=name, amount=chance.randint(1, 9)))
        elif kind < 0.9:
            parts = chance.randint(2, 4)
            commands.append(Run(id=f"c{n}", account=name, amount=parts * chance.randint(1, 9), parts=parts))
        else:
            commands.append(Run(id=f"c{n}", account=name, amount=-chance.randint(1, 100)))
    return commands
