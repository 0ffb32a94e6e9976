"""A conflict: somebody else appended first. The actor catches up and decides the same commands again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from rehydrate import (
    Aggregate,
    App,
    CommandResult,
    CommandTimeoutError,
    Limits,
    OutcomeUnknownError,
    Snapshot,
    VersionConflictError,
    open_store,
)
from rehydrate.clock import unique_ids
from rehydrate.runtime.manager import AggregateManager
from rehydrate.store.port import Store
from rehydrate.testing.clock import FakeClock, settle
from rehydrate.testing.faults import Delay, Hang, Refuse
from tests.bank import (
    Account,
    Command,
    Deposit,
    Deposited,
    Event,
    InsufficientFunds,
    Touch,
    Withdraw,
    account,
    app,
    bank_account,
)
from tests.stand_ins import SHARED, Exchangeable, Rival, Stale, copy_of, deposited, staged


@pytest_asyncio.fixture
async def store() -> AsyncIterator[Store]:
    """Closed by the stage that it is handed to."""
    yield await open_store(SHARED)


async def test_a_command_that_met_a_conflict_is_decided_again_on_what_the_other_left() -> None:
    async with staged(SHARED) as stage, app.open(SHARED) as there:
        await stage.bank.dispatch(account, "ada", Deposit(10))
        await there.dispatch(account, "ada", Withdraw(10))
        with pytest.raises(InsufficientFunds) as no:
            await stage.bank.dispatch(account, "ada", Withdraw(1))
        assert no.value.facts == {"balance": 0, "amount": 1}
        await there.dispatch(account, "ada", Deposit(5))
        result = await stage.bank.dispatch(account, "ada", Withdraw(5))
        assert result.version == 4
        assert stage.bank.statistics().conflicts == 2


async def test_commands_that_are_decided_again_keep_their_order(store: Store) -> None:
    rival = Rival(store, wins=1)
    async with staged(rival.as_store) as stage:
        stage.script.add("replay", Hang())
        amounts = (5, 4, 3, 2, 1)
        sent = [stage.bank.dispatch_nowait(account, "ada", Deposit(amount)) for amount in amounts]
        await settle()
        stage.store.release()
        results = await asyncio.gather(*sent)
        assert [result.version for result in results] == [2, 3, 4, 5, 6]
        assert [result.events for result in results] == [(Deposited(amount),) for amount in amounts]


async def test_commands_that_came_meanwhile_stay_behind_those_that_are_decided_again(store: Store) -> None:
    rival = Rival(store)
    async with staged(rival.as_store) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        rival.wins = 1
        stage.script.add("submit", Hang())
        stage.script.add("read_stream", Hang())
        first = stage.bank.dispatch_nowait(account, "ada", Deposit(1))
        await settle()
        stage.store.release("submit")
        await settle()
        second = stage.bank.dispatch_nowait(account, "ada", Deposit(1))
        stage.store.release()
        assert [(await first).version, (await second).version] == [3, 4]


async def test_a_command_is_decided_again_so_often_and_then_its_caller_gets_the_conflict(
    store: Store,
) -> None:
    rival = Rival(store)
    async with staged(rival.as_store, limits=Limits(max_redecide=3)) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        rival.wins = 4
        with pytest.raises(VersionConflictError) as conflict:
            await stage.in_time(stage.bank.dispatch(account, "ada", Deposit(1_000)))
        assert (conflict.value.stream, conflict.value.expected, conflict.value.actual) == (
            "bank_account-ada",
            4,
            5,
        )
        assert await stage.bank.state(account, "ada") == Account(5, 5)


async def test_three_conflicts_are_no_error_where_three_repeats_are_allowed(store: Store) -> None:
    async with staged(Rival(store, wins=3).as_store, limits=Limits(max_redecide=3)) as stage:
        assert (await stage.in_time(stage.bank.dispatch(account, "ada", Deposit(1)))).version == 4


async def test_conflicts_are_counted_for_each_command_and_not_for_the_actor(store: Store) -> None:
    rival = Rival(store)
    async with staged(rival.as_store, limits=Limits(max_redecide=3)) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        rival.wins = 5
        old = stage.bank.dispatch_nowait(account, "ada", Deposit(1))
        await settle()
        assert rival.wins == 3
        young = stage.bank.dispatch_nowait(account, "ada", Deposit(1))
        with pytest.raises(VersionConflictError):
            await stage.in_time(old)
        assert (await stage.in_time(young)).version == 7


async def test_answers_that_append_nothing_are_counted_too() -> None:
    async with staged(SHARED, limits=Limits(max_redecide=2)) as stage, app.open(SHARED) as there:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        stage.script.add("ends", Delay(1), Delay(1), Delay(1))
        asked = stage.bank.dispatch_nowait(account, "ada", Withdraw(1_000))
        for _ in range(3):
            await there.dispatch(account, "ada", Deposit(1))
            await stage.clock.advance(1.5)
        with pytest.raises(VersionConflictError):
            await asked


async def test_the_first_repeat_comes_at_once_and_the_others_after_a_pause(store: Store) -> None:
    rival = Rival(store)
    async with staged(rival.as_store) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        rival.wins = 3
        sent = stage.bank.dispatch_nowait(account, "ada", Deposit(1))
        await settle()
        assert len(rival.sizes) == 1 + 2
        await stage.clock.advance(1)
        assert (await sent).version == 5


async def test_pauses_grow_up_to_a_limit_and_differ(store: Store) -> None:
    limits = Limits(retry_first=0.01, retry_most=2.0)
    manager = AggregateManager(store, store, clock=FakeClock(), new_id=unique_ids(), limits=limits)
    for tries, most in ((1, 0.01), (5, 0.16), (100, 2.0)):
        drawn = {manager.pause(tries) for _ in range(50)}
        assert all(most / 2 <= seconds <= most for seconds in drawn)
        assert len(drawn) > 1
    await store.close()


async def test_after_the_second_conflict_in_a_row_a_drain_is_halved(store: Store) -> None:
    rival = Rival(store)
    async with staged(rival.as_store, limits=Limits(max_redecide=20)) as stage:
        stage.script.add("replay", Hang())
        sent = [stage.bank.dispatch_nowait(account, "ada", Deposit(1)) for _ in range(15)]
        await settle()
        rival.wins = 9
        stage.store.release()
        results = await stage.in_time(asyncio.gather(*sent))
        # 256, 256, 128, 64, 32 and 16 are more than there is; after an append that succeeds it is 256 again.
        assert rival.sizes == [15, 15, 15, 15, 15, 15, 8, 4, 2, 1, 14]
        assert [result.version for result in results] == list(range(10, 25))


async def test_a_caller_that_has_its_answer_is_not_decided_for_again(store: Store) -> None:
    rival = Rival(store, wins=1)
    async with staged(rival.as_store) as stage:
        stage.script.add("submit", Hang())
        late = stage.bank.dispatch_nowait(account, "ada", Deposit(1_000), timeout=1)
        await stage.clock.advance(1.1)
        with pytest.raises(OutcomeUnknownError):
            await late
        stage.store.release()
        assert await stage.in_time(stage.bank.state(account, "ada")) == Account(1, 1)


async def test_a_command_whose_caller_was_cancelled_is_decided_again(store: Store) -> None:
    rival = Rival(store, wins=1)
    async with staged(rival.as_store) as stage:
        stage.script.add("submit", Hang())
        caller = asyncio.create_task(stage.bank.dispatch(account, "ada", Deposit(1_000)))
        await settle()
        caller.cancel()
        await settle()
        stage.store.release()
        assert await stage.in_time(stage.bank.state(account, "ada")) == Account(1_001, 2)


# ---- a catch-up that does not get there


async def test_a_catch_up_that_does_not_reach_the_version_of_the_conflict_is_tried_again(
    store: Store,
) -> None:
    stale = Stale(store)
    async with staged(stale.as_store) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        await store.append("bank_account-ada", [deposited("theirs")], expected_version=1)
        stale.lags = 3
        sent = stage.bank.dispatch_nowait(account, "ada", Deposit(1))
        assert (await stage.in_time(sent)).version == 3
        assert stage.store.calls["read_stream"] == 4
        assert stage.bank.statistics().conflicts == 1


async def test_a_catch_up_that_fails_is_tried_again() -> None:
    async with staged(SHARED) as stage, app.open(SHARED) as there:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        await there.dispatch(account, "ada", Deposit(1))
        stage.script.add("read_stream", Refuse(), Refuse())
        assert (await stage.in_time(stage.bank.dispatch(account, "ada", Deposit(1)))).version == 3


async def test_who_waits_for_a_catch_up_that_gets_nowhere_waits_until_the_deadline_only(store: Store) -> None:
    stale = Stale(store)
    async with staged(stale.as_store) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        await store.append("bank_account-ada", [deposited("theirs")], expected_version=1)
        stale.lags = 1_000_000
        with pytest.raises(CommandTimeoutError):
            await stage.in_time(stage.bank.dispatch(account, "ada", Deposit(1_000), timeout=2))
        await stage.clock.advance(5)
        reads = stage.store.calls["read_stream"]
        await stage.clock.advance(60)
        assert stage.store.calls["read_stream"] == reads, "nobody waits, so nobody reads"
        stale.lags = 0
        assert await stage.in_time(stage.bank.state(account, "ada")) == Account(2, 2)


# ---- a store that went back


async def _went_back(
    store: Store, of: Aggregate[Account, Command, Event], command: Command, caplog: pytest.LogCaptureFixture
) -> CommandResult[Event]:
    """Three deposits, a restore to the first, and then the command."""
    exchangeable = Exchangeable(store)
    async with staged(exchangeable.as_store, of=App(aggregates=[of])) as stage:
        for _ in range(3):
            await stage.bank.dispatch(of, "ada", Deposit(10))
        await settle()
        exchangeable.behind = await copy_of(store, until=1)
        loads = stage.store.calls["load_snapshot"]
        with caplog.at_level(logging.ERROR):
            result = await stage.in_time(stage.bank.dispatch(of, "ada", command))
        assert "went back" in caplog.text
        assert stage.store.calls["load_snapshot"] == loads
        assert (await stage.bank.state(of, "ada", at=result.version)) == await stage.bank.state(of, "ada")
        await store.close()
        return result


async def test_an_append_to_a_store_that_went_back_starts_over_from_its_events(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    result = await _went_back(store, account, Withdraw(10), caplog)
    assert result.version == 2


async def test_a_refusal_by_a_state_that_the_store_no_longer_has_is_not_given(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    result = await _went_back(store, account, Touch(), caplog)
    assert result == CommandResult(1, 1, ())


async def test_after_a_store_went_back_no_snapshot_is_trusted(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    result = await _went_back(store, bank_account(snapshot=Snapshot(every=1)), Withdraw(10), caplog)
    assert result.version == 2


@pytest.mark.parametrize("kept", [1, 2], ids=["less than the actor knows", "no more than the actor knows"])
async def test_a_store_that_went_back_between_a_conflict_and_the_catch_up_starts_over(
    store: Store, caplog: pytest.LogCaptureFixture, kept: int
) -> None:
    """The version that the conflict named is gone: nobody waits for it."""
    exchangeable = Exchangeable(store)
    async with staged(exchangeable.as_store) as stage:
        for _ in range(2):
            await stage.bank.dispatch(account, "ada", Deposit(10))
        restored = await copy_of(store, until=kept)
        await store.append("bank_account-ada", [deposited(f"{n}") for n in range(3)], expected_version=2)
        stage.script.add("read_stream", Refuse())
        sent = stage.bank.dispatch_nowait(account, "ada", Withdraw(10))
        await settle()
        assert stage.bank.statistics().conflicts == 1
        exchangeable.behind = restored
        with caplog.at_level(logging.ERROR):
            assert (await stage.in_time(sent)).version == kept + 1
        assert "went back" in caplog.text
        assert await stage.bank.state(account, "ada") == Account(10 * (kept - 1), kept + 1)
    await store.close()


@pytest.mark.parametrize("theirs", [1, 3], ids=["as many events", "more events"])
@pytest.mark.parametrize("asks", ["command", "refusal", "state"])
async def test_a_store_that_went_back_and_was_written_to_since_starts_over_too(
    store: Store, caplog: pytest.LogCaptureFixture, theirs: int, asks: str
) -> None:
    """Also where the stream is at the very version again that the actor knows, with other events."""
    exchangeable = Exchangeable(store)
    async with staged(exchangeable.as_store) as stage:
        for _ in range(2):
            await stage.bank.dispatch(account, "ada", Deposit(10))
        restored = await copy_of(store, until=1)
        for version in range(1, 1 + theirs):
            await restored.append(
                "bank_account-ada", [deposited(f"theirs-{version}")], expected_version=version
            )
        exchangeable.behind = restored
        there = Account(10 + theirs, 1 + theirs)
        with caplog.at_level(logging.ERROR):
            match asks:
                case "command":
                    result = await stage.in_time(stage.bank.dispatch(account, "ada", Deposit(1)))
                    assert result.version == there.changes + 1
                    there = Account(there.balance + 1, there.changes + 1)
                case "refusal":
                    with pytest.raises(InsufficientFunds) as no:
                        await stage.in_time(stage.bank.dispatch(account, "ada", Withdraw(15)))
                    assert no.value.facts["balance"] == there.balance
                case _:
                    assert await stage.in_time(stage.bank.state(account, "ada")) == there
        assert "went back" in caplog.text
        assert await stage.bank.state(account, "ada") == there
        await store.close()
