"""An append that lands late: its request stands still in the network while the actor repeats it over another connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from rehydrate import Runtime
from rehydrate.runtime.window import metadata_in
from rehydrate.testing.proxy import Proxy
from rehydrate.testing.wire import Message
from tests.bank import Account, Deposit, account, app
from tests.faults.campaign import whole_log
from tests.faults.real_servers import impatient


@pytest.fixture(params=["postgres_url", "mongodb_url"])
def server_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return impatient(url)


@pytest.fixture
async def proxy(server_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(server_url) as proxy:
        yield proxy


@pytest.fixture
async def bank(proxy: Proxy) -> AsyncIterator[Runtime]:
    """The bank whose appends go through the proxy; it has an account already."""
    async with app.open(proxy.url) as bank:
        await bank.dispatch(account, "ada", Deposit(1), command_id="first")
        yield bank


@pytest.fixture
async def other(server_url: str) -> AsyncIterator[Runtime]:
    """The bank in another process, so to say, with a network of its own."""
    async with app.open(server_url) as other:
        yield other


def brings_an_event(message: Message) -> bool:
    """Whether it is what an append sends; of what PostgreSQL is told, only the parameters hold it."""
    return message.name in {"Bind", "insert", "update"} and b"Deposited" in message.data


async def deposit(bank: Runtime, id: str) -> tuple[int, int]:
    """Deposit 10 with the command of that id: the version and the position of its event."""
    result = await bank.dispatch(account, "ada", Deposit(10), command_id=id)
    return result.version, result.position


async def stored_ids(bank: Runtime) -> list[str]:
    return [metadata_in(event).command_id for event in await whole_log(bank.store)]


@pytest.mark.parametrize("part", [0.0, 0.5], ids=["all of it", "its second half"])
async def test_an_append_that_arrives_after_the_repeat_of_it_is_stored_once(
    bank: Runtime, other: Runtime, proxy: Proxy, part: float
) -> None:
    held = proxy.hold(where=brings_an_event, part=part)
    late = asyncio.create_task(deposit(bank, "late"))
    await held.reached()
    held.cut_client()
    assert await late == (2, 2)
    held.release()
    await held.answered()
    assert await stored_ids(other) == ["first", "late"]
    assert await deposit(other, "late") == (2, 2)
    assert await bank.state(account, "ada") == await other.state(account, "ada") == Account(11, 2)


async def test_an_append_that_arrives_after_others_took_its_place_is_never_stored_at_a_stale_state(
    bank: Runtime, other: Runtime, proxy: Proxy
) -> None:
    """Its commands are decided again on what the others stored, and what was sent first comes too late for ever."""
    held = proxy.hold(where=brings_an_event)
    late = asyncio.create_task(deposit(bank, "late"))
    await held.reached()
    assert [await deposit(other, id) for id in ("faster", "again")] == [(2, 2), (3, 3)]
    held.cut_client()
    assert await late == (4, 4)
    held.release()
    await held.answered()
    assert await stored_ids(bank) == ["first", "faster", "again", "late"]
    assert await bank.state(account, "ada") == await other.state(account, "ada") == Account(31, 4)


async def test_an_append_that_arrives_after_somebody_else_repeated_its_command_is_stored_once(
    bank: Runtime, other: Runtime, proxy: Proxy
) -> None:
    held = proxy.hold(where=brings_an_event)
    late = asyncio.create_task(deposit(bank, "late"))
    await held.reached()
    assert await deposit(other, "late") == (2, 2)
    assert await deposit(other, "next") == (3, 3)
    held.release()
    assert await late == (2, 2)
    assert await stored_ids(bank) == ["first", "late", "next"]


async def test_of_two_appends_of_one_process_that_arrive_late_each_is_stored_once(
    bank: Runtime, other: Runtime, proxy: Proxy
) -> None:
    """The repeat is held up, too, and both requests arrive when the third has been answered."""
    first, second = proxy.hold(where=brings_an_event), proxy.hold(where=brings_an_event, after=1)
    late = asyncio.create_task(deposit(bank, "late"))
    await first.reached()
    first.cut_client()
    await second.reached()
    second.cut_client()
    assert await late == (2, 2)
    for held in (second, first):
        held.release()
        await held.answered()
    assert await stored_ids(other) == ["first", "late"]
    assert await deposit(bank, "next") == (3, 3)


async def test_a_command_whose_answer_was_lost_is_answered_with_its_first_result(
    bank: Runtime, other: Runtime, proxy: Proxy
) -> None:
    """The request arrived, the events are there, and the connection is cut before anybody hears of it."""
    for n in range(5):
        lost = proxy.lose_answer(where=brings_an_event)
        assert await deposit(bank, f"lost {n}") == (n + 2, n + 2)
        assert lost.has_happened
    assert await stored_ids(other) == ["first", *(f"lost {n}" for n in range(5))]
    assert await bank.state(account, "ada") == await other.state(account, "ada") == Account(51, 6)
