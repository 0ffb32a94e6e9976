"""A node owns its shards for as long as its lease lasts by its own clock, and no longer."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from rehydrate import ConfigurationError, StoreUnavailableError, open_store
from rehydrate.clock import SystemClock
from rehydrate.cluster.placement import joined
from rehydrate.testing.clock import HANG_LIMIT, FakeClock, until
from rehydrate.testing.faults import FaultyStore, HangAnswer, Script
from rehydrate.testing.proxy import Proxy
from tests.bank import Account, Deposit, InsufficientFunds, Withdraw, account, app
from tests.cluster.cluster_nodes import SHARDS, balanced, ids_of, node, nodes, owns, placement, quick
from tests.cluster.processes import calling, check, progress


async def test_a_node_whose_lease_ends_by_its_own_clock_stops_its_actors_at_once(
    store: str, short_leases: str
) -> None:
    clock = FakeClock()
    async with node(store, short_leases, clock=clock) as late:
        assert late.statistics().shards == SHARDS
        await late.dispatch(account, "ada", Deposit(1))
        assert late.statistics().live == 1
        # Nothing of it is renewed: the servers cannot be reached in time.
        placement(late).membership.until = clock.monotonic() + 0.5
        await placement(late).membership.stop_tasks()
        await clock.advance(3)
        assert late.statistics().shards == 0
        assert late.statistics().live == 0
        assert (await late.dispatch(account, "ada", Deposit(1))).version == 2


async def test_others_take_over_what_was_not_renewed_and_the_late_owner_writes_nothing_stale(
    store: str, short_leases: str
) -> None:
    clock = FakeClock()
    async with node(store, short_leases, clock=clock) as late, node(store, short_leases) as other:
        await until(lambda: other.statistics().nodes == 2)
        name, ids = placement(late).membership.node, ids_of(late, 4)
        for id in ids:
            await late.dispatch(account, id, Deposit(10))
        # The clock of the first stands still: by it the lease lasts, by the servers it does not.
        await until(lambda: other.statistics().shards == SHARDS)
        for id in ids:
            await other.dispatch(account, id, Withdraw(10))
        for id in ids:
            assert owns(late, id)
            with pytest.raises(InsufficientFunds):
                await late.dispatch(account, id, Withdraw(10))
            assert await late.state(account, id) == Account(0, 2)
        await clock.advance(3)
        # Some may be its own again by now, as another node.
        assert placement(late).membership.node != name
        for id in ids:
            assert (await late.dispatch(account, id, Deposit(1))).version == 3


async def test_a_lease_outlives_a_short_loss_of_the_connection(store: str, nats_url: str) -> None:
    cluster = quick(nats_url, ttl=10)
    async with Proxy(cluster) as proxy, node(store, proxy.url) as far, node(store, cluster) as near:
        await balanced(far, near)
        name = placement(far).membership.node
        async with calling(far, [*ids_of(far, 4), *ids_of(near, 4)]) as callers:
            for _ in range(3):
                proxy.cut()
                await progress(callers)
        await check(store, callers)
        assert placement(far).membership.node == name
        await balanced(far, near)


async def test_an_answer_that_was_lost_with_the_owner_s_connection_is_asked_for_again(
    store: str, nats_url: str
) -> None:
    """The asker's own connection is whole, and the owner keeps its lease: neither tells that something was lost."""
    cluster = quick(nats_url, ttl=20, patience=0.2)
    async with Proxy(cluster) as proxy, node(store, proxy.url) as far, node(store, cluster) as near:
        await balanced(far, near)
        (id,) = ids_of(far)
        await near.dispatch(account, id, Deposit(1))
        proxy.stall(to_client=False)
        depositing = asyncio.create_task(near.dispatch(account, id, Deposit(1), timeout=10))
        async with asyncio.timeout(HANG_LIMIT):
            while await near.store.versions([account.stream(id)]) != [2]:  # noqa: ASYNC110
                await asyncio.sleep(0)
        proxy.cut()
        proxy.go_on()
        assert (await depositing).version == 2
        assert await near.state(account, id) == Account(2, 2)


async def test_a_connection_that_was_closed_for_good_is_replaced_by_another(
    store: str, nats_url: str
) -> None:
    async with nodes(store, quick(nats_url, ttl=30)) as (here, there):
        connection = placement(there).connection
        before = connection.client
        await before.close()
        await until(lambda: connection.is_connected and connection.client is not before)
        (id,) = ids_of(there)
        await until(lambda: not there.manager.busy)
        served = there.statistics().served
        while there.statistics().served == served:
            await here.dispatch(account, id, Deposit(1))
        await there.dispatch(account, ids_of(here)[0], Deposit(1))
        assert here.statistics().served == 1


async def test_an_answer_that_the_owner_comes_to_without_a_connection_is_given_when_it_is_back(
    store: str, nats_url: str
) -> None:
    cluster = quick(nats_url, ttl=30, patience=20)
    script = Script()
    slow = FaultyStore(await open_store(store), script, SystemClock())
    async with (
        Proxy(cluster) as proxy,
        app.open(slow, cluster=proxy.url) as far,
        node(store, cluster) as near,
    ):
        await balanced(far, near)
        (id,) = ids_of(far)
        script.add("submit", HangAnswer())
        depositing = asyncio.create_task(near.dispatch(account, id, Deposit(1), timeout=20))
        await until(lambda: slow.hanging)
        connection = placement(far).connection
        proxy.refuse()
        proxy.cut()
        await until(lambda: not connection.is_connected)
        slow.release()
        await until(lambda: not far.statistics().busy)
        await proxy.accept()
        assert (await depositing).version == 1
        assert far.statistics().served == 1
    await slow.close()


async def test_a_node_that_is_cut_off_goes_on_by_the_fence_and_joins_again(
    store: str, short_leases: str
) -> None:
    async with Proxy(short_leases) as proxy, node(store, proxy.url) as far, node(store, short_leases) as near:
        await balanced(far, near)
        name = placement(far).membership.node
        ids = [*ids_of(far, 4), *ids_of(near, 4)]
        async with (
            calling(far, ids) as far_callers,
            calling(near, [f"{id}b" for id in ids]) as near_callers,
        ):
            proxy.refuse()
            proxy.cut()
            await until(lambda: near.statistics().shards == SHARDS)
            await until(lambda: far.statistics().shards == 0)
            await proxy.accept()
            await balanced(far, near)
        await check(store, far_callers)
        await check(store, near_callers)
        assert placement(far).membership.node not in ("", name)


async def test_a_network_that_loses_everything_is_as_good_as_a_cut(store: str, short_leases: str) -> None:
    async with Proxy(short_leases) as proxy, node(store, proxy.url) as far, node(store, short_leases) as near:
        await balanced(far, near)
        async with calling(near, [*ids_of(far, 4), *ids_of(near, 4)]) as callers:
            proxy.stall()
            await until(lambda: near.statistics().shards == SHARDS)
            proxy.go_on()
            await balanced(far, near)
        await check(store, callers)


async def test_the_number_of_shards_is_fixed_by_the_first_node(store: str, nats_url: str) -> None:
    async with node(store, quick(nats_url, shards=8)) as first:
        async with node(store, f"{nats_url}?ttl=2&moves=1000") as second:
            await balanced(first, second)
            assert first.statistics().shards + second.statistics().shards == 8
        with pytest.raises(ConfigurationError, match="shards=8, and shards=16 cannot change that"):
            async with node(store, quick(nats_url, shards=16)):
                pass


@pytest.mark.parametrize(
    ("cluster", "says"),
    [
        ("postgresql://localhost/bank", "a cluster is not found by postgresql://"),
        ("nats://localhost:4222", "the cluster needs a name"),
        ("nats://localhost:4222/a.b", "the cluster needs a name"),
        ("nats:///bank", "names no host"),
        ("nats://localhost/bank?shards=5000", "must be at most 4,096"),
        ("nats://localhost/bank?replicas=2", "must be 1, 3 or 5"),
        ("nats://localhost/bank?ttl=0", "ttl='0' must be a whole number of at least 1"),
        ("nats://localhost/bank?lease=3", "there is no parameter 'lease'"),
        ("bank", "this is no URL"),
    ],
)
async def test_a_url_that_cannot_be_used_is_refused_in_one_sentence(
    store: str, cluster: str, says: str
) -> None:
    with pytest.raises(ConfigurationError, match=says) as refused:
        async with node(store, cluster):
            pass
    assert "\n" not in str(refused.value)


async def test_servers_that_cannot_be_reached_are_named_without_the_token(store: str) -> None:
    with pytest.raises(StoreUnavailableError, match=r"nats://127\.0\.0\.1:1/bank") as unreachable:
        async with node(store, "nats://secret@127.0.0.1:1/bank?timeout=0.3"):
            pass
    assert "secret" not in str(unreachable.value)


async def test_a_wrong_token_is_one_sentence(store: str, nats_url: str) -> None:
    with pytest.raises(ConfigurationError, match="does not let us in") as refused:
        async with node(store, nats_url.replace("test@", "wrong@")):
            pass
    assert "wrong" not in str(refused.value)


async def test_a_store_that_only_one_process_can_open_is_refused(cluster: str) -> None:
    with pytest.raises(ConfigurationError, match="cluster= needs a store that several processes can open"):
        async with node("memory://", cluster):
            pass


async def test_a_node_with_another_store_is_refused(store: str, short_leases: str, tmp_path: Path) -> None:
    async with node(store, short_leases) as first:
        await first.dispatch(account, "ada", Deposit(1))
        await until(
            lambda: any(card.head_position for card in placement(first).membership.table.nodes.values())
        )
        with pytest.raises(
            ConfigurationError, match="has another store, which has an event at position 1 that"
        ):
            async with node(f"sqlite:///{tmp_path}/other.db", f"{short_leases}&timeout=1"):
                pass
        async with node(store, short_leases) as second:
            assert await second.state(account, "ada") == Account(1, 1)


async def test_stores_that_were_empty_when_their_nodes_met_are_told_apart_later(
    store: str, short_leases: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        node(store, short_leases) as first,
        node(f"sqlite:///{tmp_path}/other.db", short_leases) as second,
    ):
        await until(lambda: first.statistics().nodes == second.statistics().nodes == 2)
        await first.dispatch(account, "ada", Deposit(1))
        async with asyncio.timeout(HANG_LIMIT):
            await until(lambda: "has another store, which has an event at position 1 that" in caplog.text)


async def test_nodes_on_one_store_are_told_of_no_other(
    store: str, short_leases: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with node(store, short_leases) as first, node(store, short_leases) as second:

        def all_know(position: int) -> bool:
            cards = placement(second).membership.table.nodes.values()
            return all(card.head_position == position for card in cards)

        for position in range(1, 6):
            await first.dispatch(account, "ada", Deposit(1))
            await until(partial(all_know, position))
    assert "another store" not in caplog.text


async def test_a_node_that_leaves_can_be_closed_twice(store: str, cluster: str) -> None:
    async with app.open(store) as runtime, joined(runtime, cluster):
        await runtime.dispatch(account, "ada", Deposit(1))
        await asyncio.gather(runtime.close(), runtime.close())
        await runtime.close()


async def test_nodes_find_each_other_on_three_servers(store: str, three_nats_url: str) -> None:
    async with nodes(store, quick(three_nats_url), count=3) as runtimes:
        for runtime in runtimes:
            await runtime.dispatch(account, "ada", Deposit(1))
        assert await runtimes[0].state(account, "ada") == Account(3, 3)
