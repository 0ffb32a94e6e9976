"""Every answer passes the fence: none is decided on a state older than what another writer was acknowledged."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from rehydrate import Aggregate, App, CommandResult, Runtime, StoreUnavailableError, open_store
from rehydrate.testing.clock import settle
from rehydrate.testing.faults import HangAnswer, Refuse
from tests.bank import (
    Account,
    Command,
    Deposit,
    Event,
    InsufficientFunds,
    Touch,
    Withdraw,
    account,
    app,
    decide,
    evolve,
)
from tests.stand_ins import SHARED, deposited, staged


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store that two runtimes can open."""
    return SHARED if request.param == "memory" else f"sqlite:///{tmp_path}/bank.db"


async def test_a_rejection_is_not_decided_on_a_state_that_another_writer_has_overtaken(url: str) -> None:
    async with app.open(url) as here, app.open(url) as there:
        await here.dispatch(account, "ada", Deposit(10))
        await there.dispatch(account, "ada", Deposit(90))
        assert (await here.dispatch(account, "ada", Withdraw(100))).version == 3
        with pytest.raises(InsufficientFunds) as no:
            await there.dispatch(account, "ada", Withdraw(50))
        assert no.value.facts == {"balance": 0, "amount": 50}


async def test_a_command_without_events_points_to_the_end_that_another_writer_has_reached(url: str) -> None:
    async with app.open(url) as here, app.open(url) as there:
        await here.dispatch(account, "ada", Deposit(10))
        theirs = await there.dispatch(account, "ada", Deposit(90))
        assert await here.dispatch(account, "ada", Touch()) == CommandResult(2, theirs.position, ())


async def test_a_state_shows_what_another_writer_was_acknowledged(url: str) -> None:
    async with app.open(url) as here, app.open(url) as there:
        assert await here.state(account, "ada") == Account(0, 0)
        await there.dispatch(account, "ada", Deposit(90))
        assert await here.state(account, "ada") == Account(90, 1)


async def test_a_crash_on_a_state_that_was_overtaken_is_decided_again(url: str) -> None:
    def fragile_decide(state: Account, command: Command) -> Iterable[Event]:
        if state.balance == 10:
            raise RuntimeError("a bug that shows at a balance of 10 only")
        return decide(state, command)

    fragile = _named_fragile(fragile_decide)
    repaired = _named_fragile(decide)
    async with App(aggregates=[fragile]).open(url) as here, App(aggregates=[repaired]).open(url) as there:
        await here.dispatch(fragile, "ada", Deposit(10))
        await there.dispatch(repaired, "ada", Deposit(1))
        assert (await here.dispatch(fragile, "ada", Withdraw(11))).version == 3


def _named_fragile(
    decide: Callable[[Account, Command], Iterable[Event]],
) -> Aggregate[Account, Command, Event]:
    return Aggregate(
        name="fragile", initial=Account(), decide=decide, evolve=evolve, commands=Command, events=Event
    )


async def test_of_two_who_withdraw_all_at_the_same_time_one_is_refused(url: str) -> None:
    async with app.open(url) as here, app.open(url) as there:
        for number in range(5):
            await here.dispatch(account, "ada", Deposit(10))
            await there.state(account, "ada")
            outcomes = await asyncio.gather(
                here.dispatch(account, "ada", Withdraw(10)),
                there.dispatch(account, "ada", Withdraw(10)),
                return_exceptions=True,
            )
            assert sorted(type(outcome).__name__ for outcome in outcomes) == [
                "CommandResult",
                "InsufficientFunds",
            ]
            assert await here.state(account, "ada") == Account(0, 2 * number + 2)


async def test_two_runtimes_in_turns_answer_as_one_account_would(url: str) -> None:
    draw = random.Random(7)
    balance = changes = 0
    async with app.open(url) as here, app.open(url) as there:
        for _ in range(60):
            bank = draw.choice([here, there])
            amount = draw.randrange(1, 20)
            match draw.randrange(4):
                case 0:
                    await bank.dispatch(account, "ada", Deposit(amount))
                    balance, changes = balance + amount, changes + 1
                case 1 if amount <= balance:
                    await bank.dispatch(account, "ada", Withdraw(amount))
                    balance, changes = balance - amount, changes + 1
                case 1:
                    with pytest.raises(InsufficientFunds) as no:
                        await bank.dispatch(account, "ada", Withdraw(amount))
                    assert no.value.facts == {"balance": balance, "amount": amount}
                case 2:
                    assert (await bank.dispatch(account, "ada", Touch())).version == changes
                case _:
                    assert await bank.state(account, "ada") == Account(balance, changes)


async def test_a_private_store_is_not_asked() -> None:
    async with app.open("memory://") as bank:
        await bank.dispatch(account, "ada", Deposit(5))
        for command in (Withdraw(6), Touch()):
            assert bank.dispatch_nowait(account, "ada", command).done()


async def test_a_private_store_that_was_handed_out_is_asked() -> None:
    async with app.open("memory://") as bank:
        await bank.dispatch(account, "ada", Deposit(5))
        await bank.store.append("bank_account-ada", [deposited("theirs", 10)], expected_version=1)
        assert (await bank.dispatch(account, "ada", Withdraw(12))).version == 3
        assert await bank.state(account, "ada") == Account(3, 3)


async def test_two_runtimes_on_one_store_object_agree() -> None:
    store = await open_store("memory://")
    async with app.open(store) as one, app.open(store) as two:
        await one.dispatch(account, "ada", Deposit(5))
        assert await two.state(account, "ada") == Account(5, 1)
        await one.dispatch(account, "ada", Deposit(5))
        assert await two.state(account, "ada") == Account(10, 2)
    await store.close()


async def test_a_store_with_other_writers_is_asked_for_each_answer_that_appends_nothing() -> None:
    async with staged(SHARED) as stage:
        await _answers_without_events(stage.bank)
        assert stage.store.calls["ends"] == 3


async def _answers_without_events(bank: Runtime) -> None:
    await bank.dispatch(account, "ada", Deposit(1))
    with pytest.raises(InsufficientFunds):
        await bank.dispatch(account, "ada", Withdraw(2))
    await bank.dispatch(account, "ada", Touch())
    await bank.state(account, "ada")


async def test_an_append_is_its_own_fence() -> None:
    async with staged(SHARED) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        sent = [stage.bank.dispatch_nowait(account, "ada", command) for command in (Deposit(1), Deposit(1))]
        await asyncio.gather(*sent)
        assert stage.store.calls["ends"] == 0


async def test_a_rejection_between_appends_is_fenced_by_their_append() -> None:
    async with staged(SHARED) as stage:
        sent = [
            stage.bank.dispatch_nowait(account, "ada", command)
            for command in (Deposit(1), Withdraw(2), Deposit(1))
        ]
        first, no, last = await asyncio.gather(*sent, return_exceptions=True)
        assert isinstance(no, InsufficientFunds)
        assert (first, last) == (await sent[0], await sent[2])
        assert (stage.store.calls["submit"], stage.store.calls["ends"]) == (1, 0)


async def test_actors_that_want_to_know_at_the_same_time_ask_in_one_call() -> None:
    async with staged(SHARED) as stage:
        names = [f"client-{number}" for number in range(100)]
        await asyncio.gather(*(stage.bank.dispatch(account, name, Deposit(1)) for name in names))
        sent = [stage.bank.dispatch_nowait(account, name, Withdraw(2)) for name in names]
        assert all(
            isinstance(no, InsufficientFunds) for no in await asyncio.gather(*sent, return_exceptions=True)
        )
        assert stage.store.calls["ends"] == 1


async def test_who_asks_while_a_question_is_under_way_is_not_given_its_answer() -> None:
    async with staged(SHARED) as stage, app.open(SHARED) as there:
        for name in ("ada", "bob", "eve"):
            await stage.bank.dispatch(account, name, Deposit(1))
        stage.script.add("ends", HangAnswer())
        early = stage.bank.dispatch_nowait(account, "ada", Touch())
        await settle()
        await there.dispatch(account, "bob", Deposit(9))
        late = [stage.bank.dispatch_nowait(account, name, Withdraw(5)) for name in ("bob", "eve")]
        await settle()
        assert not any(future.done() for future in (early, *late))
        stage.store.release()
        assert (await early).version == 1
        assert (await late[0]).version == 3
        with pytest.raises(InsufficientFunds):
            await late[1]
        assert stage.store.calls["ends"] == 2


async def test_a_command_behind_an_answer_that_is_being_checked_is_decided_on_what_is_acknowledged_by_then() -> (
    None
):
    async with staged(SHARED) as stage, app.open(SHARED) as there:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        stage.script.add("ends", HangAnswer())
        before = stage.bank.dispatch_nowait(account, "ada", Withdraw(5))
        await settle()
        await there.dispatch(account, "ada", Deposit(9))
        behind = stage.bank.dispatch_nowait(account, "ada", Withdraw(5))
        stage.store.release()
        with pytest.raises(InsufficientFunds):
            await before
        assert (await behind).version == 3


async def test_a_question_that_fails_is_told_to_those_who_asked_and_to_nobody_else() -> None:
    async with staged(SHARED) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        stage.script.add("ends", Refuse())
        with pytest.raises(StoreUnavailableError):
            await stage.bank.state(account, "ada")
        assert await stage.bank.state(account, "ada") == Account(1, 1)
        assert stage.bank.statistics().busy == 0


async def test_what_waits_behind_a_question_that_fails_goes_on() -> None:
    async with staged(SHARED) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        stage.script.add("ends", Refuse())
        asked = stage.bank.dispatch_nowait(account, "ada", Touch())
        behind = stage.bank.dispatch_nowait(account, "ada", Deposit(1))
        with pytest.raises(StoreUnavailableError):
            await asked
        assert (await behind).version == 2


EAGER = getattr(asyncio, "eager_task_factory", None)


@pytest.mark.skipif(EAGER is None, reason="only from Python 3.12 on a task may begin at once")
async def test_where_tasks_begin_at_once_every_answer_passes_the_fence_too(url: str) -> None:
    asyncio.get_running_loop().set_task_factory(EAGER)
    async with app.open(url) as here, app.open(url) as there:
        for round_trip in range(3):
            await here.dispatch(account, "ada", Deposit(1), command_id=f"c{round_trip}")
            assert (await there.state(account, "ada")).changes == round_trip + 1
            with pytest.raises(InsufficientFunds):
                await there.dispatch(account, "ada", Withdraw(9))
            await there.dispatch(account, "ada", Deposit(1), command_id=f"c{round_trip}")
