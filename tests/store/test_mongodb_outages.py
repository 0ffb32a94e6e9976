"""Nobody waits for ever: neither in an outage, nor for a task of the store that somebody has cancelled."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, cast

import pytest

from rehydrate.errors import StoreClosedError, StoreError, StoreUnavailableError
from rehydrate.store.port import Appended, NewEvent, Store
from rehydrate.store.url import open_store
from rehydrate.testing.clock import settle
from rehydrate.testing.conformance.material import events, fill, lot, sound_log
from rehydrate.testing.proxy import Proxy
from rehydrate.testing.wire import Message


@pytest.fixture
async def proxy(mongodb_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(mongodb_url) as proxy:
        yield proxy


@pytest.fixture
async def store(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    """One that is not patient, and has one connection that reads; it knows where its stream ends."""
    monkeypatch.setattr("rehydrate.store.mongodb.address.ANSWER_LATER_BY", 0.2)
    store = await open_store(f"{proxy.url}&timeout=0.5&readers=1")
    await fill(store, "account-1", 2)
    yield store
    await store.close()


async def test_reads_that_wait_for_each_other_in_an_outage_do_not_wait_one_after_the_other(
    store: Store, proxy: Proxy
) -> None:
    proxy.stall()
    begun = time.monotonic()
    failed = await asyncio.gather(*[store.read_all() for _ in range(12)], return_exceptions=True)
    assert time.monotonic() - begun < 5, "twelve times as long as one takes would be more"
    assert [type(error) for error in failed] == [StoreUnavailableError] * 12
    assert "all 1 connections that read (readers=) are busy" in str(failed[-1])
    proxy.cut()
    proxy.go_on()
    assert len(await sound_log(store)) == 2


async def test_a_read_that_is_cancelled_while_it_waits_is_never_sent(mongodb_url: str) -> None:
    """Else who asks next would wait for the answers that nobody wants any more."""
    sent: list[bytes] = []

    def look(message: Message) -> None:
        if message.name == "find":
            sent.append(message.data)

    async with Proxy(mongodb_url) as proxy:
        proxy.on_message = look
        store = await open_store(f"{proxy.url}&readers=1")
        held = proxy.hold("find")
        first = asyncio.create_task(store.read_stream("account-1"))
        await held.reached()
        waiting = [asyncio.create_task(store.read_stream("account-given-up")) for _ in range(5)]
        await settle()
        for read in waiting:
            read.cancel()
        assert [type(one) for one in await asyncio.gather(*waiting, return_exceptions=True)] == [
            asyncio.CancelledError
        ] * 5
        held.release()
        assert (await first).is_last
        assert (await store.read_stream("account-2")).is_last
        assert any(b"account-2" in data for data in sent)
        assert not any(b"account-given-up" in data for data in sent)
        await store.close()


async def test_a_store_is_closed_in_an_outage_however_many_wait_for_an_answer(
    store: Store, proxy: Proxy
) -> None:
    proxy.stall()
    reads = [asyncio.create_task(store.read_all()) for _ in range(16)]
    asked = [asyncio.create_task(store.versions(["account-1"])) for _ in range(2)]
    await settle()
    for read in reads[8:]:
        read.cancel()
    begun = time.monotonic()
    await store.close()
    assert time.monotonic() - begun < 5, "sixteen times as long as one takes would be more"
    for call in [*reads[:8], *asked]:
        with pytest.raises(StoreError):
            await call
    assert all(read.cancelled() for read in reads[8:])
    with pytest.raises(StoreClosedError):
        await store.read_all()


async def test_who_waits_for_his_turn_when_the_store_is_closed_is_told_so(store: Store, proxy: Proxy) -> None:
    held = proxy.hold("find")
    first = asyncio.create_task(store.read_all())
    await held.reached()
    second = asyncio.create_task(store.read_all())
    await settle()
    closing = asyncio.create_task(store.close())
    await settle()
    held.release()
    assert len((await first).events) == 2
    with pytest.raises(StoreClosedError):
        await second
    await closing


NO_BYTES: Final = NewEvent("wrong", "Opened", cast(bytes, bytearray(b"{}")))
"""Nothing that MongoDB takes for bytes."""


# ---- tasks that somebody has cancelled


def running(store: Store) -> set[asyncio.Task[Any]]:
    """The tasks of the store in which something is under way."""
    calls: Any = vars(store)["_calls"]
    return cast(set[asyncio.Task[Any]], vars(calls)["_running"])


@pytest.mark.parametrize("when", ["before it has begun", "when it was sent"])
async def test_a_group_whose_task_is_cancelled_is_not_known_and_the_next_one_goes_out(
    store: Store, proxy: Proxy, when: str
) -> None:
    """Whoever cancels all tasks of a loop cancels this one, too."""
    held = proxy.hold("update")
    new = lot("cancelled", 2)
    appending = asyncio.create_task(store.append("account-1", new, expected_version=2))
    if when == "when it was sent":
        await held.reached()
    else:
        # One turn for the append, one for the group.
        for _ in range(2):
            await asyncio.sleep(0)
    assert running(store)
    for task in running(store):
        task.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(StoreUnavailableError) as refused:
            await appending
        assert (refused.value.stored, refused.value.retryable) == (None, True)
        held.release()
        assert await store.append("account-1", new, expected_version=2) == Appended(4, 4)
        await store.append("account-2", events(1), expected_version=0)
        await store.close()


async def test_a_question_whose_task_is_cancelled_fails_and_cancels_nobody(
    store: Store, proxy: Proxy
) -> None:
    asks: list[tuple[str, Callable[[], Awaitable[object]]]] = [
        ("find", store.read_all),
        ("aggregate", lambda: store.versions(["account-1"])),
    ]
    for command, ask in asks:
        held = proxy.hold(command)
        asking = asyncio.ensure_future(ask())
        await held.reached()
        for task in running(store):
            task.cancel()
        with pytest.raises(StoreUnavailableError, match="was stopped before its answer came"):
            await asking
        held.release()
    assert len(await sound_log(store)) == 2


async def test_an_append_that_cannot_be_sent_takes_nothing_away_from_those_that_were(
    store: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sent again each for itself, what is stored would be said not to be if its answer is lost."""
    monkeypatch.setattr("rehydrate.store.mongodb.log.MAX_COMMAND_BYTES", 1)
    proxy.lose_answer("aggregate")
    proxy.lose_answer("listCollections")
    outcomes = await asyncio.gather(
        store.append("account-1", lot("first", 1), expected_version=2),
        store.append("account-2", [NO_BYTES], expected_version=0),
        store.append("account-3", lot("third", 1), expected_version=0),
        return_exceptions=True,
    )
    assert outcomes[0] == Appended(3, 3)
    assert isinstance(outcomes[1], StoreUnavailableError)
    assert (outcomes[1].stored, outcomes[1].retryable) == (False, False)
    assert outcomes[2] == Appended(1, 4)
