"""An application of a bank with its callers: `python -m tests.faults.cluster.application JSON`.

The argument is an `Orders`. It says `ready` on stdout when the runtime is open, and calls from then on until a line, or
the end, comes on stdin; then every caller gets the answer that it waits for, and the runtime is closed. At SIGTERM it
closes at once, under its callers.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys
from pathlib import Path
from typing import Final

import msgspec

from rehydrate import (
    CommandTimeoutError,
    MailboxFullError,
    OutcomeUnknownError,
    RehydrateError,
    Runtime,
    StoreUnavailableError,
    VersionConflictError,
)
from tests.faults.cluster.bank import (
    CODE,
    Command,
    Deposit,
    Gift,
    InsufficientFunds,
    Split,
    Withdraw,
    account,
    app,
)
from tests.faults.cluster.journal import Failed, Journal, Refused, Shown, Stored
from tests.faults.cluster.skew import Skew, SkewedClock

REPEATED: Final = (
    OutcomeUnknownError,
    StoreUnavailableError,
    CommandTimeoutError,
    MailboxFullError,
    VersionConflictError,
)
"""What is answered with the same command again, under the same id, as the documentation advises."""


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    store: str
    cluster: str | None = None
    journal: str
    accounts: int = 120
    callers: int = 12
    pause: float = 0.05
    """Seconds that a caller does something else between two calls."""
    timeout: float = 10.0
    """Seconds that a caller waits for one attempt."""
    skew: Skew | None = None


class Callers:
    """People at a bank: they mostly pay in, some take out what they may not have, some look."""

    def __init__(self, bank: Runtime, orders: Orders, journal: Journal) -> None:
        self._bank = bank
        self._orders = orders
        self._journal = journal
        self._chance = random.Random()
        self._questions = 0
        self.is_over = False

    async def call(self) -> None:
        """One caller, who comes again and again."""
        orders, chance = self._orders, self._chance
        # Not all at once.
        await asyncio.sleep(chance.random() * orders.pause)
        while not self.is_over:
            self._questions += 1
            id = f"{orders.name}/{self._questions}"
            await self._insist(id, f"a{chance.randrange(orders.accounts)}", self._wish())
            await asyncio.sleep(orders.pause * chance.uniform(0.5, 1.5))

    def _wish(self) -> Command | None:
        """A command, or None to see the state."""
        chance, kind = self._chance, self._chance.random()
        if kind < 0.15:
            return None
        if kind < 0.35:
            return Withdraw(chance.randint(1, 60))
        if kind < 0.45:
            parts = chance.randint(2, 4)
            return Split(parts * chance.randint(1, 9), parts)
        if kind < 0.55 and CODE > 1:
            return Gift(chance.randint(1, 9))
        return Deposit(chance.randint(1, 9))

    async def _insist(self, id: str, name: str, wish: Command | None) -> None:
        """Attempt it until there is an answer."""
        while True:
            if await self._attempt(id, name, wish):
                return
            await asyncio.sleep(self._chance.uniform(0.05, 0.15))

    async def _attempt(self, id: str, name: str, wish: Command | None) -> bool:
        journal = self._journal
        parts = wish.parts if isinstance(wish, Split) else 1
        n = journal.ask(name, id, amount=_amount(wish), parts=parts)
        try:
            if wish is None:
                state = await self._bank.state(account, name)
                journal.write(Shown(n, now(), state.version, state.balance))
            else:
                done = await self._bank.dispatch(
                    account, name, wish, command_id=id, timeout=self._orders.timeout
                )
                journal.write(Stored(n, now(), done.version, done.position))
        except InsufficientFunds as no:
            facts = no.facts
            journal.write(Refused(n, now(), _int(facts["version"]), _int(facts["balance"])))
        except RehydrateError as error:
            journal.write(Failed(n, now(), type(error).__name__, _stored(error)))
            # Others are written down as well, and are for the test to see: nobody is answered any more when it closes.
            return not isinstance(error, REPEATED)
        return True


def _amount(wish: Command | None) -> int:
    if wish is None:
        return 0
    return -wish.amount if isinstance(wish, Withdraw) else wish.amount


def _int(fact: object) -> int:
    assert isinstance(fact, int)
    return fact


def _stored(error: RehydrateError) -> bool | None:
    match error:
        case OutcomeUnknownError():
            return None
        case StoreUnavailableError():
            return error.stored
        case _:
            return False


def now() -> float:
    # The one that all processes of the machine share, and not the runtime's, which may be skewed.
    return asyncio.get_running_loop().time()


async def main(orders: Orders) -> None:
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    leaves = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, leaves.set)
    loop.add_reader(sys.stdin, told.set)
    journal = Journal(Path(orders.journal))
    clock = SkewedClock(orders.skew) if orders.skew else None
    async with asyncio.TaskGroup() as calling:
        async with app.open(orders.store, cluster=orders.cluster, clock=clock) as bank:
            callers = Callers(bank, orders, journal)
            tasks = [calling.create_task(callers.call()) for _ in range(orders.callers)]
            print("ready", flush=True)  # noqa: T201 - it is what the test waits for
            ends = [loop.create_task(event.wait()) for event in (told, leaves)]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            callers.is_over = True
            for end in ends:
                end.cancel()
            if not leaves.is_set():
                await asyncio.wait(tasks)
        for task in tasks:
            task.cancel()
    journal.close()


if __name__ == "__main__":
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(main(msgspec.json.decode(sys.argv[1], type=Orders)))
