"""Nodes are killed, stopped and started at random, while callers on two others keep the books."""

from __future__ import annotations

import random

import pytest

from rehydrate import Runtime
from rehydrate.testing.clock import until
from tests.cluster.cluster_nodes import node, quick
from tests.cluster.processes import Caller, calling, check, processes, progress, start
from tests.faults.workers import Worker

IDS = [f"account{number}" for number in range(20)]
ROUNDS = 12


@pytest.fixture
def store(postgres_url: str) -> str:
    return postgres_url


@pytest.mark.slow  # Leases lapse in real time, again and again.
@pytest.mark.parametrize("seed", [1, 2])
async def test_whatever_happens_to_nodes_each_command_is_stored_once(
    store: str, nats_url: str, seed: int
) -> None:
    chance = random.Random(seed)
    cluster = quick(nats_url, ttl=2, patience=0.3)
    async with (
        node(store, cluster) as here,
        node(store, cluster) as there,
        processes(store, cluster, 3) as workers,
    ):
        async with calling(here, IDS) as ours, calling(there, IDS) as theirs:
            for _ in range(ROUNDS):
                await _strike(chance, workers, here, [*ours, *theirs], (store, cluster))
                await progress([*ours, *theirs])
        for worker in workers:
            worker.resume()
        await until(lambda: here.statistics().nodes == 2 + len(workers))
    await check(store, [*ours, *theirs])


async def _strike(
    chance: random.Random,
    workers: list[Worker],
    here: Runtime,
    callers: list[Caller],
    where: tuple[str, str],
) -> None:
    """Something happens to one of them, once all are there."""
    await until(lambda: here.statistics().nodes == 2 + len(workers))
    struck = workers.pop(chance.randrange(len(workers)))
    match chance.choice(["kill", "pause", "pause for long"]):
        case "kill":
            await struck.kill()
            struck = await start(*where)
            await struck.ready()
        case "pause":
            struck.pause()
            await progress(callers, 1)
            struck.resume()
        case _:
            nodes = here.statistics().nodes
            struck.pause()
            await until(lambda: here.statistics().nodes < nodes)
            struck.resume()
    workers.append(struck)
