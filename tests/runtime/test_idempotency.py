"""A command id is stored with the events: whoever repeats a command with its id gets the first result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from rehydrate import (
    CommandResult,
    DuplicateCommandError,
    OutcomeUnknownError,
    StoreUnavailableError,
    open_store,
)
from rehydrate.clock import unique_ids
from rehydrate.codec.aggregate import AggregateCodecs
from rehydrate.runtime.blueprint import Blueprint
from rehydrate.runtime.limits import WINDOW_EVENTS, Limits
from rehydrate.runtime.mailbox import Pending
from rehydrate.runtime.manager import AggregateManager
from rehydrate.store.port import Store
from rehydrate.testing.clock import FakeClock, settle
from rehydrate.testing.faults import FaultyStore, Hang, Script
from tests.bank import (
    Account,
    Deposit,
    Deposited,
    InsufficientFunds,
    Split,
    Touch,
    Withdraw,
    account,
    app,
)
from tests.stand_ins import SHARED, Exchangeable, Rival, copy_of, staged


@pytest_asyncio.fixture
async def store() -> AsyncIterator[Store]:
    """A store that outlives the runtimes on it: opening the App on it again is a restart."""
    store = await open_store(SHARED)
    yield store
    await store.close()


async def test_a_repeat_is_answered_with_the_first_result(store: Store) -> None:
    async with app.open(store) as bank:
        first = await bank.dispatch(account, "ada", Split(6, 3), command_id="once")
        await bank.dispatch(account, "ada", Deposit(1))
        assert await bank.dispatch(account, "ada", Split(6, 3), command_id="once") == first
        assert first == CommandResult(3, 3, (Deposited(2),) * 3)
        assert await bank.state(account, "ada") == Account(7, 4)


async def test_a_repeat_after_a_restart_is_answered_with_the_first_result(store: Store) -> None:
    async with app.open(store) as bank:
        first = await bank.dispatch(account, "ada", Split(6, 3), command_id="once")
    async with app.open(store) as bank:
        assert await bank.dispatch(account, "ada", Split(6, 3), command_id="once") == first
        assert (await store.head()).position == 3


async def test_a_repeat_on_a_file_that_was_opened_again_is_answered_with_the_first_result(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path}/bank.db"
    async with app.open(url) as bank:
        first = await bank.dispatch(account, "ada", Deposit(6), command_id="once")
    async with app.open(url) as bank, app.open(url) as other:
        assert await bank.dispatch(account, "ada", Deposit(6), command_id="once") == first
        assert await other.dispatch(account, "ada", Deposit(6), command_id="once") == first


async def test_the_same_id_in_another_stream_is_another_command(store: Store) -> None:
    async with app.open(store) as bank:
        for name in ("ada", "bob"):
            assert (await bank.dispatch(account, name, Deposit(1), command_id="once")).version == 1
        assert (await store.head()).position == 2


@pytest.mark.parametrize("restart", [False, True])
async def test_the_same_id_with_another_payload_is_refused(store: Store, restart: bool) -> None:
    async with app.open(store) as bank, app.open(store) as again:
        await bank.dispatch(account, "ada", Deposit(1), command_id="once")
        bank = again if restart else bank
        for other in (Deposit(2), Touch(), Split(1, 1)):
            with pytest.raises(DuplicateCommandError) as duplicate:
                await bank.dispatch(account, "ada", other, command_id="once")
            assert (duplicate.value.stream, duplicate.value.command_id) == ("bank_account-ada", "once")
            assert "repeat one with its fields as they were, or mark" in str(duplicate.value)
        assert (await store.head()).position == 1


async def test_a_command_that_was_refused_leaves_no_trace(store: Store) -> None:
    async with app.open(store) as bank:
        with pytest.raises(InsufficientFunds):
            await bank.dispatch(account, "ada", Withdraw(5), command_id="once")
        await bank.dispatch(account, "ada", Deposit(5))
        assert (await bank.dispatch(account, "ada", Withdraw(5), command_id="once")).version == 2


async def test_a_command_without_events_leaves_no_trace(store: Store) -> None:
    async with app.open(store) as bank:
        await bank.dispatch(account, "ada", Touch(), command_id="once")
        assert (await bank.dispatch(account, "ada", Deposit(5), command_id="once")).version == 1


# ---- at the same time


async def test_two_commands_with_one_id_in_one_mailbox_share_one_decision() -> None:
    async with staged() as stage:
        stage.script.add("replay", Hang())
        sent = [
            stage.bank.dispatch_nowait(account, "ada", command, command_id=command_id)
            for command, command_id in (
                (Deposit(1), "a"),
                (Split(4, 2), "b"),
                (Split(4, 2), "b"),
                (Deposit(1), "a"),
            )
        ]
        await settle()
        stage.store.release()
        first, second, third, fourth = await asyncio.gather(*sent)
        assert (first, second) == (fourth, third)
        assert [first.version, second.version] == [1, 3]
        assert (stage.store.calls["submit"], (await stage.store.head()).position) == (1, 3)


async def test_two_commands_with_one_id_in_one_mailbox_share_a_refusal_too() -> None:
    async with staged() as stage:
        stage.script.add("replay", Hang())
        sent = [
            stage.bank.dispatch_nowait(account, "ada", command, command_id=command_id)
            for command, command_id in ((Withdraw(1), "a"), (Deposit(9), None), (Withdraw(1), "a"))
        ]
        await settle()
        stage.store.release()
        no, result, again = await asyncio.gather(*sent, return_exceptions=True)
        assert isinstance(no, InsufficientFunds)
        assert isinstance(again, InsufficientFunds)
        assert isinstance(result, CommandResult)


async def test_two_commands_with_one_id_and_different_payloads_in_one_mailbox() -> None:
    async with staged() as stage:
        stage.script.add("replay", Hang())
        sent = [
            stage.bank.dispatch_nowait(account, "ada", command, command_id="a")
            for command in (Deposit(1), Deposit(2))
        ]
        await settle()
        stage.store.release()
        result, duplicate = await asyncio.gather(*sent, return_exceptions=True)
        assert isinstance(result, CommandResult)
        assert isinstance(duplicate, DuplicateCommandError)
        assert await stage.bank.state(account, "ada") == Account(1, 1)


async def test_commands_that_share_a_decision_share_it_again_after_a_conflict() -> None:
    async with staged(Rival(await open_store(SHARED), wins=2).as_store) as stage:
        stage.script.add("replay", Hang())
        sent = [stage.bank.dispatch_nowait(account, "ada", Deposit(5), command_id="a") for _ in range(3)]
        await settle()
        stage.store.release()
        results = await stage.in_time(asyncio.gather(*sent))
        assert results == [CommandResult(3, 3, (Deposited(5),))] * 3
        assert await stage.bank.state(account, "ada") == Account(7, 3)


async def test_a_repeat_while_the_first_is_being_appended_waits_for_it() -> None:
    async with staged() as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        stage.script.add("submit", Hang())
        first = stage.bank.dispatch_nowait(account, "ada", Deposit(5), command_id="a")
        await settle()
        repeat = stage.bank.dispatch_nowait(account, "ada", Deposit(5), command_id="a")
        await settle()
        assert not repeat.done()
        stage.store.release()
        assert await repeat == await first
        assert await stage.bank.state(account, "ada") == Account(6, 2)


async def test_a_repeat_that_another_runtime_has_run_meanwhile_is_found_in_the_tail(store: Store) -> None:
    async with app.open(store) as here, app.open(store) as there:
        await here.dispatch(account, "ada", Deposit(1), command_id="before")
        await there.dispatch(account, "ada", Deposit(1))
        theirs = await there.dispatch(account, "ada", Deposit(5), command_id="once")
        assert await here.dispatch(account, "ada", Deposit(5), command_id="once") == theirs
        assert (await store.head()).position == 3


async def test_a_repeat_that_would_be_refused_now_is_answered_with_the_result_of_the_other_runtime(
    store: Store,
) -> None:
    async with app.open(store) as here, app.open(store) as there:
        await here.dispatch(account, "ada", Deposit(5), command_id="before")
        theirs = await there.dispatch(account, "ada", Withdraw(5), command_id="once")
        assert await here.dispatch(account, "ada", Withdraw(5), command_id="once") == theirs


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_two_runtimes_that_are_sent_the_same_commands_store_each_once(
    kind: str, tmp_path: Path
) -> None:
    url = SHARED if kind == "memory" else f"sqlite:///{tmp_path}/bank.db"
    async with app.open(url) as here, app.open(url) as there:
        sent = [
            bank.dispatch(account, "ada", Deposit(number), command_id=f"c{number}")
            for number in range(20)
            for bank in (here, there)
        ]
        results = await asyncio.gather(*sent)
        assert results[::2] == results[1::2]
        assert await here.state(account, "ada") == Account(190, 20)


# ---- how far back


async def test_a_repeat_is_recognised_within_the_last_1024_events(store: Store) -> None:
    async with app.open(store) as bank:
        first = await bank.dispatch(account, "ada", Deposit(1), command_id="once")
        await bank.dispatch(account, "ada", Split(WINDOW_EVENTS - 1, WINDOW_EVENTS - 1))
    async with app.open(store) as bank:
        assert await bank.dispatch(account, "ada", Deposit(1), command_id="once") == first


async def test_a_command_that_the_window_cuts_is_answered_whole(store: Store) -> None:
    async with app.open(store) as bank:
        await bank.dispatch(account, "ada", Deposit(7))
        first = await bank.dispatch(account, "ada", Split(9, 3), command_id="once")
        await bank.dispatch(account, "ada", Split(WINDOW_EVENTS - 1, WINDOW_EVENTS - 1))
    async with app.open(store) as bank:
        # The last 1,024 events begin with the third of its three.
        assert await bank.dispatch(account, "ada", Split(9, 3), command_id="once") == first
        assert first.events == (Deposited(3),) * 3
        with pytest.raises(DuplicateCommandError):
            await bank.dispatch(account, "ada", Split(9, 9), command_id="once")


@pytest.mark.parametrize("windows", [1, 2, 3])
async def test_with_its_cause_a_repeat_is_recognised_however_late_it_comes(
    store: Store, windows: int
) -> None:
    async with app.open(store) as bank:
        cause = await bank.dispatch(account, "bob", Deposit(1))
        await bank.dispatch(account, "ada", Deposit(1))
        first = await bank.dispatch(account, "ada", Split(6, 3), command_id="once", caused_at=cause.position)
        for _ in range(windows):
            await bank.dispatch(account, "ada", Split(WINDOW_EVENTS, WINDOW_EVENTS))
    async with app.open(store) as bank:
        repeat = await bank.dispatch(account, "ada", Split(6, 3), command_id="once", caused_at=cause.position)
        assert repeat == first
        with pytest.raises(DuplicateCommandError):
            await bank.dispatch(account, "ada", Deposit(6), command_id="once", caused_at=cause.position)


async def test_a_command_that_never_ran_is_run_after_the_search_for_it(store: Store) -> None:
    async with app.open(store) as bank:
        for _ in range(3):
            await bank.dispatch(account, "ada", Split(WINDOW_EVENTS, WINDOW_EVENTS))
    async with app.open(store) as bank:
        result = await bank.dispatch(account, "ada", Deposit(1), command_id="new", caused_at=5)
        assert result.version == 3 * WINDOW_EVENTS + 1
        assert await bank.dispatch(account, "ada", Deposit(1), command_id="new", caused_at=5) == result


async def test_a_stream_without_events_since_the_cause_is_not_read_back() -> None:
    async with staged() as stage:
        await stage.bank.dispatch(account, "ada", Split(2_000, 2_000))
        cause = await stage.bank.dispatch(account, "bob", Deposit(1))
        result = await stage.bank.dispatch(
            account, "ada", Deposit(1), command_id="new", caused_at=cause.position
        )
        assert result.version == 2_001
        assert stage.store.calls["read_stream"] == 0


async def test_the_search_for_a_cause_ends_where_the_cause_is() -> None:
    async with staged() as stage:
        for _ in range(5):
            await stage.bank.dispatch(account, "ada", Split(WINDOW_EVENTS, WINDOW_EVENTS))
        cause = await stage.bank.dispatch(account, "bob", Deposit(1))
        await stage.bank.dispatch(account, "ada", Split(WINDOW_EVENTS, WINDOW_EVENTS))
        await stage.bank.dispatch(account, "ada", Deposit(1), command_id="new", caused_at=cause.position)
        events_read = 2 * (WINDOW_EVENTS + 1)
        assert stage.store.calls["read_stream"] <= -(-events_read // 1_000) + 1


async def test_a_repeat_that_another_runtime_has_run_far_back_in_its_tail_is_found(store: Store) -> None:
    async with app.open(store) as here, app.open(store) as there:
        cause = await here.dispatch(account, "bob", Deposit(1))
        await here.dispatch(account, "ada", Split(2 * WINDOW_EVENTS, 2 * WINDOW_EVENTS))
        await there.state(account, "ada")
    async with app.open(store) as here, app.open(store) as there:
        await here.state(account, "ada")
        first = await there.dispatch(account, "ada", Deposit(5), command_id="once", caused_at=cause.position)
        for _ in range(3):
            await there.dispatch(account, "ada", Split(WINDOW_EVENTS, WINDOW_EVENTS))
        # Here the actor still stands before all that: it looks back from there, finds nothing, and meets a conflict.
        assert (
            await here.dispatch(account, "ada", Deposit(5), command_id="once", caused_at=cause.position)
            == first
        )
        assert (await here.state(account, "ada")).balance == 5 * WINDOW_EVENTS + 5


# ---- what is kept


async def test_nothing_is_kept_until_a_command_comes_with_an_id_of_its_caller(store: Store) -> None:
    manager = AggregateManager(store, store, clock=FakeClock(), new_id=unique_ids(), limits=Limits())
    blueprint = Blueprint(account, AggregateCodecs.of(account), manager)

    async def run(**fields: object) -> None:
        answer = manager.deliver(blueprint, "ada", Pending(Deposit(1), timeout=30, **fields))  # type: ignore[arg-type]
        if asyncio.isfuture(answer):
            await answer

    for number in range(10):
        await run(known_id=f"made-{number}")
    assert blueprint.actors["ada"].window is None
    await run(known_id="given", is_given=True, digest="d")
    window = blueprint.actors["ada"].window
    assert window is not None
    assert window.find("made-0") is not None
    await run(known_id="made-11")
    assert window.find("made-11") is not None
    await manager.close()


async def test_a_window_is_read_once_and_kept_up_to_date() -> None:
    async with staged() as stage:
        await stage.bank.dispatch(account, "ada", Split(100, 100))
        await stage.bank.dispatch(account, "ada", Deposit(1), command_id="first")
        reads = stage.store.calls["read_stream"]
        assert reads == 1
        for number in range(50):
            await stage.bank.dispatch(account, "ada", Deposit(1), command_id=f"c{number}")
        assert stage.store.calls["read_stream"] == reads
        await stage.bank.dispatch(account, "ada", Deposit(1), command_id="c7")
        assert stage.bank.statistics().dispatched == 53
        assert (await stage.store.head()).position == 151


async def test_the_id_that_a_runtime_made_is_an_id_like_any_other(store: Store) -> None:
    async with app.open(store) as bank:
        first = await bank.dispatch(account, "ada", Deposit(1))
        (envelope,) = [event async for event in bank.events(account, "ada")]
        assert envelope.metadata.fingerprint is None
        assert (
            await bank.dispatch(account, "ada", Deposit(1), command_id=envelope.metadata.command_id) == first
        )
        await bank.dispatch(account, "ada", Deposit(1), command_id="mine")
        *_, envelope = [event async for event in bank.events(account, "ada")]
        assert envelope.metadata.fingerprint is not None


# ---- trouble while it is looked up


async def test_a_repeat_is_answered_by_its_own_deadline_wherever_the_time_went() -> None:
    async with staged() as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1), command_id="once")
        stage.script.add("submit", Hang())
        stage.script.add("read_stream", Hang())
        stage.bank.dispatch_nowait(account, "ada", Deposit(1))
        repeat = stage.bank.dispatch_nowait(account, "ada", Deposit(1), command_id="once", timeout=2)
        await stage.clock.advance(1.5)
        stage.store.release("submit")
        await stage.clock.advance(0.4)
        assert not repeat.done()
        await stage.clock.advance(0.2)
        assert repeat.done()
        with pytest.raises(OutcomeUnknownError):
            await repeat


async def test_a_repeat_whose_deadline_has_passed_is_no_longer_read_for() -> None:
    async with staged() as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1), command_id="once")
        stage.script.add("read_stream", Hang())
        repeat = stage.bank.dispatch_nowait(account, "ada", Deposit(1), command_id="once", timeout=2)
        await stage.clock.advance(1.9)
        assert stage.store.hanging == 1
        await stage.clock.advance(0.2)
        assert type(repeat.exception()) is OutcomeUnknownError
        assert stage.store.hanging == 0


async def test_the_actor_goes_on_while_a_first_result_is_read_back() -> None:
    async with staged() as stage:
        first = await stage.bank.dispatch(account, "ada", Deposit(1), command_id="once")
        stage.script.add("read_stream", Hang())
        repeat = stage.bank.dispatch_nowait(account, "ada", Deposit(1), command_id="once")
        await settle()
        assert (await stage.bank.dispatch(account, "ada", Deposit(1))).version == 2
        assert not repeat.done()
        stage.store.release()
        assert await repeat == first


async def test_a_first_result_that_a_restore_took_away_is_no_result(store: Store) -> None:
    exchangeable = Exchangeable(store)
    script = Script()
    clock = FakeClock()
    async with app.open(FaultyStore(exchangeable.as_store, script, clock), clock=clock) as bank:
        await bank.dispatch(account, "ada", Deposit(1))
        await bank.dispatch(account, "ada", Deposit(5), command_id="once")
        exchangeable.behind = restored = await copy_of(store, until=1)
        with pytest.raises(StoreUnavailableError):
            await bank.dispatch(account, "ada", Deposit(5), command_id="once")
        assert (await bank.dispatch(account, "ada", Deposit(5), command_id="once")).version == 2
        assert await bank.state(account, "ada") == Account(6, 2)
    await restored.close()
