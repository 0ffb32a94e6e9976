"""A command runs on the node that owns its aggregate, and everything comes back as if it had run where it was asked for."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from rehydrate import (
    ActorCrashedError,
    CommandResult,
    CommandTimeoutError,
    DuplicateCommandError,
    InvalidIdError,
    Limits,
    MailboxFullError,
    Runtime,
)
from rehydrate.testing.clock import until
from tests.bank import (
    Account,
    Crash,
    Deposit,
    Deposited,
    InsufficientFunds,
    Split,
    Touch,
    Withdraw,
    account,
    app,
)
from tests.cluster.cluster_nodes import balanced, ids_of, node, nodes, owns, placement

_ROOT = Path(__file__).parent.parent.parent


async def test_a_command_runs_on_the_node_that_owns_its_shard(store: str, cluster: str) -> None:
    async with nodes(store, cluster) as (here, there):
        for id in ids_of(there, 5):
            await here.dispatch(account, id, Deposit(1))
        assert (here.statistics().routed, here.statistics().live) == (5, 0)
        assert (there.statistics().served, there.statistics().live) == (5, 5)


async def test_what_a_node_owns_itself_goes_nowhere(store: str, cluster: str) -> None:
    async with nodes(store, cluster) as (here, there):
        for id in ids_of(here, 5):
            await here.dispatch(account, id, Deposit(1))
        assert (here.statistics().routed, there.statistics().served) == (0, 0)


async def test_results_refusals_and_states_are_the_same_from_every_node(store: str, cluster: str) -> None:
    async with nodes(store, cluster, count=3) as runtimes:
        for number in range(20):
            id, balance = f"account{number}", 0
            for count, runtime in enumerate(runtimes, 1):
                result = await runtime.dispatch(account, id, Deposit(10))
                assert (result.version, result.events) == (count, (Deposited(10),))
                balance += 10
            for runtime in runtimes:
                with pytest.raises(InsufficientFunds) as no:
                    await runtime.dispatch(account, id, Withdraw(balance + 1))
                assert no.value.facts == {"balance": balance, "amount": balance + 1}
                assert await runtime.state(account, id) == Account(balance, 3)
                assert (await runtime.dispatch(account, id, Touch())).version == 3
        assert len({runtime.statistics().shards for runtime in runtimes}) <= 2


async def test_metadata_and_correlation_are_stored_as_they_were_given(store: str, cluster: str) -> None:
    async with nodes(store, cluster) as (here, there):
        (id,) = ids_of(there)
        await here.dispatch(
            account,
            id,
            Deposit(1),
            command_id="mine",
            correlation_id="talk",
            causation_id="cause",
            metadata={"user": "ada", "age": 36},
        )
        (event,) = [event async for event in here.events(account, id)]
        found = event.metadata
        assert (found.command_id, found.correlation_id, found.causation_id) == ("mine", "talk", "cause")
        assert found.user == {"user": "ada", "age": 36}


async def test_a_repeat_is_answered_with_the_first_result_from_every_node(store: str, cluster: str) -> None:
    async with nodes(store, cluster) as (here, there):
        (id,) = ids_of(there)
        first = await here.dispatch(account, id, Deposit(1), command_id="once")
        await there.dispatch(account, id, Deposit(5))
        assert await there.dispatch(account, id, Deposit(1), command_id="once") == first
        assert await here.dispatch(account, id, Deposit(1), command_id="once") == first
        with pytest.raises(DuplicateCommandError) as duplicate:
            await here.dispatch(account, id, Deposit(2), command_id="once")
        assert duplicate.value.command_id == "once"


@pytest.mark.parametrize("where", ["decide", "evolve"])
async def test_a_crash_is_told_with_its_cause_as_text(store: str, cluster: str, where: str) -> None:
    async with nodes(store, cluster) as (here, there):
        (id,) = ids_of(there)
        with pytest.raises(ActorCrashedError, match=f"a bug in {where}") as crash:
            await here.dispatch(account, id, Crash(where))
        assert (crash.value.stream, crash.value.command) == (account.stream(id), "Crash")
        assert f"RuntimeError: a bug in {where}" in str(crash.value.__cause__)
        assert placement(there).membership.label in str(crash.value.__cause__)


async def test_an_id_that_cannot_be_one_is_refused_before_anything_is_sent(store: str, cluster: str) -> None:
    async with nodes(store, cluster) as (here, _):
        for number in range(20):
            for id in (f"\0{number}", f"\ud800{number}", "a" * 513):
                with pytest.raises(InvalidIdError):
                    await here.dispatch(account, id, Deposit(1))
                with pytest.raises(InvalidIdError):
                    await here.state(account, id)
        assert here.statistics().routed == 0


async def test_a_state_that_is_asked_for_right_after_a_command_shows_it(store: str, cluster: str) -> None:
    async with nodes(store, cluster) as (here, there):
        for id in ids_of(there, 5):
            await there.dispatch(account, id, Deposit(7))
            assert await here.state(account, id) == Account(7, 1)
        assert here.statistics().live == 0


async def test_a_large_result_is_read_from_the_store(store: str, cluster: str) -> None:
    async with nodes(store, cluster) as (here, there):
        (id,) = ids_of(there)
        placement(there).serving._room = 200  # pyright: ignore[reportPrivateUsage]
        await here.dispatch(account, id, Deposit(1))
        result = await here.dispatch(account, id, Split(100, 100))
        assert result == CommandResult(101, result.position, (Deposited(1),) * 100)
        assert await here.state(account, id) == Account(101, 101)


async def test_a_full_mailbox_of_the_owner_is_told_to_whoever_asked(store: str, cluster: str) -> None:
    async with nodes(store, cluster, limits=Limits(mailbox=2)) as (here, there):
        (id,) = ids_of(there)
        outcomes = await asyncio.gather(
            *(here.dispatch(account, id, Deposit(1)) for _ in range(200)), return_exceptions=True
        )
        full = [outcome for outcome in outcomes if isinstance(outcome, MailboxFullError)]
        stored = [outcome for outcome in outcomes if isinstance(outcome, CommandResult)]
        assert full
        assert (full[0].stream, full[0].limit) == (account.stream(id), 2)
        assert len(full) + len(stored) == 200
        assert (await here.state(account, id)).balance == len(stored)


async def test_commands_under_way_to_others_are_bounded(store: str, cluster: str) -> None:
    async with nodes(store, cluster, limits=Limits(routed=3)) as (here, there):
        (id,) = ids_of(there)
        outcomes = await asyncio.gather(
            *(here.dispatch(account, id, Deposit(1)) for _ in range(10)), return_exceptions=True
        )
        full = [outcome for outcome in outcomes if isinstance(outcome, MailboxFullError)]
        assert len(full) == 7
        assert "commands under way to other nodes" in str(full[0])


async def test_a_deadline_travels_with_its_command(store: str, cluster: str) -> None:
    async with nodes(store, cluster) as (here, there):
        (id,) = ids_of(there)
        with pytest.raises(CommandTimeoutError) as late:
            await here.dispatch(account, id, Deposit(1), timeout=1e-9)
        assert late.value.stream == account.stream(id)
        assert await here.state(account, id) == Account()


async def test_a_caller_that_is_cancelled_cancels_its_wait_only(store: str, cluster: str) -> None:
    async with nodes(store, cluster) as (here, there):
        (id,) = ids_of(there)
        caller = asyncio.create_task(here.dispatch(account, id, Deposit(1)))
        await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        await until(lambda: there.statistics().dispatched == 1)
        assert await here.state(account, id) == Account(1, 1)


async def test_a_command_that_nobody_waits_for_is_run(store: str, cluster: str) -> None:
    async with nodes(store, cluster) as (here, there):
        (id,) = ids_of(there)
        here.dispatch_nowait(account, id, Deposit(1))
        assert (await here.dispatch_nowait(account, id, Deposit(2))).version == 2


async def test_callers_without_an_event_loop_are_routed_too(store: str, cluster: str) -> None:
    def ask() -> tuple[int, Account, int]:
        with app.open_sync(store, cluster=cluster) as bank:
            return (
                bank.dispatch(account, "ada", Deposit(2)).version,
                bank.state(account, "ada"),
                bank.statistics().nodes,
            )

    async with nodes(store, cluster, count=1) as (here,):
        await here.dispatch(account, "ada", Deposit(1))
        assert await asyncio.to_thread(ask) == (2, Account(3, 2), 2)


async def test_shards_follow_those_who_come_and_go_and_no_command_is_lost_or_doubled(
    store: str, cluster: str
) -> None:
    done: dict[str, int] = {f"account{number}": 0 for number in range(16)}
    is_over = False

    async def use(runtime: Runtime, id: str) -> None:
        while not is_over:
            await runtime.dispatch(account, id, Deposit(1))
            done[id] += 1

    async with node(store, cluster) as first:
        async with asyncio.TaskGroup() as callers:
            for id in done:
                callers.create_task(use(first, id))
            for _ in range(2):
                async with node(store, cluster) as second:
                    await balanced(first, second)
                    async with node(store, cluster) as third:
                        await balanced(first, second, third)
                        async with asyncio.TaskGroup() as others:
                            for id in done:
                                others.create_task(third.dispatch(account, id, Deposit(0)))
                    await balanced(first, second)
                await balanced(first)
            is_over = True
        for id, count in done.items():
            assert (await first.state(account, id)).balance == count


async def test_an_orderly_leave_leaves_nobody_without_an_owner(store: str, cluster: str) -> None:
    async with node(store, cluster) as staying:
        async with node(store, cluster) as leaving:
            await balanced(staying, leaving)
            ids = ids_of(leaving, 3)
            for id in ids:
                await leaving.dispatch(account, id, Deposit(1))
        await balanced(staying)
        assert all(owns(staying, id) for id in ids)
        for id in ids:
            assert (await staying.dispatch(account, id, Deposit(1))).version == 2


def test_without_a_cluster_nothing_of_nats_is_imported() -> None:
    program = """
import asyncio, sys
from tests.bank import Deposit, account, app

async def main():
    async with app.open("memory://") as bank:
        await bank.dispatch(account, "ada", Deposit(1))

asyncio.run(main())
print([name for name in sys.modules if name.partition(".")[0] == "nats" or name.startswith("rehydrate.cluster")])
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=_ROOT
    )
    assert ran.stdout == "[]\n"
