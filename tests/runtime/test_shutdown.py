"""Closing stops accepting, finishes what was accepted, answers everybody, and ends within its limit."""

from __future__ import annotations

import asyncio
import gc

import pytest

from rehydrate import (
    App,
    CommandResult,
    CommandTimeoutError,
    Limits,
    OutcomeUnknownError,
    Snapshot,
    StoreClosedError,
    open_store,
)
from rehydrate.testing.clock import FakeClock, settle
from rehydrate.testing.faults import Delay, Fault, FaultyStore, Hang, HangAnswer, Lose, LoseAnswer, Script
from tests.bank import Account, Deposit, Event, InsufficientFunds, Withdraw, account, app, bank_account
from tests.stand_ins import SHARED, Stage, staged


async def _closed(stage: Stage, *, at_most: float) -> None:
    await stage.in_time(stage.bank.close(), seconds=at_most)


async def test_what_was_accepted_is_finished() -> None:
    async with staged() as stage:
        stage.script.add("replay", Delay(1))
        stage.script.add("submit", Delay(1), Delay(1))
        sent = [
            stage.bank.dispatch_nowait(account, name, command)
            for name in ("ada", "bob")
            for command in (Deposit(5), Withdraw(9), Withdraw(5))
        ]
        await _closed(stage, at_most=5)
        outcomes = [future.exception() or future.result() for future in sent]
        kinds = [type(outcome) for outcome in outcomes]
        assert kinds == [CommandResult, InsufficientFunds, CommandResult] * 2
        assert (await stage.store.head()).position == 4


async def test_what_is_accepted_on_a_file_is_stored_when_it_is_closed(tmp_path: object) -> None:
    url = f"sqlite:///{tmp_path}/bank.db"
    async with app.open(url) as bank:
        sent = [bank.dispatch_nowait(account, f"client-{number % 7}", Deposit(1)) for number in range(100)]
    assert all(isinstance(future.result(), CommandResult) for future in sent)
    async with app.open(url) as bank:
        assert (await bank.store.head()).position == 100


async def test_an_unknown_outcome_is_resolved_first() -> None:
    async with staged() as stage:
        stage.script.add("submit", LoseAnswer(), Lose(), Lose())
        sent = stage.bank.dispatch_nowait(account, "ada", Deposit(5))
        await _closed(stage, at_most=5)
        assert (await sent).version == 1


async def test_a_snapshot_that_is_being_saved_is_finished() -> None:
    saving = bank_account(snapshot=Snapshot(every=1))
    async with staged(of=App(aggregates=[saving])) as stage:
        stage.script.add("save_snapshot", Delay(2))
        await stage.bank.dispatch(saving, "ada", Deposit(1))
        await _closed(stage, at_most=5)
        assert await stage.store.load_snapshot("bank_account-ada") is not None


async def test_while_it_closes_commands_are_refused() -> None:
    async with staged() as stage:
        stage.script.add("submit", Hang())
        sent = stage.bank.dispatch_nowait(account, "ada", Deposit(5))
        await settle()
        closing = asyncio.create_task(stage.bank.close())
        await settle()
        with pytest.raises(StoreClosedError):
            await stage.bank.dispatch(account, "ada", Deposit(1))
        with pytest.raises(StoreClosedError):
            await stage.bank.dispatch_nowait(account, "bob", Deposit(1))
        with pytest.raises(StoreClosedError):
            await stage.bank.state(account, "ada")
        with pytest.raises(StoreClosedError):
            _ = [event async for event in stage.bank.events(account, "ada")]
        assert not closing.done()
        stage.store.release()
        await closing
        assert (await sent).version == 1
        assert (await stage.store.head()).position == 1


HANGING: list[tuple[str, Fault, type[Exception]]] = [
    ("replay", Hang(), CommandTimeoutError),
    ("submit", Hang(), OutcomeUnknownError),
    ("submit", HangAnswer(), OutcomeUnknownError),
    ("ends", Hang(), CommandTimeoutError),
    ("read_stream", Hang(), CommandTimeoutError),
]


@pytest.mark.parametrize(("method", "fault", "answer"), HANGING)
async def test_when_its_time_is_over_everybody_is_told_what_is_true_by_then(
    method: str, fault: Fault, answer: type[Exception]
) -> None:
    async with (
        staged(SHARED, limits=Limits(shutdown_timeout=3, timeout=1_000)) as stage,
        app.open(SHARED) as there,
    ):
        if method != "replay":
            await stage.bank.dispatch(account, "ada", Deposit(1))
        if method == "read_stream":
            await there.dispatch(account, "ada", Deposit(1))
        stage.script.add(method, fault)
        command = Withdraw(50) if method == "ends" else Deposit(1)
        sent = stage.bank.dispatch_nowait(account, "ada", command)
        await settle()
        behind = stage.bank.dispatch_nowait(account, "ada", Deposit(1))
        start = stage.clock.monotonic()
        await _closed(stage, at_most=10)
        assert stage.clock.monotonic() - start == pytest.approx(3, abs=0.1)
        assert type(sent.exception()) is answer
        assert type(behind.exception()) is CommandTimeoutError


async def test_when_its_time_is_over_those_who_wait_for_a_permit_are_answered() -> None:
    async with staged(limits=Limits(shutdown_timeout=3, timeout=1_000, recoveries=1)) as stage:
        stage.script.add("replay", Hang())
        sent = [stage.bank.dispatch_nowait(account, name, Deposit(1)) for name in ("ada", "bob", "eve")]
        await _closed(stage, at_most=5)
        assert [type(future.exception()) for future in sent] == [CommandTimeoutError] * 3


async def test_when_its_time_is_over_a_repeat_whose_first_result_is_being_read_is_answered() -> None:
    async with staged(limits=Limits(shutdown_timeout=3, timeout=1_000)) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1), command_id="once")
        stage.script.add("read_stream", Hang())
        repeat = stage.bank.dispatch_nowait(account, "ada", Deposit(1), command_id="once")
        await _closed(stage, at_most=5)
        await settle()
        assert type(repeat.exception()) is OutcomeUnknownError


async def test_a_caller_in_a_task_of_its_own_is_answered_too() -> None:
    async with staged(limits=Limits(shutdown_timeout=1, timeout=1_000)) as stage:
        stage.script.add("submit", Hang())
        callers = [asyncio.create_task(stage.bank.dispatch(account, "ada", Deposit(1))) for _ in range(3)]
        await settle()
        await _closed(stage, at_most=5)
        outcomes = await asyncio.gather(*callers, return_exceptions=True)
        kinds = {type(outcome) for outcome in outcomes}
        assert kinds == {OutcomeUnknownError}


async def test_closing_leaves_no_timer_and_no_task() -> None:
    before = asyncio.all_tasks()
    async with staged(limits=Limits(shutdown_timeout=1)) as stage:
        stage.script.add("replay", None, Hang())
        await stage.bank.dispatch(account, "ada", Deposit(1))
        stage.bank.dispatch_nowait(account, "bob", Deposit(1))
        await settle()
        await _closed(stage, at_most=5)
        await settle()
        assert stage.clock.timers == 0
        assert asyncio.all_tasks() == before


async def test_a_question_for_a_state_that_waits_for_its_turn_is_refused_too() -> None:
    async with app.open("memory://") as bank:
        await bank.dispatch(account, "ada", Deposit(1))
        asked = [asyncio.create_task(bank.state(account, "ada")) for _ in range(200)]
        await asyncio.sleep(0)
        await bank.close()
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {Account, StoreClosedError}
        assert bank.statistics().live == 0


async def test_closing_that_is_cancelled_tells_everybody_and_leaves_nothing_either() -> None:
    before = asyncio.all_tasks()
    begun = asyncio.Event()

    async def handler(_: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with staged() as stage:
        stage.bank.subscribe("watch", handler)
        await stage.bank.dispatch(account, "ada", Deposit(1))
        await begun.wait()
        stage.script.add("submit", Hang())
        sent = stage.bank.dispatch_nowait(account, "ada", Deposit(1))
        await settle()
        closing = asyncio.create_task(stage.bank.close())
        await settle()
        assert not closing.done()
        closing.cancel()
        await settle()
        assert type(sent.exception()) is OutcomeUnknownError
        with pytest.raises(StoreClosedError):
            await stage.bank.dispatch(account, "ada", Deposit(1))
        assert stage.clock.timers == 0
        assert asyncio.all_tasks() == before


async def test_closing_twice_is_fine() -> None:
    async with staged() as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        await _closed(stage, at_most=1)
        await _closed(stage, at_most=1)


async def test_whoever_closes_while_it_is_closing_waits_for_the_same_end() -> None:
    async with staged() as stage:
        stage.script.add("submit", Hang())
        sent = stage.bank.dispatch_nowait(account, "ada", Deposit(5))
        await settle()
        first, second = (asyncio.create_task(stage.bank.close()) for _ in range(2))
        await settle()
        assert not first.done()
        assert not second.done()
        stage.store.release()
        await asyncio.gather(first, second)
        assert (await sent).version == 1


async def test_a_store_is_not_closed_before_a_close_elsewhere_has_ended() -> None:
    script, clock = Script(), FakeClock()
    store = FaultyStore(await open_store("memory://"), script, clock)
    script.add("submit", Delay(1))
    async with app.open(store, clock=clock) as bank:
        sent = bank.dispatch_nowait(account, "ada", Deposit(5))
        await settle()
        elsewhere = asyncio.create_task(bank.close())
        await asyncio.sleep(0)
        moving = asyncio.create_task(clock.advance(2))
    assert sent.done()
    assert (await sent).version == 1
    await elsewhere
    await moving
    await store.close()


async def test_a_close_that_is_cancelled_answers_everybody_at_once() -> None:
    async with staged() as stage:
        stage.script.add("submit", Hang())
        sent = stage.bank.dispatch_nowait(account, "ada", Deposit(5))
        await settle()
        closing = asyncio.create_task(stage.bank.close())
        await settle()
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert type(sent.exception()) is OutcomeUnknownError


async def test_an_error_in_the_body_closes_in_order() -> None:
    async def program() -> None:
        async with app.open("memory://") as bank:
            sent.append(bank.dispatch_nowait(account, "ada", Deposit(1)))
            raise RuntimeError("an error of the program")

    sent: list[asyncio.Future[CommandResult[Event]]] = []
    with pytest.raises(RuntimeError, match="of the program"):
        await program()
    assert (await sent[0]).version == 1


async def test_a_store_that_was_handed_over_stays_open() -> None:
    store = await open_store("memory://")
    for version in (1, 2, 3):
        async with app.open(store) as bank:
            assert (await bank.dispatch(account, "ada", Deposit(1))).version == version
    assert (await store.head()).position == 3
    await store.close()


async def test_work_in_the_background_survives_a_garbage_collection() -> None:
    async with staged() as stage:
        stage.script.add("replay", Hang())
        sent = stage.bank.dispatch_nowait(account, "ada", Deposit(1))
        await settle()
        gc.collect()
        stage.store.release()
        assert (await sent).version == 1
        assert await stage.bank.state(account, "ada") == Account(1, 1)
