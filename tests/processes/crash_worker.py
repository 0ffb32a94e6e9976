"""A process that runs the bank in children, each of which kills itself at one of its writes.

python -m tests.processes.crash_worker URL FIRST STEP MOST SIGNAL

Child number n asks for a transfer, and dies at its n-th write: before it, or right after it was acknowledged; or it stands
still there until another one has taken over. Each begins
with what the one before left, and with more than a thousand commands of others on the accounts. The last one that
finishes leaves everything settled.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec

from examples.bank.account import Close, Deposit
from examples.bank.app import app, bank_account, money_transfer
from examples.bank.transfer import Accept, NotPossible, Request
from rehydrate import Limits, open_store
from rehydrate.errors import StoreError
from rehydrate.store.port import ANY_VERSION, Appended, AppendWaiter, Checkpoint, NewEvent, Store, ViewChange


def limits_for(url: str) -> Limits:
    """Short, and yet so long that a stream can be searched for a command within the time that a sender is sure of."""
    return Limits(takeover_after=2 if url.startswith("nats:") else 0.5, shutdown_timeout=5)


OTHERS = 1_100
"""More than the window in which an actor recognises a command without being told how far to look."""
START = 10_000
ACCOUNTS = ("ada", "bob")
CLOSED = "eve"


class Deadly:
    """A store whose user is killed at a write."""

    def __init__(self, store: Store, at: int, with_signal: int) -> None:
        self._store = store
        self._left = at
        self._signal = with_signal

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def _step(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), self._signal)

    def submit(
        self,
        stream: str,
        events: Sequence[NewEvent],
        expected_version: int,
        waiter: AppendWaiter,
        last_id: str = "",
        last_position: int = 0,
    ) -> Appended | StoreError | None:
        self._step()
        outcome = self._store.submit(
            stream, events, expected_version, _Waiter(self, waiter), last_id, last_position
        )
        if outcome is not None:
            self._step()
        return outcome

    async def save_checkpoint(
        self, checkpoint: Checkpoint, *, previous: Checkpoint | None, views: Sequence[ViewChange] = ()
    ) -> bool:
        self._step()
        saved = await self._store.save_checkpoint(checkpoint, previous=previous, views=views)
        self._step()
        return saved

    def acknowledged(self) -> None:
        self._step()


class _Waiter:
    def __init__(self, store: Deadly, waiter: AppendWaiter) -> None:
        self._store = store
        self._waiter = waiter

    def append_done(self, outcome: Appended | StoreError) -> None:
        self._store.acknowledged()
        self._waiter.append_done(outcome)


async def child(url: str, number: int, with_signal: int, *, is_last: bool) -> None:
    store = await open_store(url)
    await others(store, number)
    deadly: Any = store if is_last else Deadly(store, number, with_signal)
    async with app.open(deadly, limits=limits_for(url)) as bank:
        target = CLOSED if number % 3 == 0 else "bob"
        amount = START * 10_000 if number % 5 == 0 else 7
        transfer = f"t{number}"
        await bank.dispatch(money_transfer, transfer, Request(transfer, "ada", target, amount))
        # Whoever stood still in between may come too late.
        with suppress(NotPossible):
            await bank.dispatch(money_transfer, transfer, Accept())
        await at_rest(store, bank)
    await store.close()


async def others(store: Store, number: int) -> None:
    """So much that somebody else has the accounts do."""
    data = b'{"amount":1}'
    for account in ACCOUNTS:
        events = [
            NewEvent(
                f"{account}-{number}-{n}", "Deposited", data, b'{"command_id":"other %d-%d"}' % (number, n)
            )
            for n in range(OTHERS)
        ]
        await store.append(bank_account.stream(account), events, expected_version=ANY_VERSION)


async def at_rest(store: Store, bank: Any) -> None:
    """Return when all consumers are at the end of the log and nothing follows any more."""
    while True:
        head = (await store.head()).position
        await asyncio.sleep(0.01)
        consumers = bank.statistics().consumers
        is_sent = not any(one.parked for one in consumers)
        if is_sent and min(one.position for one in consumers) >= head == (await store.head()).position:
            return


async def opened(url: str) -> None:
    async with app.open(url, consumers=False) as bank:
        for account in ACCOUNTS:
            await bank.dispatch(bank_account, account, Deposit(START))
        await bank.dispatch(bank_account, CLOSED, Close())


def in_child(url: str, number: int, with_signal: int = signal.SIGKILL, *, is_last: bool = False) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            asyncio.run(child(url, number, with_signal, is_last=is_last))
            code = 0
        except BaseException:  # noqa: BLE001 - this is the end of the process, and somebody reads what it says
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        return os.waitstatus_to_exitcode(status)
    # It stands still. Another one takes over, and ends what it began; then it goes on where it stood.
    assert in_child(url, number + 2_000_000, is_last=True) == 0
    os.kill(pid, signal.SIGCONT)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return -signal.SIGSTOP


def main(url: str, first: int, step: int, most: int, with_signal: int) -> None:
    number, killed = first, 0
    while killed < most:
        code = in_child(url, number, with_signal)
        if code != -with_signal:
            assert code == 0, f"child {number} ended with {code}"
            break
        killed += 1
        number += step
    # The number of writes of a run is the number of places to die at: the loop has seen them all when one survives.
    assert in_child(url, number + 1_000_000, is_last=True) == 0
    sys.stdout.write(msgspec.json.encode({"killed": killed}).decode() + "\n")


if __name__ == "__main__":
    asyncio.run(opened(sys.argv[1]))
    main(sys.argv[1], *map(int, sys.argv[2:]))
