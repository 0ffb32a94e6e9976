"""A process that is stopped where it stands (SIGSTOP): the others go on, or hear that the store is not available."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rehydrate.testing.clock import HANG_LIMIT
from tests.faults.campaign import Campaign, Slot, verify
from tests.faults.commands import endless_commands
from tests.faults.reader import reader_of
from tests.faults.real_servers import impatient
from tests.faults.worker import Ask, Refused, Run, Shown, Stored
from tests.faults.workers import workers_on

_LOCK = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
connection.execute("ROLLBACK")
"""


@pytest.mark.parametrize("url", ["postgres", "mongodb"], indirect=True)
async def test_a_process_that_is_stopped_under_load_keeps_nobody_from_anything_on_a_server(
    url: str, chance: random.Random
) -> None:
    """Nobody even hears of it: no answer of the others is that the store is not available."""

    async def stop_one_after_the_other() -> None:
        for _ in range(8):
            await campaign.until(_each_was_answered(campaign.slots, 20))
            stopped = chance.choice(campaign.slots)
            others = [slot for slot in campaign.slots if slot is not stopped]
            stopped.worker.pause()
            await campaign.until(_each_was_answered(others, 20))
            stopped.worker.resume()
            await campaign.until(_each_was_answered(campaign.slots, 20))

    async with workers_on(impatient(url)) as workers, reader_of(url) as reader:
        campaign = Campaign(workers, at_a_time=16, with_cause=True)
        await campaign.run_through(stop_one_after_the_other(), endless_commands(10, chance), processes=3)
        await verify(url, campaign, reader)
        assert campaign.errors.keys() <= {"VersionConflictError"}, campaign.errors


async def test_a_process_that_is_stopped_under_load_keeps_the_others_only_until_it_goes_on(
    url: str, chance: random.Random
) -> None:
    accounts = [f"account{n}" for n in range(10)]
    commands = [
        Run(id=f"c{n}", account=chance.choice(accounts), amount=chance.randint(1, 9)) for n in range(5_000)
    ]

    async def stop_one_after_the_other() -> None:
        await campaign.until(lambda: bool(campaign.slots))
        for _ in range(8):
            await campaign.until(_each_was_answered(campaign.slots, 60))
            stopped = chance.choice(campaign.slots)
            others = [slot for slot in campaign.slots if slot is not stopped]
            stopped.worker.pause()
            await campaign.until(_each_was_answered(others, 20))
            stopped.worker.resume()
            await campaign.until(_each_was_answered(campaign.slots, 20))

    async with workers_on(f"{url}?busy_timeout=0.3") as workers:
        campaign = Campaign(workers, commands, at_a_time=16)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(campaign.run(3))
            tasks.create_task(stop_one_after_the_other())
    await verify(url, campaign)


def _each_was_answered(slots: list[Slot], times: int) -> Callable[[], bool]:
    """Whether each process has answered so many commands since now, or has no more to do.

    It may have answered that the store is not available.
    """
    enough = [(slot, slot.answered + times) for slot in slots]
    return lambda: all(slot.answered >= count or not slot.open for slot, count in enough)


async def test_a_process_that_is_stopped_inside_of_a_commit_holds_up_what_is_written_and_nothing_else(
    url: str, tmp_path: Path
) -> None:
    async with workers_on(f"{url}?busy_timeout=0.3") as workers:
        worker = await workers.start()
        first = Run(id="first", account="ada", amount=5)
        assert await worker.ask(first, "first") == Stored("first", 1, 1)
        holder = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _LOCK, str(tmp_path / "bank.db"), stdout=asyncio.subprocess.PIPE
        )
        try:
            assert holder.stdout is not None
            async with asyncio.timeout(HANG_LIMIT):
                assert await holder.stdout.readline() == b"locked\n"
            for n in range(3):
                order = Run(id=f"held{n}", account="ada", amount=1)
                answer = await worker.ask(order, order.id)
                assert answer == Refused(order.id, "StoreUnavailableError"), answer
                assert await worker.ask(Ask(id="ask", account="ada"), "ask") == Shown("ask", 5, 1)
                no = await worker.ask(Run(id=f"no{n}", account="ada", amount=-6), f"no{n}")
                assert isinstance(no, Refused)
                assert no.facts == {"balance": 5, "amount": 6}
        finally:
            holder.send_signal(signal.SIGCONT)
            await holder.wait()
        for n in range(3):
            order = Run(id=f"held{n}", account="ada", amount=1)
            assert await worker.ask(order, order.id) == Stored(order.id, n + 2, n + 2)
        assert await worker.ask(Ask(id="ask", account="ada"), "ask") == Shown("ask", 8, 4)
