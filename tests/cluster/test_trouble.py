"""The store of an owner is in trouble: what that means for a command is told to whoever asked, as it is told locally."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from rehydrate import (
    CommandTimeoutError,
    OutcomeUnknownError,
    Runtime,
    StoreUnavailableError,
    SystemClock,
    open_store,
)
from rehydrate.testing.clock import until
from rehydrate.testing.faults import FaultyStore, Hang, HangAnswer, LoseAnswer, Refuse, Script
from tests.bank import Account, Deposit, account, app
from tests.cluster.cluster_nodes import SHARDS, balanced, ids_of, node, placement


@asynccontextmanager
async def beside_a_faulty_owner(
    store: str, cluster: str
) -> AsyncGenerator[tuple[Runtime, Runtime, FaultyStore, Script]]:
    """A node that asks, and one whose store does what the script says."""
    behind = await open_store(store)
    faulty = FaultyStore(behind, script := Script(), SystemClock())
    try:
        async with node(store, cluster) as here, app.open(faulty, cluster=cluster) as there:
            await balanced(here, there)
            yield here, there, faulty, script
    finally:
        await behind.close()


async def test_an_append_that_hangs_is_an_unknown_outcome_and_its_repeat_finds_it(
    store: str, cluster: str
) -> None:
    async with beside_a_faulty_owner(store, cluster) as (here, there, faulty, script):
        (id,) = ids_of(there)
        assert (await here.dispatch(account, id, Deposit(1))).version == 1
        script.add("submit", HangAnswer())
        with pytest.raises(OutcomeUnknownError) as unknown:
            await here.dispatch(account, id, Deposit(2), timeout=0.3)
        assert unknown.value.stream == account.stream(id)
        faulty.release()
        again = await here.dispatch(account, id, Deposit(2), command_id=unknown.value.command_id)
        assert again.version == 2
        assert await here.state(account, id) == Account(3, 2)


async def test_a_command_whose_turn_does_not_come_in_time_was_not_stored(store: str, cluster: str) -> None:
    async with beside_a_faulty_owner(store, cluster) as (here, there, faulty, script):
        (id,) = ids_of(there)
        await here.dispatch(account, id, Deposit(1))
        script.add("submit", Hang())
        first = here.dispatch_nowait(account, id, Deposit(2))
        await until(lambda: placement(there).serving.count_under_way() == 1)
        with pytest.raises(CommandTimeoutError):
            await here.dispatch(account, id, Deposit(4), timeout=0.3)
        faulty.release()
        assert (await first).version == 2
        assert await here.state(account, id) == Account(3, 2)


async def test_a_store_that_refuses_is_told_as_it_is(store: str, cluster: str) -> None:
    async with beside_a_faulty_owner(store, cluster) as (here, there, _, script):
        (id,) = ids_of(there)
        await here.dispatch(account, id, Deposit(1))
        script.add("submit", Refuse(retryable=False))
        with pytest.raises(StoreUnavailableError) as refused:
            await here.dispatch(account, id, Deposit(2))
        assert (refused.value.stored, refused.value.retryable) == (False, False)


async def test_an_answer_of_the_store_that_is_lost_is_found_by_the_owner(store: str, cluster: str) -> None:
    async with beside_a_faulty_owner(store, cluster) as (here, there, _, script):
        (id,) = ids_of(there)
        script.add("submit", LoseAnswer(), LoseAnswer())
        assert (await here.dispatch(account, id, Deposit(1))).version == 1
        assert await here.state(account, id) == Account(1, 1)


async def test_a_shard_moves_when_what_its_actors_have_sent_is_settled(store: str, cluster: str) -> None:
    async with beside_a_faulty_owner(store, cluster) as (here, there, faulty, script):
        (id,) = ids_of(there)
        await there.dispatch(account, id, Deposit(1))
        script.add("submit", Hang())
        under_way = there.dispatch_nowait(account, id, Deposit(2))
        waiting = there.dispatch_nowait(account, id, Deposit(4))
        shards = placement(there).shards
        receiver = placement(here).membership.node
        moving = asyncio.create_task(shards.hand_over(shards.of(account.stream(id)), receiver))
        await until(lambda: not there.statistics().live)
        during = here.dispatch_nowait(account, id, Deposit(8))
        await until(lambda: here.statistics().routed == 1)
        assert not any(future.done() for future in (under_way, waiting, during))
        faulty.release()
        await moving
        assert (await under_way).version == 2
        assert {(await waiting).version, (await during).version} == {3, 4}
        assert await here.state(account, id) == Account(15, 4)


async def test_a_lease_that_ends_under_an_append_ends_nobodys_command(store: str, cluster: str) -> None:
    async with beside_a_faulty_owner(store, cluster) as (here, there, faulty, script):
        (id,) = ids_of(there)
        await there.dispatch(account, id, Deposit(1))
        script.add("submit", Hang())
        under_way = there.dispatch_nowait(account, id, Deposit(2))
        waiting = there.dispatch_nowait(account, id, Deposit(4))
        membership = placement(there).membership
        membership.until = 0.0
        membership.end_if_over()
        # What had only waited goes on at once, by the fence or at the next owner; what was sent finds that it lost.
        assert (await waiting).version == 2
        faulty.release()
        assert (await under_way).version == 3
        assert await here.state(account, id) == Account(7, 3)


async def test_a_task_of_a_node_that_fails_says_so_at_once(
    store: str, cluster: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Else a node without its renewals would leave the cluster, and nobody could say why."""

    async def failing() -> None:
        raise ValueError("nobody has thought of that")

    async with node(store, cluster) as here:
        placement(here).membership.run(failing())
        await until(lambda: "a task of this node failed" in caplog.text)
    assert "nobody has thought of that" in caplog.text


async def test_an_actor_that_waits_for_the_store_holds_up_no_other_shard(store: str, cluster: str) -> None:
    behind = await open_store(store)
    faulty = FaultyStore(behind, script := Script(), SystemClock())
    async with app.open(faulty, cluster=cluster) as first:
        await balanced(first)
        script.add("submit", *[Hang()] * SHARDS)
        waiting = [first.dispatch_nowait(account, id, Deposit(1)) for id in ids_of(first, 4)]
        async with node(store, cluster) as second:
            await until(lambda: first.statistics().shards + second.statistics().shards >= SHARDS - 4)
            await until(lambda: second.statistics().shards >= SHARDS // 2 - 4)
            assert not any(future.done() for future in waiting)
            faulty.release()
            await asyncio.gather(*waiting)
            await balanced(first, second)
    await behind.close()
