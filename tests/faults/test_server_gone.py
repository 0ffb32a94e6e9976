"""A server that goes away under load, in any way: the service resumes by itself, and what was acknowledged is there."""

from __future__ import annotations

import random
from asyncio import gather, to_thread
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.faults.campaign import Campaign, verify
from tests.faults.commands import endless_commands
from tests.faults.reader import reader_of
from tests.faults.real_servers import Server, impatient
from tests.faults.workers import workers_on

Trouble = Callable[[Server, Campaign], Coroutine[Any, Any, None]]


async def is_killed(server: Server, campaign: Campaign) -> None:
    """With all of its processes, and everybody notices before it is there again."""
    await to_thread(server.kill)
    await somebody_notices(campaign)
    await to_thread(server.start)


async def is_killed_and_there_again_at_once(server: Server, _: Campaign) -> None:
    await to_thread(server.kill)
    await to_thread(server.start)


async def is_restarted_in_good_order(server: Server, _: Campaign) -> None:
    await to_thread(server.restart)


async def stands_still(server: Server, campaign: Campaign) -> None:
    """Longer than anybody waits."""
    await to_thread(server.pause)
    try:
        await somebody_notices(campaign)
    finally:
        await to_thread(server.resume)


async def somebody_notices(campaign: Campaign) -> None:
    """Each process says of a new account that the store is not available."""
    assert all(await gather(*[slot.worker.cannot_read() for slot in campaign.slots]))


async def _run(
    server: Server, trouble: Trouble, chance: random.Random, *, times: int, processes: int
) -> None:
    url = impatient(server.fresh_url())
    async with workers_on(url) as workers, reader_of(url) as reader:
        campaign = Campaign(workers, at_a_time=16, with_cause=True)

        async def again_and_again() -> None:
            await campaign.get_on(100)
            for _ in range(times):
                await trouble(server, campaign)
                await campaign.get_on(chance.randint(1, 200))

        await campaign.run_through(again_and_again(), endless_commands(40, chance), processes=processes)
        await verify(url, campaign, reader)


@pytest.mark.parametrize("trouble", [is_killed, is_restarted_in_good_order])
async def test_a_server_goes_away_under_load_and_the_service_resumes_by_itself(
    server: Server, trouble: Trouble, chance: random.Random
) -> None:
    await _run(server, trouble, chance, times=1, processes=2)


@pytest.mark.slow  # It takes up to a minute of real time.
@pytest.mark.parametrize("server", ["postgres", "postgres 16", "mongodb"], indirect=True)
@pytest.mark.parametrize(
    "trouble", [is_killed_and_there_again_at_once, is_killed, is_restarted_in_good_order, stands_still]
)
async def test_a_server_goes_away_again_and_again_under_the_load_of_four_processes(
    server: Server, trouble: Trouble, chance: random.Random
) -> None:
    await _run(server, trouble, chance, times=6, processes=4)
