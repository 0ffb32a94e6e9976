"""A network that fails between the processes and the server: connections are cut, stand still, lose answers, are refused."""

from __future__ import annotations

import asyncio
import random
from asyncio import gather
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from rehydrate import open_store
from rehydrate.testing.clock import until
from rehydrate.testing.proxy import Proxy
from rehydrate.testing.wire import Message
from tests.faults.campaign import Campaign, verify
from tests.faults.commands import endless_commands
from tests.faults.reader import reader_of
from tests.faults.real_servers import impatient
from tests.faults.workers import workers_on

Trouble = Callable[[Proxy, Campaign], Coroutine[Any, Any, None]]

_REQUESTS = ("Sync", "insert", "update", "find", "aggregate")
"""What ends a request to PostgreSQL, and requests to MongoDB."""


@pytest.fixture(params=["postgres", "mongodb"])
def server_url(request: pytest.FixtureRequest) -> str:
    return impatient(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
async def proxy(server_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(server_url) as proxy:
        yield proxy


async def cuts_every_connection(proxy: Proxy, campaign: Campaign) -> None:
    for _ in range(10):
        proxy.cut()
        await campaign.get_on(20)


async def loses_answers(proxy: Proxy, campaign: Campaign) -> None:
    """Each time the server has done what it was asked for, and nobody hears of it."""
    for n in range(20):
        lost = proxy.lose_answer(*_REQUESTS, after=7 * n % 5)
        await lost.happened()
    await campaign.get_on(1)


async def loses_answers_to_appends(proxy: Proxy, campaign: Campaign) -> None:
    """The same, where it matters most: an event was stored."""
    for _ in range(20):
        lost = proxy.lose_answer(where=_appends)
        await lost.happened()
    await campaign.get_on(1)


def _appends(message: Message) -> bool:
    """Whether it brings an event; of what PostgreSQL is told, only the parameters do."""
    return message.name in {"Bind", "insert", "update"} and b"Deposited" in message.data


async def refuses_connections(proxy: Proxy, campaign: Campaign) -> None:
    """As a server does that is not there, until everybody has noticed."""
    proxy.refuse()
    proxy.cut()
    await _everybody_notices(campaign)
    await proxy.accept()


async def stands_still(proxy: Proxy, campaign: Campaign) -> None:
    """Longer than anybody waits for an answer."""
    proxy.stall()
    await _everybody_notices(campaign)
    proxy.go_on()


async def stands_still_towards_the_server(proxy: Proxy, campaign: Campaign) -> None:
    proxy.stall(to_client=False)
    await _everybody_notices(campaign)
    proxy.go_on()


async def stands_still_towards_the_clients(proxy: Proxy, campaign: Campaign) -> None:
    """All that is sent is done, and nobody hears of it."""
    proxy.stall(to_server=False)
    await _everybody_notices(campaign)
    proxy.go_on()


async def _everybody_notices(campaign: Campaign) -> None:
    """Each process says of a new account that the store is not available."""
    assert all(await gather(*[slot.worker.cannot_read() for slot in campaign.slots]))


async def _run(
    server_url: str, proxy: Proxy, trouble: Trouble, chance: random.Random, *, times: int, processes: int
) -> None:
    async with (
        workers_on(proxy.url) as workers,
        reader_of(proxy.url) as reader,
        reader_of(server_url) as undisturbed,
    ):
        campaign = Campaign(workers, at_a_time=16, with_cause=True)

        async def again_and_again() -> None:
            await campaign.get_on(100)
            for _ in range(times):
                await trouble(proxy, campaign)
                await campaign.get_on(chance.randint(1, 200))

        await campaign.run_through(again_and_again(), endless_commands(40, chance), processes=processes)
        await verify(server_url, campaign, reader, undisturbed)
        assert undisturbed.refused == 0, "a network that fails elsewhere is none of its business"


@pytest.mark.parametrize(
    ("server_url", "trouble"),
    [
        ("postgres", cuts_every_connection),
        ("postgres", loses_answers_to_appends),
        ("postgres", refuses_connections),
        ("postgres", stands_still),
        ("mongodb", cuts_every_connection),
        ("mongodb", loses_answers_to_appends),
        # They wait for time-outs of the driver.
        pytest.param("mongodb", refuses_connections, marks=pytest.mark.slow),
        pytest.param("mongodb", stands_still, marks=pytest.mark.slow),
    ],
    indirect=["server_url"],
)
async def test_a_network_fails_under_load_and_the_service_resumes_by_itself(
    server_url: str, proxy: Proxy, trouble: Trouble, chance: random.Random
) -> None:
    await _run(server_url, proxy, trouble, chance, times=1, processes=2)


@pytest.mark.slow  # It takes up to a minute of real time.
@pytest.mark.parametrize(
    "trouble",
    [
        cuts_every_connection,
        loses_answers,
        loses_answers_to_appends,
        refuses_connections,
        stands_still,
        stands_still_towards_the_server,
        stands_still_towards_the_clients,
    ],
)
async def test_a_network_fails_again_and_again_under_the_load_of_four_processes(
    server_url: str, proxy: Proxy, trouble: Trouble, chance: random.Random
) -> None:
    await _run(server_url, proxy, trouble, chance, times=3, processes=4)


async def test_a_caller_who_gave_up_during_an_outage_leaves_nothing_behind(
    server_url: str, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """What nobody waits for any more fails without a word."""
    store = await open_store(proxy.url)
    try:
        assert await store.versions(["bank_account-ada"]) == [0]
        proxy.refuse()
        proxy.cut()
        reading = asyncio.create_task(store.read_all())
        await asyncio.sleep(0)
        reading.cancel()
        await until(reading.done)
    finally:
        await store.close()
    assert not [record for record in caplog.records if record.name == "asyncio"], caplog.text
