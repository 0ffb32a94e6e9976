"""More is asked for than there are connections: appends go on, and what cannot be had is said, and had again later."""

from __future__ import annotations

import asyncio
from asyncio import to_thread
from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest

from rehydrate import Runtime, StoreUnavailableError
from rehydrate.testing.clock import until
from rehydrate.testing.proxy import Proxy
from rehydrate.testing.servers import PostgresServer
from rehydrate.testing.wire import Message
from tests.bank import Account, Deposit, account, app
from tests.faults.real_servers import impatient, with_options

PATIENCE = 20.0
"""Seconds within which whatever is not held up has to be answered."""


def brings_an_event(message: Message) -> bool:
    return message.name in {"Bind", "insert", "update"} and b"Deposited" in message.data


@pytest.fixture
def server_url(request: pytest.FixtureRequest, kind: str) -> str:
    return str(request.getfixturevalue(f"{kind}_url"))


@pytest.fixture
async def proxy(server_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(server_url) as proxy:
        yield proxy


@pytest.fixture
async def bank(proxy: Proxy, kind: str) -> AsyncIterator[Runtime]:
    """With two connections to read, and accounts that are loaded."""
    bound = {"pool": 2} if kind == "postgres" else {"readers": 2}
    async with app.open(with_options(proxy.url, **bound)) as bank:
        for n in range(10):
            await bank.dispatch(account, f"account{n}", Deposit(1))
        yield bank


@pytest.mark.parametrize("kind", ["postgres", "mongodb"])
async def test_readers_who_take_all_connections_hold_up_no_append(
    bank: Runtime, proxy: Proxy, kind: str
) -> None:
    """Fifty read at once, and the network gives none of them an answer."""
    connections: set[int] = set()
    proxy.on_message = lambda message: (
        connections.add(message.connection) if brings_an_event(message) else None
    )
    await bank.dispatch(account, "account0", Deposit(1))
    (appending,) = connections

    reads = "Bind" if kind == "postgres" else "find"
    held = [
        proxy.hold(reads, where=lambda message: message.connection != appending, after=n) for n in range(2)
    ]
    reading = [asyncio.create_task(bank.store.read_all(limit=100)) for _ in range(50)]
    for one in held:
        await one.reached()

    async with asyncio.timeout(PATIENCE):
        for n in range(100):
            await bank.dispatch(account, f"account{n % 10}", Deposit(1))
    assert not any(task.done() for task in reading), "there were more connections than two"

    for one in held:
        one.release()
    pages = await asyncio.gather(*reading)
    assert min(len(page.events) for page in pages) >= 11
    assert await bank.state(account, "account1") == Account(11, 11)


async def test_a_server_that_takes_no_more_connections_is_said_to_and_then_the_service_resumes(
    start_postgres: Callable[..., PostgresServer],
) -> None:
    """Strangers have taken all that there are, also those that are kept for the superuser."""
    server = await to_thread(
        start_postgres, settings={"max_connections": "12", "superuser_reserved_connections": "1"}
    )
    url = impatient(server.fresh_url())
    strangers: list[asyncpg.Connection[asyncpg.Record]] = []
    async with Proxy(url) as proxy, app.open(proxy.url) as bank:
        await bank.dispatch(account, "ada", Deposit(1))
        proxy.cut()
        await until(lambda: not proxy.connections)
        await _take_all(url, strangers)

        for n in range(3):
            with pytest.raises(StoreUnavailableError, match=r"connection slots|too many clients") as no:
                await bank.dispatch(account, "ada", Deposit(1), command_id=f"no {n}")
            assert (no.value.stored, no.value.retryable) == (False, True)
        with pytest.raises(StoreUnavailableError, match=r"connection slots|too many clients"):
            await bank.state(account, "bob")
        with pytest.raises(StoreUnavailableError, match=r"connection slots|too many clients"):
            async with app.open(url):
                pass

        for stranger in strangers:
            await stranger.close()
        async with asyncio.timeout(PATIENCE):
            result = await _until_there_is_one(bank)
        assert result == 2
        assert await bank.state(account, "ada") == Account(2, 2)


async def _take_all(url: str, strangers: list[asyncpg.Connection[asyncpg.Record]]) -> None:
    """Also those that the server still frees of the ones that were cut."""
    refused = 0
    while refused < 5:
        try:
            strangers.append(await asyncpg.connect(url.partition("?")[0]))
        except asyncpg.TooManyConnectionsError:
            refused += 1


async def _until_there_is_one(bank: Runtime) -> int:
    while True:
        try:
            return (await bank.dispatch(account, "ada", Deposit(1), command_id="yes")).version
        except StoreUnavailableError:
            await asyncio.sleep(0.01)
