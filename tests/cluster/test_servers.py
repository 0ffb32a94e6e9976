"""The servers of NATS die under a cluster: its nodes go on, by their leases or by the fence."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from rehydrate.testing.clock import until
from rehydrate.testing.servers import NatsServer
from tests.bank import Deposit, account
from tests.cluster.cluster_nodes import SHARDS, balanced, nodes, owns, placement, quick
from tests.cluster.processes import calling, check, progress

IDS = [f"account{number}" for number in range(16)]


@pytest.fixture
def store(postgres_url: str) -> str:
    return postgres_url


@pytest.mark.slow  # An election takes as long as it takes.
async def test_an_election_of_the_servers_costs_no_lease_and_no_command(
    store: str, start_nats: Callable[..., NatsServer]
) -> None:
    servers = start_nats(nodes=3)
    cluster = quick(servers.fresh_url(), ttl=15)
    async with nodes(store, cluster, count=3) as runtimes:
        names = {placement(runtime).membership.node for runtime in runtimes}
        bucket = f"KV_{placement(runtimes[0]).membership.address.bucket}"
        async with calling(runtimes[0], IDS) as callers:
            leader = servers.leader_of(bucket)
            leader.kill()
            revision = placement(runtimes[0]).membership.table.revision
            await until(lambda: placement(runtimes[0]).membership.table.revision > revision + 3)
            await progress(callers)
            leader.restart()
        await check(store, callers)
        assert {placement(runtime).membership.node for runtime in runtimes} == names


async def test_a_node_closes_soon_where_no_server_is_left(
    store: str, start_nats: Callable[..., NatsServer]
) -> None:
    server = start_nats()
    async with nodes(store, quick(server.fresh_url(), ttl=30), count=2) as (here, there):
        id = next(id for id in IDS if owns(there, id))
        await here.dispatch(account, id, Deposit(1))
        server.kill()
        await until(lambda: not placement(here).connection.is_connected)
        began = time.monotonic()
        assert (await here.dispatch(account, id, Deposit(1))).version == 2
        await here.close()
        assert time.monotonic() - began < 5


async def test_without_any_server_commands_run_where_they_are_asked_for(
    store: str, start_nats: Callable[..., NatsServer]
) -> None:
    server = start_nats()
    async with nodes(store, quick(server.fresh_url(), ttl=2), count=2) as (here, there):
        async with calling(here, IDS) as before:
            server.kill()
            await until(lambda: here.statistics().shards == there.statistics().shards == 0)
            async with (
                calling(here, [f"{id}b" for id in IDS]) as ours,
                calling(there, [f"{id}c" for id in IDS]) as theirs,
            ):
                # What was sent before, and refused since, is told when the owner can be asked.
                server.restart()
                await balanced(here, there)
        for callers in (before, ours, theirs):
            await check(store, callers)
        for id in IDS:
            await here.dispatch(account, id, Deposit(1))
        await until(lambda: here.statistics().shards + there.statistics().shards == SHARDS)


@pytest.mark.parametrize("nodes_of_nats", [1, 3])
async def test_store_and_cluster_may_lie_in_the_same_servers_under_one_name(
    request: pytest.FixtureRequest, nodes_of_nats: int
) -> None:
    url: str = request.getfixturevalue("nats_url" if nodes_of_nats == 1 else "three_nats_url")
    async with nodes(url, quick(url), count=2) as (here, there):
        async with calling(here, IDS) as ours, calling(there, IDS) as theirs:
            await progress(ours)
        await check(url, [*ours, *theirs])
        assert await here.state(account, IDS[0]) == await there.state(account, IDS[0])
