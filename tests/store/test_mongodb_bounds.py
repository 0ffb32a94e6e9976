"""What MongoDB holds in one document, one message and one reply, and how the store stays below it."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest
from bson import encode
from pymongo import MongoClient

from rehydrate.errors import (
    StoreUnavailableError,
)
from rehydrate.store.group_commit import PendingAppend
from rehydrate.store.mongodb import MongoStore
from rehydrate.store.mongodb.log import EVENT_OVERHEAD, as_document
from rehydrate.store.port import Appended, LogFilter, NewEvent, Store, StreamPage, ViewChange
from rehydrate.store.url import open_store
from rehydrate.testing.conformance.appends import HeardOnce
from rehydrate.testing.conformance.checkpoints import checkpoint
from rehydrate.testing.conformance.material import event, events, fill, log_events, sound_log
from rehydrate.testing.conformance.snapshots import snapshot
from rehydrate.testing.servers import MongoServer

MIB = 1024 * 1024
LARGEST_DOCUMENT = 16 * MIB


@pytest.fixture
async def store(mongodb_url: str) -> AsyncIterator[Store]:
    store = await open_store(mongodb_url)
    yield store
    await store.close()


def largest_append() -> list[NewEvent]:
    """As many events as there may be, as large as they may be together, with the longest names."""
    limits = MongoStore.capabilities
    names = [f"{n:04}{'é' * 254}" for n in range(limits.max_append_events)]
    new = [NewEvent(name, "é" * 256, b"", b"", recorded_at=2**62) for name in names]
    new[-1] = NewEvent(names[-1], "é" * 256, bytes(limits.max_append_bytes), b"", recorded_at=2**62)
    return new


async def test_the_largest_append_is_stored_behind_another_one(store: Store) -> None:
    """The command asks for the one before it, and has room for that."""
    longest = f"{'a' * 128}-{'é' * 256}"
    await store.append(longest, largest_append()[:1], expected_version=0)
    new = largest_append()[1:]
    assert await store.append(longest, new, expected_version=1) == Appended(4_096, 4_096)
    assert (await store.append(longest, events(1), expected_version=4_096)).position == 4_097
    page = await store.read_stream(longest, after=4_095)
    assert [len(one.data) for one in page.events] == [MongoStore.capabilities.max_append_bytes]
    assert (await store.read_stream(longest, after=4_096)).is_last


def test_the_largest_append_that_is_taken_is_a_document_that_mongodb_takes() -> None:
    limits = MongoStore.capabilities
    largest = largest_append()
    append = PendingAppend("x" * 641, largest, 2**40, HeardOnce(), limits.max_append_bytes)
    size = len(encode(as_document(append, 2**50, 2**62)))
    assert size < LARGEST_DOCUMENT
    assert size < append.size + (len(largest) + 1) * EVENT_OVERHEAD


async def test_appends_that_together_are_larger_than_a_command_are_all_stored(store: Store) -> None:
    """Many small events have more names than bytes."""
    name = "n" * 500
    appending = [
        store.append(
            f"account-{n}", [event(name, b"", id=f"{n}.{m}.{name}") for m in range(4_000)], expected_version=0
        )
        for n in range(14)
    ]
    done = await asyncio.gather(*appending)
    assert [one.version for one in done] == [4_000] * 14
    assert (await store.head()).position == 56_000
    assert sorted(one.position for one in done) == list(range(4_000, 56_001, 4_000))


async def test_an_event_whose_data_are_no_bytes_for_mongodb_meets_its_owner_only(store: Store) -> None:
    wrong = NewEvent("wrong", "Opened", cast(bytes, bytearray(b"{}")))
    outcomes = await asyncio.gather(
        store.append("account-1", events(1), expected_version=0),
        store.append("account-2", [wrong], expected_version=0),
        store.append("account-3", events(1), expected_version=0),
        return_exceptions=True,
    )
    assert isinstance(outcomes[1], StoreUnavailableError)
    assert (outcomes[1].stored, outcomes[1].retryable) == (False, False)
    assert [isinstance(one, Appended) for one in outcomes] == [True, False, True]
    assert len(await sound_log(store)) == 2


async def test_what_is_too_large_for_a_document_is_refused_before_anything_is_saved(store: Store) -> None:
    large = bytes(16 * MIB)
    saving: list[Callable[[], Awaitable[object]]] = [
        lambda: store.save_snapshot(snapshot("account-1", 1, data=large), keep=1),
        lambda: store.save_checkpoint(checkpoint("balances", 1, data=large), previous=None),
        lambda: store.save_checkpoint(
            checkpoint("balances", 1), previous=None, views=[ViewChange("ada", b""), ViewChange("bob", large)]
        ),
    ]
    for save in saving:
        with pytest.raises(StoreUnavailableError, match="16,777,216 bytes") as refused:
            await save()
        assert not refused.value.retryable
    assert await store.load_checkpoint("balances") is None
    assert await store.list_views("balances") == []


async def test_the_largest_snapshot_and_view_come_back(store: Store) -> None:
    large = bytes(16 * MIB - 16 * 1024)
    await store.save_snapshot(snapshot("account-1", 1, data=large), keep=1)
    views = [ViewChange(f"{n}", large) for n in range(3)]
    assert await store.save_checkpoint(checkpoint("balances", 1), previous=None, views=views)
    found = await store.load_snapshot("account-1")
    assert found is not None
    assert len(found.data) == len(large)
    assert [(key, len(data)) for key, data in await store.list_views("balances")] == [
        (f"{n}", len(large)) for n in range(3)
    ]


async def test_all_checkpoints_are_listed_however_many_there_are(store: Store) -> None:
    names = [f"consumer {n:04}" for n in range(1_203)]
    for start in range(0, len(names), 50):
        saving = [
            store.save_checkpoint(checkpoint(name, 1), previous=None) for name in names[start : start + 50]
        ]
        assert all(await asyncio.gather(*saving))
    assert [one.name for one in await store.list_checkpoints()] == names


async def test_numbers_beyond_64_bits_are_refused(store: Store) -> None:
    for ask in (
        lambda: store.read_all(after=2**63),
        lambda: store.read_stream("account-1", after=2**63),
        lambda: store.replay("account-1", after=2**63),
    ):
        with pytest.raises(ValueError, match=r"below 2\*\*63"):
            await ask()


@pytest.mark.parametrize("limit", [1, 1_000, sys.maxsize, 2**70])
async def test_the_highest_numbers_there_could_be_are_asked_for_like_any_other(
    store: Store, limit: int
) -> None:
    await fill(store, "account-1", 3)
    where = LogFilter(types=frozenset({"Happened"}))
    for after in (2**63 - 3, 2**63 - 2, 2**63 - 1):
        for filtered in (None, where):
            page = await store.read_all(after=after, limit=limit, where=filtered)
            assert (page.events, page.position, page.is_last) == ([], after, True)
        assert await store.read_stream("account-1", after=after, limit=limit) == StreamPage([], is_last=True)
        assert (await store.replay("account-1", after=after)).is_last
    for filtered in (None, where):
        page = await store.read_all(limit=limit, where=filtered)
        assert len(page.events) == min(limit, 3)
        assert page.is_last == (limit >= 3)
    assert len((await store.read_stream("account-1", limit=limit)).events) == min(limit, 3)
    assert len(await store.streams(limit=limit)) == 1
    assert await store.list_views("balances", limit=limit) == []


async def test_a_name_that_is_no_text_is_the_name_of_nothing(store: Store) -> None:
    """Who asks together with somebody who has such a name has his answer all the same."""
    await fill(store, "account-1", 3)
    asking = [store.versions(names) for names in (["\ud800"], ["account-1"], ["account-1", "account-\ud800"])]
    assert await asyncio.gather(*asking) == [[0], [3], [3, 0]]
    no, yes = frozenset({"\ud800"}), frozenset({"\ud800", "account", "account-1", "Happened"})
    for nothing in (LogFilter(streams=no), LogFilter(aggregates=no), LogFilter(types=no)):
        page = await store.read_all(where=nothing)
        assert (page.events, page.position, page.is_last) == ([], 3, True)
    for everything in (LogFilter(streams=yes), LogFilter(aggregates=yes), LogFilter(types=yes)):
        assert len((await store.read_all(where=everything)).events) == 3


async def test_a_filter_that_is_too_large_to_be_sent_is_applied_all_the_same(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rehydrate.store.mongodb.commands.MAX_FILTER", 1)
    for n in range(30):
        await fill(store, f"account-{n}", 3, each=2)
    where = LogFilter(streams=frozenset({"account-29", "account-3"}), types=frozenset({"Happened"}))
    for limit in (1, 2, 5, 100):
        found = await log_events(store, limit=limit, where=where)
        assert [(one.stream, one.version) for one in found] == [
            (stream, version) for stream in ("account-3", "account-29") for version in (1, 2, 3)
        ]


async def test_pages_end_where_a_reply_is_full(store: Store) -> None:
    """A reply of the server has 16 MiB, a page 8, whatever the limit."""
    for n in range(12):
        await store.append("account-1", [event(data=bytes([n]) * 3 * MIB)], expected_version=n)
    page = await store.read_all(limit=1_000)
    assert 2 <= len(page.events) <= 4
    assert not page.is_last
    assert page.position == page.events[-1].position
    assert [one.data[0] for one in await log_events(store)] == list(range(12))
    rare = LogFilter(types=frozenset({"Happened"}))
    assert [one.data[0] for one in await log_events(store, where=rare)] == list(range(12))


async def test_where_the_server_runs_out_of_time_a_filtered_page_looks_at_less(
    start_mongodb: Callable[..., MongoServer],
) -> None:
    """Ten thousand events may be ten thousand megabytes; a reader would stand there for ever."""
    server = start_mongodb(parameters={"enableTestCommands": "1"})
    store = await open_store(server.fresh_url())
    await fill(store, "order-1", 50, each=1)
    await fill(store, "account-1", 1)
    out_of_time = {"failCommands": ["find"], "errorCode": 50}
    with MongoClient[dict[str, Any]](server.url) as client:
        client.admin.command({"configureFailPoint": "failCommand", "mode": {"times": 3}, "data": out_of_time})
    where = LogFilter(aggregates=frozenset({"account"}))
    page = await store.read_all(where=where)
    assert (page.events, page.position, page.is_last) == ([], 10, False)
    assert len(await log_events(store, where=where)) == 1
    await store.close()
