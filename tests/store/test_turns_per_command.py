"""How many turns of the event loop a command takes whose caller waits for it: counted, and not in time.

Between two of them the loop lets go of the interpreter's lock, and takes it from the thread that writes.
"""

from __future__ import annotations

import asyncio
import selectors
from pathlib import Path

from rehydrate import Runtime
from tests.bank import Deposit, account, app

COMMANDS = 8
TRIES = 20


class CountingSelector(selectors.DefaultSelector):
    """An event loop looks at it once in each turn."""

    turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.turns += 1
        return super().select(timeout)


def turns_per_command(url: str) -> float:
    """The least of several tries: in others a timer had a turn of its own."""
    selector = CountingSelector()

    async def measure() -> float:
        async with app.open(url) as bank:
            await _commands(bank)
            return min([await _turns_of_some(bank, selector) for _ in range(TRIES)])

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        return runner.run(measure())


async def _turns_of_some(bank: Runtime, selector: CountingSelector) -> float:
    before = selector.turns
    await _commands(bank)
    return (selector.turns - before) / COMMANDS


async def _commands(bank: Runtime) -> None:
    for _ in range(COMMANDS):
        await bank.dispatch(account, "client", Deposit(1))


def test_sqlite(tmp_path: Path) -> None:
    """One in which the thread is heard and one in which the caller is, with his next append at its end."""
    assert turns_per_command(f"sqlite:///{tmp_path}/bank.db") <= 2


def test_postgres(postgres_url: str) -> None:
    """One more, because the answer wakes the task that writes, and that the caller."""
    assert turns_per_command(postgres_url) <= 3
