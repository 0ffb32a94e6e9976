"""A replica set of three: members that die, stand still, and come back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pymongo import MongoClient

from rehydrate.errors import StoreUnavailableError, VersionConflictError
from rehydrate.store.port import Appended, Store, ViewChange
from rehydrate.store.url import open_store
from rehydrate.testing.conformance.checkpoints import checkpoint
from rehydrate.testing.conformance.material import Follower, events, fill, ids, lot, sound_log, whole_lots
from rehydrate.testing.conformance.worker import Flood
from rehydrate.testing.conformance.writers import Writers
from rehydrate.testing.servers import MongoServer

# Elections take seconds.
pytestmark = pytest.mark.slow


@pytest.fixture
def server(start_mongodb: Callable[..., MongoServer]) -> MongoServer:
    return start_mongodb(members=3)


@pytest.fixture
def url(server: MongoServer) -> str:
    return server.fresh_url()


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    store = await open_store(url)
    yield store
    await store.close()


@pytest.fixture
async def writers(url: str) -> AsyncIterator[Writers]:
    writers = Writers("rehydrate.store.url:open_store", url)
    yield writers
    await writers.kill_all()


async def test_when_primaries_are_killed_writers_and_readers_go_on_by_themselves(
    server: MongoServer, store: Store, writers: Writers
) -> None:
    streams = [f"account-{n}" for n in range(4)]
    async with Follower(store, pause=0.001) as reader:
        writing = await writers.start_each(
            *[[Flood(name=name, streams=streams, tasks=3)] for name in ("a", "b")]
        )
        for _ in range(2):
            for writer in writing:
                await writer.told(acked=len(writer.acked) + 20)
            killed = await asyncio.to_thread(server.primary)
            await asyncio.to_thread(killed.kill)
            for writer in writing:
                await writer.told(acked=len(writer.acked) + 20)
            await asyncio.to_thread(killed.start)
        for writer in writing:
            await writer.stop()
        log = await sound_log(store)
        await reader.finish(log)
    lots = whole_lots(log)
    for writer in writing:
        assert writer.acked.items() <= lots.items()


async def test_when_a_primary_stands_still_another_one_takes_over_and_nothing_is_lost(
    server: MongoServer, url: str
) -> None:
    store = await _open(url, timeout=3)
    await fill(store, "account-1", 3)
    stopped = await asyncio.to_thread(server.primary)
    stopped.pause()
    new = lot("while it stands still", 2)
    assert await _until_answered(store, new, 3) == Appended(5, 5)
    stopped.resume()
    assert (await fill(store, "account-1", 2))[-1].version == 7
    log = await sound_log(store)
    assert ids(log)[3:5] == ids(new)
    await store.close()


async def test_without_a_majority_nothing_is_acknowledged_and_no_version_is_told(
    server: MongoServer, url: str
) -> None:
    """A primary that is cut off does not know at once that it is none any more."""
    store = await _open(url, timeout=1)
    await fill(store, "account-1", 3)
    primary = await asyncio.to_thread(server.primary)
    others = [member for member in server.members if member is not primary]
    for member in others:
        member.pause()
    new = lot("in doubt", 2)
    with pytest.raises(StoreUnavailableError) as unknown:
        await store.append("account-1", new, expected_version=3)
    assert unknown.value.stored is None
    with pytest.raises(StoreUnavailableError):
        await store.versions(["account-1"])
    with pytest.raises(StoreUnavailableError):
        await store.save_checkpoint(checkpoint("balances", 1), previous=None, views=[ViewChange("ada", b"")])
    for member in others:
        member.resume()
    assert await _until_answered(store, new, 3) == Appended(5, 5)
    assert await store.versions(["account-1"]) == [5]
    assert len(await sound_log(store)) == 5
    await store.close()


async def test_what_a_cut_off_primary_took_in_is_rolled_back_and_the_position_is_given_to_another(
    server: MongoServer, url: str
) -> None:
    store = await _open(url, timeout=3)
    await fill(store, "account-1", 3)
    old = await asyncio.to_thread(server.primary)
    others = [member for member in server.members if member is not old]
    for member in others:
        await asyncio.to_thread(member.kill)
    with MongoClient[dict[str, Any]](old.url) as client:
        # What the driver of a process that is killed now has sent, and nobody ever gets an answer to.
        lost = {"_id": 4, "stream": "account-1", "version": 4, "count": 1, "recorded_at": 1}
        event = {"id": "lost", "type": "T", "data": b"", "metadata": b""}
        name = url.rpartition("/")[2].partition("?")[0]
        client[name].command({"insert": "events", "documents": [{**lost, "events": [event]}]})
        lasting = {"find": "events", "readConcern": {"level": "majority"}}
        assert len(client[name].command(lasting)["cursor"]["firstBatch"]) == 3
    await asyncio.to_thread(old.kill)
    for member in others:
        await asyncio.to_thread(member.start)
    mine = lot("instead", 1)
    assert await _until_answered(store, mine, 3) == Appended(4, 4)
    await asyncio.to_thread(old.start)
    with pytest.raises(VersionConflictError) as conflict:
        await store.append("account-1", events(1), expected_version=3)
    assert conflict.value.actual == 4
    assert ids(await sound_log(store))[3:] == ids(mine)
    await store.close()


async def _open(url: str, *, timeout: int) -> Store:
    """Making collections takes longer on a busy machine than these tests want to wait."""
    await (await open_store(url)).close()
    return await open_store(f"{url}&timeout={timeout}")


async def _until_answered(store: Store, new: list[Any], expected: int) -> Appended:
    while True:
        try:
            return await store.append("account-1", new, expected_version=expected)
        except StoreUnavailableError as error:
            if not error.retryable:
                raise
            await asyncio.sleep(0.05)
