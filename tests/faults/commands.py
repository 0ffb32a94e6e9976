"""The commands that the fault tests hand out."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count, islice

from tests.faults.worker import Run


def endless_commands(accounts: int, chance: random.Random) -> Iterator[Run]:
    """Mostly deposits; some of several events, some that may be refused. An id tells how many events there will be."""
    for n in count():
        name = f"account{chance.randrange(accounts)}"
        kind = chance.random()
        if kind < 0.8:
            yield Run(id=f"c{n}/1", account=name, amount=chance.randint(1, 9))
        elif kind < 0.9:
            parts = chance.randint(2, 4)
            yield Run(id=f"c{n}/{parts}", account=name, amount=parts * chance.randint(1, 9), parts=parts)
        else:
            yield Run(id=f"c{n}/1", account=name, amount=-chance.randint(1, 100))


def some_commands(number: int, accounts: int, chance: random.Random) -> list[Run]:
    """The first of them."""
    return list(islice(endless_commands(accounts, chance), number))


def parts_of(command_id: str) -> int:
    """Of how many events the command is."""
    return int(command_id.rpartition("/")[2])
