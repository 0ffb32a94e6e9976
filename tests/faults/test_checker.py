"""What checks the others is checked: it notices what is lost, doubled, torn apart, moved, or put behind a reader."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import asyncpg
import msgspec
import pytest

from rehydrate import Runtime
from rehydrate.store.port import NewEvent
from rehydrate.testing.clock import until
from tests.bank import account, app
from tests.faults.campaign import Campaign, verify, whole_log
from tests.faults.reader import LogReader
from tests.faults.worker import Run, Stored
from tests.faults.workers import Workers

COMMANDS = [
    Run(id="c0/1", account="ada", amount=5),
    Run(id="c1/3", account="ada", amount=6, parts=3),
    Run(id="c2/1", account="bob", amount=7),
]
INSERT = """
    INSERT INTO rehydrate.events (position, stream, version, id, type, data, metadata, recorded_at, first)
    SELECT $1::bigint, 'bank_account-carl', $1::bigint, 'event ' || $1::bigint, type, data, metadata, 0, 1000 FROM rehydrate.events WHERE position = 1
"""


@pytest.fixture
async def bank(url: str) -> AsyncIterator[Runtime]:
    async with app.open(url) as bank:
        yield bank


async def run(bank: Runtime, url: str) -> Campaign:
    """A campaign in which nothing went wrong."""
    campaign = Campaign(Workers(url), COMMANDS, at_a_time=1)
    for order in COMMANDS:
        done = await bank.dispatch(account, order.account, order.command, command_id=order.id)
        campaign.stored[order.id] = Stored(order.id, done.version, done.position)
    await verify(url, campaign)
    return campaign


async def test_what_was_acknowledged_and_is_not_there_is_noticed(bank: Runtime, url: str) -> None:
    campaign = await run(bank, url)
    campaign.commands["c3/1"] = Run(id="c3/1", account="ada", amount=1)
    campaign.stored["c3/1"] = Stored("c3/1", 5, 6)
    with pytest.raises(AssertionError, match="c3/1"):
        await verify(url, campaign)


async def test_what_was_refused_and_is_there_is_noticed(bank: Runtime, url: str) -> None:
    campaign = await run(bank, url)
    del campaign.stored["c0/1"]
    with pytest.raises(AssertionError, match="c0/1"):
        await verify(url, campaign)


@pytest.mark.parametrize("moved", [{"version": 3}, {"position": 3}])
async def test_what_is_not_where_its_answer_said_is_noticed(
    bank: Runtime, url: str, moved: dict[str, int]
) -> None:
    campaign = await run(bank, url)
    campaign.stored["c1/3"] = msgspec.structs.replace(campaign.stored["c1/3"], **moved)
    with pytest.raises(AssertionError, match="c1/3"):
        await verify(url, campaign)


@pytest.mark.parametrize("which", [0, 1], ids=["of one event", "of several"])
async def test_a_command_that_is_there_twice_is_noticed(bank: Runtime, url: str, which: int) -> None:
    campaign = await run(bank, url)
    first = (await whole_log(bank.store))[which]
    again = NewEvent(id=secrets.token_hex(12), type=first.type, data=first.data, metadata=first.metadata)
    await bank.store.append(first.stream, [again], expected_version=4)
    with pytest.raises(AssertionError, match=COMMANDS[which].id):
        await verify(url, campaign)


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
async def test_an_event_that_is_put_behind_a_reader_is_noticed(bank: Runtime, url: str) -> None:
    campaign = await run(bank, url)
    stranger = await asyncpg.connect(url)
    async with LogReader(bank.store) as reader:
        await stranger.execute(INSERT, 7)
        await until(lambda: reader.seen and reader.seen[-1].position == 7)
        with pytest.raises(AssertionError, match="gaps"):
            await verify(url, campaign, reader)
        await stranger.execute(INSERT, 6)
        with pytest.raises(AssertionError, match=r"behind the reader: .*6, 'event 6'"):
            await reader.finish(await whole_log(bank.store))
    await stranger.close()


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
async def test_a_command_that_a_reader_sees_in_part_is_noticed(bank: Runtime, url: str) -> None:
    await run(bank, url)
    torn = (await whole_log(bank.store))[1]
    part = NewEvent(id=secrets.token_hex(12), type=torn.type, data=torn.data, metadata=torn.metadata)
    await bank.store.append(account.stream("carl"), [part], expected_version=0)
    async with LogReader(bank.store) as reader:
        async with asyncio.timeout(30):
            with pytest.raises(AssertionError, match="c1/3 is there in part"):
                await reader.finish([])
