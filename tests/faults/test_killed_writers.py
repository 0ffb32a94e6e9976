"""Many processes on one file, killed and started again: every command is there exactly once."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter, deque
from pathlib import Path
from typing import Any

from rehydrate import open_store
from rehydrate.store.port import StoredEvent
from tests.faults.workers import Worker

COMMANDS = 10_000
PROCESSES = 8
ACCOUNTS = 50
KILLS = 24
IN_FLIGHT = 64


class Supervisor:
    """Hands orders to one process after another, kills it now and then, and repeats what was not answered."""

    def __init__(self, url: str, orders: deque[dict[str, Any]], lots: random.Random) -> None:
        self.url = url
        self.orders = orders
        self.lots = lots
        self.answers: dict[int, dict[str, Any]] = {}
        self.kills_left = KILLS

    async def run_one(self) -> None:
        """One place for a process, from the first to the last order."""
        while self.orders:
            await self._one_life(await Worker.start(self.url))

    async def _one_life(self, worker: Worker) -> None:
        asked: dict[int, dict[str, Any]] = {}
        dies_after = self.lots.randrange(50, 500)
        heard = 0
        try:
            while self.orders or asked:
                while self.orders and len(asked) < IN_FLIGHT:
                    order = self.orders.popleft()
                    asked[order["n"]] = order
                    worker.send(**order)
                answer = await worker.hear()
                assert answer is not None, "a worker died that nobody killed"
                order = asked.pop(answer["n"])
                heard += 1
                if "error" in answer:
                    # Eight processes on fifty accounts may be in each other's way once too often.
                    assert answer["error"] == "VersionConflictError", answer
                    self.orders.append(order)
                else:
                    self.answers[answer["n"]] = answer
                if heard >= dies_after and self.kills_left:
                    self.kills_left -= 1
                    return
            await worker.finish()
        finally:
            if worker.process.returncode is None:
                await worker.kill()
            self.orders.extend(asked.values())


async def test_commands_of_eight_processes_that_are_killed_at_random_are_there_exactly_once(
    tmp_path: Path,
) -> None:
    seed = random.randrange(2**32)
    sys.stdout.write(f"seed {seed}\n")
    lots = random.Random(seed)
    url = f"sqlite:///{tmp_path}/bank.db?busy_timeout=60"
    orders = [
        {
            "n": n,
            "id": f"a{lots.randrange(ACCOUNTS)}",
            "command_id": f"c{n}",
            "amount": lots.randrange(1, 100),
        }
        for n in range(COMMANDS)
    ]
    supervisor = Supervisor(url, deque(orders), lots)
    async with asyncio.TaskGroup() as places:
        for _ in range(PROCESSES):
            places.create_task(supervisor.run_one())
    assert supervisor.kills_left == 0
    assert len(supervisor.answers) == COMMANDS
    stored = await _log(url)
    _check_exactly_once(orders, supervisor.answers, stored)


async def _log(url: str) -> list[StoredEvent]:
    store = await open_store(url)
    events: list[StoredEvent] = []
    try:
        while True:
            page = await store.read_all(after=events[-1].position if events else 0)
            events += page.events
            if page.is_last:
                return events
    finally:
        await store.close()


def _check_exactly_once(
    orders: list[dict[str, Any]], answers: dict[int, dict[str, Any]], stored: list[StoredEvent]
) -> None:
    by_command = {json.loads(event.metadata)["command_id"]: event for event in stored}
    assert len(stored) == len(by_command) == len(orders)
    versions: Counter[str] = Counter()
    for number, event in enumerate(stored, 1):
        versions[event.stream] += 1
        assert event.version == versions[event.stream]
        assert event.position == number
    for order in orders:
        event = by_command[order["command_id"]]
        assert event.stream == f"bank_account-{order['id']}"
        assert json.loads(event.data) == {"amount": order["amount"]}
        answer = answers[order["n"]]
        assert (answer["version"], answer["position"]) == (event.version, event.position)
