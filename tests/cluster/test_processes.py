"""Nodes that die, stand still, come and go, seen from another one: each command is stored once, and soon."""

from __future__ import annotations

import pytest

from rehydrate import Runtime, open_store
from rehydrate.clock import SystemClock
from rehydrate.testing.clock import until
from rehydrate.testing.faults import FaultyStore, Hang, Script
from tests.bank import Account, Deposit, InsufficientFunds, Withdraw, account, app
from tests.cluster.cluster_nodes import SHARDS, ids_of, node, owns, placement, quick, with_parameters
from tests.cluster.processes import calling, check, processes, progress, start
from tests.faults.worker import Ask, Close, Refused, Run, Shown, Stored

IDS = [f"account{number}" for number in range(24)]
PATIENCE = 1.0
"""By default."""


@pytest.fixture
def store(postgres_url: str) -> str:
    """Where a process that stands still keeps nobody from writing: SQLite cannot say that of itself."""
    return postgres_url


async def shared_out(runtime: Runtime, count: int) -> None:
    """Wait until there are so many nodes, and this one has no more than its fair share."""

    def is_fair() -> bool:
        table = placement(runtime).membership.table
        shares = [len(owned) for name, owned in table.shards_of().items() if name is not None]
        return len(shares) == count and sum(shares) == SHARDS and max(shares) - min(shares) <= 1

    await until(is_fair)


async def test_a_node_that_is_killed_costs_its_callers_no_command_and_little_time(
    store: str, short_leases: str
) -> None:
    async with node(store, short_leases) as here, processes(store, short_leases, 2) as others:
        await shared_out(here, 3)
        async with calling(here, IDS) as callers:
            await others[0].kill()
            await progress(callers)
            await shared_out(here, 2)
        await check(store, callers)
        assert not any(caller.unknown for caller in callers)


async def test_a_node_that_stands_still_comes_back_as_another_one(store: str, short_leases: str) -> None:
    async with node(store, short_leases) as here, processes(store, short_leases, 2) as others:
        await shared_out(here, 3)
        async with calling(here, IDS) as callers:
            others[0].pause()
            await shared_out(here, 2)
            await progress(callers)
            others[0].resume()
            await shared_out(here, 3)
        await check(store, callers)
        assert not any(caller.unknown for caller in callers)


async def test_what_stood_still_in_a_node_is_finished_when_it_goes_on(store: str, short_leases: str) -> None:
    async with node(store, short_leases) as here, processes(store, short_leases, 1) as (other,):
        await shared_out(here, 2)
        here_and_there = ids_of(here, 4) + [id for id in IDS if id not in ids_of(here, 4)]
        orders = [Run(id=f"o{n}", account=id, amount=1) for n, id in enumerate(here_and_there)]
        other.order(*orders)
        other.pause()
        await shared_out(here, 1)
        for order in orders:
            await here.dispatch(account, order.account, Deposit(1), metadata={"order": f"here {order.id}"})
        other.resume()
        await other.told(lambda: len(other.answers) == len(orders))
        assert all(isinstance(answer, Stored) for answer in other.answers.values())
        for order in orders:
            assert (await here.state(account, order.account)).changes == 2


async def test_an_orderly_leave_delays_nobody(store: str, cluster: str) -> None:
    async with node(store, cluster) as here, processes(store, cluster, 2) as others:
        await shared_out(here, 3)
        async with calling(here, IDS) as callers:
            others[0].order(Close())
            await others[0].ended()
            await shared_out(here, 2)
        await check(store, callers)
        assert max(caller.longest for caller in callers) < PATIENCE


async def test_a_node_that_joins_gets_its_share_while_commands_run(store: str, cluster: str) -> None:
    async with node(store, cluster) as here:
        async with calling(here, IDS) as callers:
            newcomer = await start(store, cluster)
            try:
                await shared_out(here, 2)
            finally:
                await progress(callers)
                newcomer.order(Close())
                await newcomer.ended()
        await check(store, callers)


async def test_refusals_and_states_come_from_a_process_too(store: str, cluster: str) -> None:
    async with node(store, cluster) as here, processes(store, cluster, 1) as (other,):
        await shared_out(here, 2)
        for number, id in enumerate(ids_of(here, 4)):
            assert isinstance(
                await other.ask(Run(id=f"d{number}", account=id, amount=5), f"d{number}"), Stored
            )
            no = await other.ask(Run(id=f"w{number}", account=id, amount=-9), f"w{number}")
            assert isinstance(no, Refused)
            assert (no.error, no.facts) == ("InsufficientFunds", {"balance": 5, "amount": 9})
            assert await other.ask(Ask(id=f"a{number}", account=id), f"a{number}") == Shown(
                f"a{number}", 5, 1
            )
        assert here.statistics().served == 12


def _held(runtime: Runtime) -> int:
    """Refusals that are decided, and not told yet."""
    asks = placement(runtime).asking._asks  # pyright: ignore[reportPrivateUsage]
    return sum(ask.held is not None for ask in asks)


async def test_what_was_sent_to_a_silent_owner_is_run_here_and_a_refusal_waits_for_its_lease(
    store: str, nats_url: str
) -> None:
    """A copy that the silent owner still has could come to something else, until its lease is over."""
    cluster = quick(nats_url, ttl=4, patience=0.2)
    async with node(store, cluster) as here, processes(store, cluster, 1) as (other,):
        await shared_out(here, 2)
        theirs = [id for id in IDS if not owns(here, id)][:2]
        other.pause()
        stored = here.dispatch_nowait(account, theirs[0], Deposit(1))
        refused = here.dispatch_nowait(account, theirs[1], Withdraw(1))
        assert (await stored).version == 1
        await until(lambda: _held(here))
        assert here.statistics().nodes == 2
        with pytest.raises(InsufficientFunds):
            await refused
        assert here.statistics().nodes == 1
        other.resume()
        await shared_out(here, 2)
        assert (await here.state(account, theirs[0])).changes == 1
        assert (await here.state(account, theirs[1])).changes == 0


async def test_a_refusal_that_comes_while_the_command_is_run_here_as_well_waits_for_what_comes_of_that(
    store: str, nats_url: str
) -> None:
    """The owner was silent for a moment only, and its answer overtakes the copy that is run here instead."""
    cluster = quick(nats_url, ttl=30, patience=0.2)
    script = Script()
    slow = FaultyStore(await open_store(store), script, SystemClock())
    async with app.open(slow, cluster=cluster) as here, processes(store, cluster, 1) as (other,):
        await shared_out(here, 2)
        id = next(id for id in IDS if not owns(here, id))
        script.add("replay", Hang())
        other.pause()
        withdrawing = here.dispatch_nowait(account, id, Withdraw(1))
        await until(lambda: slow.hanging)
        other.resume()
        await until(lambda: _held(here))
        assert isinstance(await other.ask(Run(id="d", account=id, amount=5), "d"), Stored)
        slow.release()
        assert (await withdrawing).version == 2
        assert await here.state(account, id) == Account(4, 2)
    await slow.close()


async def test_an_owner_that_goes_on_in_time_answers_for_its_copies(store: str, nats_url: str) -> None:
    cluster = quick(nats_url, ttl=30, patience=0.2)
    async with node(store, cluster) as here, processes(store, cluster, 1) as (other,):
        await shared_out(here, 2)
        theirs = [id for id in IDS if not owns(here, id)][:2]
        other.pause()
        stored = here.dispatch_nowait(account, theirs[0], Deposit(1))
        refused = here.dispatch_nowait(account, theirs[1], Withdraw(1))
        assert (await stored).version == 1
        await until(lambda: _held(here))
        other.resume()
        with pytest.raises(InsufficientFunds):
            await refused
        assert here.statistics().nodes == 2
        # What the owner has got of the first one finds that it is stored.
        assert (await here.dispatch(account, theirs[0], Deposit(1))).version == 2


@pytest.mark.slow  # The lease of a killed node has to lapse in real time.
async def test_with_the_lease_as_it_is_by_default_others_take_over_and_nobody_waits_for_that(
    store: str, nats_url: str
) -> None:
    cluster = with_parameters(nats_url, shards=SHARDS, moves=1_000)
    async with node(store, cluster) as here, processes(store, cluster, 2) as others:
        await shared_out(here, 3)
        async with calling(here, IDS) as callers:
            await others[0].kill()
            await progress(callers)
            await shared_out(here, 2)
        await check(store, callers)
