"""The store on three nodes of which one dies, stands still, or lags behind."""

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import pytest

from rehydrate.errors import StoreUnavailableError
from rehydrate.store.port import Store, ViewChange
from rehydrate.store.url import open_store
from rehydrate.testing.clock import HANG_LIMIT
from rehydrate.testing.conformance.checkpoints import checkpoint
from rehydrate.testing.conformance.material import events, fill, ids, sound_log, whole_lots
from rehydrate.testing.conformance.snapshots import snapshot
from rehydrate.testing.servers import NatsServer
from tests.store.test_nats_network import Flood

StartNats = Callable[..., NatsServer]


@pytest.fixture
def server(start_nats: StartNats) -> NatsServer:
    return start_nats(nodes=3)


async def opened(server: NatsServer) -> Store:
    return await open_store(f"{server.fresh_url()}?timeout=15")


def events_stream(store: Store) -> str:
    return f"{urlsplit(store.url).path.strip('/')}-events"


@pytest.mark.parametrize("who", ["leader", "follower"])
async def test_a_node_that_is_killed_takes_no_acknowledged_append_with_it(
    server: NatsServer, who: str
) -> None:
    store = await opened(server)
    flood = Flood(store)
    await flood.more(100)
    leader = await asyncio.to_thread(server.leader_of, events_stream(store))
    follower = next(node for node in server.nodes if node is not leader)
    node = leader if who == "leader" else follower
    await asyncio.to_thread(node.kill)
    await flood.more(100)
    await asyncio.to_thread(node.start)
    await flood.more(20)
    acked = await flood.stop()
    assert whole_lots(await sound_log(store)) == acked
    assert flood.errors == []
    await store.close()


async def test_a_snapshot_is_read_from_the_one_server_that_is_left(server: NatsServer) -> None:
    """While there is no leader an actor waits for nothing that it can do without."""
    name = urlsplit(server.fresh_url()).path
    store = await open_store(f"{server.url}{name}?timeout=15")
    for version in (1, 2, 3):
        await store.save_snapshot(snapshot("account-1", version), keep=2)
    # One of the others may still lack what two have.
    node = await asyncio.to_thread(server.leader_of, f"{name.strip('/')}-snapshots")
    others = [other for other in server.nodes if other is not node]
    near = await open_store(f"{node.url}{name}?timeout=5")
    for other in others:
        await asyncio.to_thread(other.kill)
    assert await near.load_snapshot("account-1") == snapshot("account-1", 3)
    assert await near.load_snapshot("account-2") is None
    for other in others:
        await asyncio.to_thread(other.start)
    await near.close()
    await store.close()


async def test_all_nodes_that_are_killed_come_back_with_everything(server: NatsServer) -> None:
    store = await opened(server)
    flood = Flood(store)
    await flood.more(100)
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    await flood.more(20)
    acked = await flood.stop()
    assert whole_lots(await sound_log(store)) == acked
    await store.close()


async def test_a_leader_that_stands_still_delays_and_loses_nothing(server: NatsServer) -> None:
    store = await opened(server)
    flood = Flood(store)
    await flood.more(100)
    leader = await asyncio.to_thread(server.leader_of, events_stream(store))
    leader.pause()
    try:
        await flood.more(50)
    finally:
        leader.resume()
    await flood.more(20)
    acked = await flood.stop()
    # Until it has heard that it leads no more, it answers what may lag from before.
    await asyncio.to_thread(server.wait_until_healthy)
    assert whole_lots(await sound_log(store)) == acked
    await store.close()


async def test_reads_of_actors_never_lag_also_while_a_replica_stands_still(server: NatsServer) -> None:
    """Any replica may answer a page: one that lags is asked again, one that is silent left."""
    store = await opened(server)
    await fill(store, "account-1", 3)
    leader = await asyncio.to_thread(server.leader_of, events_stream(store))
    follower = next(node for node in server.nodes if node is not leader)
    follower.pause()
    try:
        for version in range(3, 30):
            new = events(1)
            await store.append("account-1", new, expected_version=version)
            assert (await store.replay("account-1")).last_id == new[0].id
            assert (await store.read_all(after=0)).event_id == new[0].id
    finally:
        follower.resume()
    for version in range(30, 60):
        new = events(1)
        done = await store.append("account-1", new, expected_version=version)
        page = await store.read_all(after=done.position - 1)
        assert ids(page.events) == ids(new)
        assert len((await store.replay("account-1")).rows) == version + 1
    await store.close()


async def test_views_and_their_place_stay_one_while_a_leader_is_killed(server: NatsServer) -> None:
    store = await opened(server)
    stream = events_stream(store).replace("-events", "-consumers")
    leader = await asyncio.to_thread(server.leader_of, stream)
    views = [f"view {n}" for n in range(20)]
    place = None
    for position in range(1, 60):
        if position == 20:
            await asyncio.to_thread(leader.kill)
        moved = checkpoint("balances", position)
        changes = [ViewChange(key, b"%d" % position) for key in views]
        async with asyncio.timeout(HANG_LIMIT):
            assert await store.save_checkpoint(moved, previous=place, views=changes)
        place = moved
        number = b"%d" % position
        assert await store.list_views("balances") == sorted((key, number) for key in views)
    await store.close()


async def end_of(store: Store) -> int:
    (version,) = await store.versions(["account-1"])
    return version


async def read_to_end_of(store: Store) -> int:
    return (await store.read_stream("account-1")).events[-1].version


async def until_refused(ask: Callable[[Store], Awaitable[int]], store: Store, reason: str) -> None:
    """Ask on; that an answer did not come in time is no reason, a server may be slow."""
    while True:
        try:
            assert await ask(store) == 3
        except StoreUnavailableError as refused:
            if reason in str(refused):
                return


@pytest.mark.parametrize("ask", [end_of, read_to_end_of])
async def test_a_leader_that_hears_of_no_majority_is_not_believed_where_streams_end(
    server: NatsServer, ask: Callable[[Store], Awaitable[int]]
) -> None:
    """The others may have elected another one, and appended: a refusal must not be decided on what he knows."""
    url = server.fresh_url()
    store = await open_store(url)
    await fill(store, "account-1", 3)
    leader = await asyncio.to_thread(server.leader_of, events_stream(store))
    await store.close()
    name = urlsplit(url).path
    near = await open_store(f"{leader.url}{name}?timeout=0.5")
    assert await ask(near) == 3
    others = [node for node in server.nodes if node is not leader]
    for node in others:
        node.pause()
    try:
        async with asyncio.timeout(HANG_LIMIT):
            await until_refused(ask, near, "lost touch with the other replicas")
    finally:
        for node in others:
            node.resume()
    async with asyncio.timeout(HANG_LIMIT):
        while True:
            try:
                assert await ask(near) == 3
                break
            except StoreUnavailableError:
                await asyncio.sleep(0)
    await near.close()
