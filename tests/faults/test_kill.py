"""Processes that are killed (`kill -9`) while they work: nothing acknowledged is lost, nothing is doubled."""

from __future__ import annotations

import random

import pytest

from tests.bank import account, app
from tests.faults.campaign import Campaign, verify
from tests.faults.commands import some_commands
from tests.faults.reader import reader_of
from tests.faults.workers import workers_on


async def test_ten_thousand_commands_from_eight_processes_killed_at_random_are_there_exactly_once(
    url: str, chance: random.Random
) -> None:
    await _run(url, chance, count=10_000, processes=8, kills=40)


@pytest.mark.parametrize("url", ["postgres", "mongodb"], indirect=True)
async def test_commands_from_processes_killed_at_random_are_on_the_server_exactly_once(
    url: str, chance: random.Random
) -> None:
    await _run(url, chance, count=1_500, processes=3, kills=6)


@pytest.mark.slow  # It starts a hundred processes.
@pytest.mark.parametrize("url", ["postgres", "mongodb"], indirect=True)
async def test_ten_thousand_commands_from_eight_processes_killed_at_random_are_on_the_server_exactly_once(
    url: str, chance: random.Random
) -> None:
    await _run(url, chance, count=10_000, processes=8, kills=40)


async def _run(url: str, chance: random.Random, *, count: int, processes: int, kills: int) -> None:
    commands = some_commands(count, 40, chance)
    async with workers_on(url) as workers, reader_of(url) as reader:
        campaign = Campaign(workers, commands, at_a_time=16)
        await campaign.run(processes, kills=[chance.randrange(count) for _ in range(kills)], chance=chance)
        await verify(url, campaign, reader)


async def test_what_a_killed_runtime_acknowledged_is_there_with_the_same_version_and_position(
    url: str, chance: random.Random
) -> None:
    """On two accounts, so that the window of recent ids does not reach back to all commands, and their cause must."""
    commands = some_commands(6_000, 2, chance)
    kills = [chance.randrange(len(commands)) for _ in range(10)]
    async with workers_on(url) as workers:
        campaign = Campaign(workers, commands, at_a_time=200, with_cause=True)
        await campaign.run(1, kills=kills, chance=chance)
    await verify(url, campaign)
    async with app.open(url) as bank:
        for id in chance.sample(sorted(campaign.stored), 200):
            order, answer = campaign.commands[id], campaign.stored[id]
            again = await bank.dispatch(account, order.account, order.command, command_id=id, caused_at=0)
            assert (again.version, again.position) == (answer.version, answer.position)
    await verify(url, campaign)
