"""A deadline says until when a caller waits, and what the answer means after it."""

from __future__ import annotations

import asyncio

import pytest

from rehydrate import CommandTimeoutError, Limits, OutcomeUnknownError, StoreUnavailableError
from rehydrate.testing.clock import settle
from rehydrate.testing.faults import Delay, Hang, HangAnswer
from tests.bank import Account, Deposit, InsufficientFunds, Withdraw, account
from tests.stand_ins import SHARED, Stage, staged


async def test_a_deadline_that_passes_before_the_decision_means_that_nothing_is_ever_stored() -> None:
    async with staged() as stage:
        stage.script.add("replay", Hang())
        sent = stage.bank.dispatch_nowait(account, "ada", Deposit(1_000), timeout=1, command_id="mine")
        await stage.clock.advance(0.95)
        assert not sent.done()
        await stage.clock.advance(0.1)
        assert sent.done()
        with pytest.raises(CommandTimeoutError) as late:
            await sent
        assert (late.value.stream, late.value.command_id) == ("bank_account-ada", "mine")
        stage.store.release()
        assert await stage.bank.state(account, "ada") == Account(0, 0)
        assert (await stage.store.head()).position == 0


async def test_a_deadline_that_passes_between_two_sweeps_is_seen_when_the_command_leaves_the_mailbox() -> (
    None
):
    async with staged() as stage:
        stage.script.add("replay", Delay(0.04))
        sent = stage.bank.dispatch_nowait(account, "ada", Deposit(1_000), timeout=0.03)
        await stage.clock.advance(0.04)
        assert sent.done()
        with pytest.raises(CommandTimeoutError):
            await sent
        assert await stage.bank.state(account, "ada") == Account(0, 0)


async def test_a_deadline_that_passes_during_the_append_means_that_nobody_knows() -> None:
    async with staged() as stage:
        stage.script.add("submit", Hang())
        sent = stage.bank.dispatch_nowait(account, "ada", Deposit(1), timeout=1)
        await stage.clock.advance(1.05)
        with pytest.raises(OutcomeUnknownError):
            await sent
        stage.store.release()
        assert await stage.bank.state(account, "ada") == Account(1, 1)


async def test_a_deadline_that_passes_while_an_answer_is_checked_means_that_nothing_was_stored() -> None:
    async with staged(SHARED) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        stage.script.add("ends", Hang())
        sent = stage.bank.dispatch_nowait(account, "ada", Withdraw(5), timeout=1)
        await stage.clock.advance(1.05)
        with pytest.raises(CommandTimeoutError):
            await sent
        stage.store.release()
        assert (await stage.bank.dispatch(account, "ada", Deposit(1))).version == 2


async def test_each_command_of_a_drain_has_a_deadline_of_its_own() -> None:
    async with staged() as stage:
        stage.script.add("replay", Hang())
        stage.script.add("submit", Hang())
        sent = [
            stage.bank.dispatch_nowait(account, "ada", Deposit(1), timeout=seconds) for seconds in (9, 1, 5)
        ]
        await settle()
        stage.store.release("replay")
        await stage.clock.advance(2)
        assert [future.done() for future in sent] == [False, True, False]
        stage.store.release()
        await settle()
        assert [future.done() for future in sent] == [True, True, True]
        assert [(await sent[0]).version, (await sent[2]).version] == [1, 3]


async def test_without_a_timeout_the_limit_of_the_runtime_counts() -> None:
    async with staged(limits=Limits(timeout=3)) as stage:
        stage.script.add("replay", Hang())
        sent = stage.bank.dispatch_nowait(account, "ada", Deposit(1))
        asked = asyncio.create_task(stage.bank.state(account, "ada"))
        await stage.clock.advance(2.9)
        assert not sent.done()
        await stage.clock.advance(0.2)
        assert sent.done()
        assert asked.done()
        for waited in (sent, asked):
            with pytest.raises(CommandTimeoutError):
                await waited


async def test_a_deadline_of_one_leaves_the_others_in_the_mailbox() -> None:
    async with staged() as stage:
        stage.script.add("replay", Hang())
        sent = [
            stage.bank.dispatch_nowait(account, "ada", Deposit(amount), timeout=seconds)
            for amount, seconds in ((1, 5), (10, 1), (100, 5))
        ]
        await stage.clock.advance(2)
        assert stage.bank.statistics().mailbox_depth == 2
        stage.store.release()
        await settle()
        with pytest.raises(CommandTimeoutError):
            await sent[1]
        assert [(await sent[0]).version, (await sent[2]).version] == [1, 2]
        assert await stage.bank.state(account, "ada") == Account(101, 2)


async def test_a_caller_that_was_cancelled_takes_its_command_along_nowhere() -> None:
    async with staged() as stage:
        stage.script.add("replay", Hang())
        callers = [asyncio.create_task(stage.bank.dispatch(account, "ada", Deposit(1))) for _ in range(3)]
        await settle()
        callers[1].cancel()
        stage.store.release()
        outcomes = await asyncio.gather(*callers, return_exceptions=True)
        assert isinstance(outcomes[1], asyncio.CancelledError)
        assert await stage.bank.state(account, "ada") == Account(3, 3)


async def test_a_caller_that_is_cancelled_during_the_append_cancels_its_wait_only() -> None:
    async with staged() as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        stage.script.add("submit", Hang())
        caller = asyncio.create_task(stage.bank.dispatch(account, "ada", Deposit(1)))
        await settle()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        behind = stage.bank.dispatch_nowait(account, "ada", Deposit(1))
        stage.store.release()
        assert (await behind).version == 3


async def test_a_wait_with_a_limit_of_the_caller_does_not_stop_the_append() -> None:
    async with staged() as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        stage.script.add("submit", HangAnswer())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await stage.bank.dispatch(account, "ada", Deposit(1))
        stage.store.release()
        assert await stage.bank.state(account, "ada") == Account(2, 2)


# ---- recovery has a budget of its own


async def test_a_recovery_goes_on_when_the_command_that_caused_it_has_expired() -> None:
    async with staged(limits=Limits(recovery_timeout=60)) as stage:
        stage.script.add("replay", Delay(10))
        with pytest.raises(CommandTimeoutError):
            await stage.in_time(stage.bank.dispatch(account, "ada", Deposit(1), timeout=1))
        second = stage.bank.dispatch_nowait(account, "ada", Deposit(1), timeout=20)
        await stage.clock.advance(9)
        assert (await second).version == 1
        assert stage.store.calls["replay"] == 1


async def test_a_recovery_that_nobody_waits_for_ends_in_an_actor_that_is_ready() -> None:
    async with staged() as stage:
        stage.script.add("replay", Delay(10))
        with pytest.raises(CommandTimeoutError):
            await stage.in_time(stage.bank.dispatch(account, "ada", Deposit(1), timeout=1))
        await stage.clock.advance(10)
        assert (stage.bank.statistics().live, stage.bank.statistics().busy) == (1, 0)
        assert (await stage.bank.dispatch(account, "ada", Deposit(1))).version == 1
        assert stage.store.calls["replay"] == 1


async def test_a_recovery_that_takes_too_long_is_given_up_and_the_next_command_tries_again() -> None:
    async with staged(limits=Limits(recovery_timeout=5)) as stage:
        stage.script.add("replay", Hang())
        sent = stage.bank.dispatch_nowait(account, "ada", Deposit(1))
        await stage.clock.advance(4.9)
        assert not sent.done()
        await stage.clock.advance(0.2)
        with pytest.raises(StoreUnavailableError, match="could not be read in 5"):
            await sent
        assert stage.store.hanging == 0
        assert (stage.bank.statistics().live, stage.bank.statistics().recovering) == (0, 0)
        assert (await stage.bank.dispatch(account, "ada", Deposit(1))).version == 1


async def test_who_is_refused_together_has_an_error_of_his_own() -> None:
    async with staged(limits=Limits(recovery_timeout=5)) as stage:
        stage.script.add("replay", Hang())
        sent = [stage.bank.dispatch_nowait(account, "ada", Deposit(1)) for _ in range(2)]
        await stage.clock.advance(5.2)
        first, second = (future.exception() for future in sent)
        assert isinstance(first, StoreUnavailableError)
        assert isinstance(second, StoreUnavailableError)
        assert str(first) == str(second)
        first.add_note("what one caller adds is not what the other reads")
        assert not hasattr(second, "__notes__")


async def test_waiting_for_a_permit_is_not_on_the_budget_of_a_recovery() -> None:
    async with staged(limits=Limits(recoveries=1, recovery_timeout=5)) as stage:
        stage.script.add("replay", Delay(4), Delay(4))
        sent = [stage.bank.dispatch_nowait(account, name, Deposit(1)) for name in ("ada", "bob")]
        await stage.clock.advance(8.1)
        assert [future.done() for future in sent] == [True, True]
        assert [(await future).version for future in sent] == [1, 1]


async def test_a_question_that_takes_too_long_is_given_up_and_the_others_ask_again() -> None:
    async with staged(SHARED, limits=Limits(recovery_timeout=5, timeout=30)) as stage:
        for name in ("ada", "bob"):
            await stage.bank.dispatch(account, name, Deposit(1))
        stage.script.add("ends", Hang())
        asked = asyncio.create_task(stage.bank.state(account, "ada"))
        await settle()
        behind = asyncio.create_task(stage.bank.state(account, "bob"))
        await stage.clock.advance(4.9)
        assert not asked.done()
        await stage.clock.advance(0.2)
        with pytest.raises(StoreUnavailableError, match="in 5"):
            await asked
        assert await behind == Account(1, 1)
        assert stage.store.hanging == 0
        assert await stage.bank.state(account, "ada") == Account(1, 1)


# ---- what a deadline costs


async def test_a_correction_of_the_clock_of_the_machine_expires_nothing() -> None:
    async with staged() as stage:
        stage.script.add("replay", Hang())
        sent = stage.bank.dispatch_nowait(account, "ada", Deposit(1), timeout=10)
        await settle()
        stage.clock.set_wall(4_000_000_000_000_000)
        await stage.clock.advance(0.1)
        assert not sent.done()
        stage.store.release()
        assert (await sent).version == 1


@pytest.mark.parametrize("commands", [1, 300])
async def test_one_sweep_watches_all_deadlines(commands: int) -> None:
    async with staged() as stage:
        await _warm(stage)
        idle = stage.clock.timers
        stage.script.add("submit", *[Hang()] * commands)
        for number in range(commands):
            stage.bank.dispatch_nowait(account, f"client-{number % 20}", Deposit(1))
        await settle()
        assert stage.clock.timers <= idle + 1
        stage.store.release()


async def test_a_deadline_that_was_met_leaves_no_timer_behind() -> None:
    async with staged() as stage:
        await _warm(stage)
        await stage.clock.advance(1)
        idle = stage.clock.timers
        for number in range(50):
            await stage.bank.dispatch(account, "client-1", Deposit(1), timeout=1_000, command_id=f"c{number}")
            await stage.bank.dispatch(account, "client-1", Deposit(1), timeout=1_000, command_id=f"c{number}")
            with pytest.raises(InsufficientFunds):
                await stage.bank.dispatch(account, "client-2", Withdraw(1_000_000), timeout=1_000)
        await stage.clock.advance(1)
        assert stage.clock.timers == idle


async def _warm(stage: Stage) -> None:
    for number in range(20):
        await stage.bank.dispatch(account, f"client-{number}", Deposit(1))
