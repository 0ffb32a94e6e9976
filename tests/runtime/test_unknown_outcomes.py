"""An append of which nobody knows whether it was stored is sent again until the store says, and never guessed at."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from rehydrate import (
    CommandResult,
    CommandTimeoutError,
    Limits,
    OutcomeUnknownError,
    StoreClosedError,
    StoreError,
    StoreSealedError,
    StoreUnavailableError,
    open_store,
)
from rehydrate.store.port import Appended, AppendWaiter, NewEvent, Store
from rehydrate.testing.clock import settle
from rehydrate.testing.faults import Fault, Hang, HangAnswer, Late, Lose, LoseAnswer, Refuse
from tests.bank import Account, Deposit, Deposited, InsufficientFunds, Split, Touch, Withdraw, account, app
from tests.stand_ins import SHARED, Exchangeable, staged


class Forgetful(Exchangeable):
    """A store that remembers what it was sent, and loses its first two answers."""

    def __init__(self, behind: Store) -> None:
        super().__init__(behind)
        self.sent: list[tuple[str, tuple[NewEvent, ...], int]] = []

    def submit(
        self,
        stream: str,
        events: Sequence[NewEvent],
        expected_version: int,
        waiter: AppendWaiter,
        last_id: str = "",
        last_position: int = 0,
    ) -> Appended | StoreError | None:
        self.sent.append((stream, tuple(events), expected_version))
        outcome = self.behind.submit(stream, events, expected_version, waiter, last_id, last_position)
        return outcome if len(self.sent) > 2 else StoreUnavailableError("the answer was lost", stored=None)


SLOW = Limits(retry_first=1.0)
"""Here a deadline passes before an append is sent again."""

TROUBLE: tuple[Fault, ...] = (Lose(), Refuse(), Lose(at_once=True), Refuse(retryable=False))

FAULTS: list[tuple[Fault, ...]] = [
    (Lose(),),
    (Lose(at_once=True),),
    (LoseAnswer(),),
    (Late(1),),
    (Late(2),),
    (Lose(), Lose(), LoseAnswer()),
    (LoseAnswer(), Lose(), Lose(at_once=True)),
    (Late(3), Lose(), LoseAnswer()),
]


@pytest.mark.parametrize("faults", FAULTS, ids=str)
async def test_whatever_became_of_the_first_try_the_events_are_stored_once(faults: tuple[Fault, ...]) -> None:
    async with staged(SHARED) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        stage.script.add("submit", *faults)
        result = await stage.in_time(stage.bank.dispatch(account, "ada", Split(10, 2)))
        assert result == CommandResult(3, 3, (Deposited(5), Deposited(5)))
        await stage.store.land()
        assert await stage.bank.state(account, "ada") == Account(11, 3)
        assert (await stage.store.head()).position == 3


async def test_what_is_sent_again_is_the_same_append() -> None:
    forgetful = Forgetful(await open_store(SHARED))
    async with staged(forgetful.as_store) as stage:
        await stage.in_time(stage.bank.dispatch(account, "ada", Split(10, 2)))
        first, *again = forgetful.sent
        assert again == [first, first]


async def test_an_append_in_doubt_that_a_seal_came_before_is_refused_and_never_lands() -> None:
    async with staged(SHARED) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        stage.script.add("submit", Lose())
        await stage.store.seal()
        with pytest.raises(StoreSealedError):
            await stage.in_time(stage.bank.dispatch(account, "ada", Deposit(10)))
        assert await stage.bank.state(account, "ada") == Account(1, 1)
        assert (await stage.store.head()).position == 1


async def test_an_append_in_doubt_that_came_before_a_seal_is_answered_with_its_result() -> None:
    async with staged(SHARED) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        stage.script.add("submit", LoseAnswer())
        asked = stage.bank.dispatch_nowait(account, "ada", Deposit(10))
        await settle()
        await stage.store.seal()
        assert (await stage.in_time(asked)).version == 2
        with pytest.raises(StoreSealedError):
            await stage.in_time(stage.bank.dispatch(account, "ada", Deposit(10)))


async def test_while_the_outcome_is_unknown_nothing_else_is_sent_or_answered() -> None:
    async with staged(SHARED) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        stage.script.add("submit", LoseAnswer())
        first = stage.bank.dispatch_nowait(account, "ada", Deposit(1))
        refused = stage.bank.dispatch_nowait(account, "ada", Withdraw(5))
        await settle()
        assert stage.store.calls["submit"] == 2
        assert not first.done()
        assert not refused.done()
        assert (await stage.in_time(first)).version == 2
        with pytest.raises(InsufficientFunds) as no:
            await refused
        assert no.value.facts["balance"] == 2


async def test_the_first_result_comes_although_others_have_appended_behind_it() -> None:
    async with staged(SHARED) as stage, app.open(SHARED) as there:
        stage.script.add("submit", LoseAnswer())
        sent = stage.bank.dispatch_nowait(account, "ada", Deposit(1))
        await settle()
        await there.dispatch(account, "ada", Deposit(1))
        assert await stage.in_time(sent) == CommandResult(1, 1, (Deposited(1),))
        assert await stage.bank.state(account, "ada") == Account(2, 2)


async def test_where_a_stranger_owns_the_version_the_commands_are_decided_again() -> None:
    async with staged(SHARED) as stage, app.open(SHARED) as there:
        await stage.bank.dispatch(account, "ada", Deposit(10))
        stage.script.add("submit", Lose())
        sent = stage.bank.dispatch_nowait(account, "ada", Withdraw(10))
        await settle()
        await there.dispatch(account, "ada", Withdraw(7))
        with pytest.raises(InsufficientFunds) as no:
            await stage.in_time(sent)
        assert no.value.facts == {"balance": 3, "amount": 10}
        await stage.store.land()
        assert await stage.bank.state(account, "ada") == Account(3, 2)


async def test_an_append_that_a_stranger_has_overtaken_never_lands() -> None:
    async with staged(SHARED) as stage, app.open(SHARED) as there:
        await stage.bank.dispatch(account, "ada", Deposit(10))
        stage.script.add("submit", Late(10))
        sent = stage.bank.dispatch_nowait(account, "ada", Withdraw(1))
        await settle()
        await there.dispatch(account, "ada", Deposit(1))
        assert (await stage.in_time(sent)).version == 3
        await stage.store.land()
        assert await stage.bank.state(account, "ada") == Account(10, 3)


@pytest.mark.parametrize("fault", [Refuse(), Refuse(at_once=True), Refuse(retryable=False)], ids=str)
async def test_a_repeat_of_which_nothing_was_stored_settles_nothing_about_the_first_try(fault: Fault) -> None:
    async with staged(SHARED) as stage:
        stage.script.add("submit", LoseAnswer(), fault, fault)
        sent = stage.bank.dispatch_nowait(account, "ada", Deposit(1))
        assert await stage.in_time(sent) == CommandResult(1, 1, (Deposited(1),))
        assert stage.store.calls["submit"] == 4
        # And nothing is held back for other actors because of it.
        assert (await stage.bank.dispatch(account, "bob", Deposit(1))).version == 1


@pytest.mark.parametrize("fault", [Refuse(), Refuse(at_once=True)], ids=str)
async def test_an_append_of_which_nothing_was_stored_is_told_as_that(fault: Fault) -> None:
    async with staged(SHARED) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        stage.script.add("submit", fault)
        with pytest.raises(StoreUnavailableError) as failure:
            await stage.bank.dispatch(account, "ada", Deposit(1))
        assert failure.value.stored is False
        assert (await stage.bank.dispatch(account, "ada", Deposit(1))).version == 2


# ---- the deadline passes meanwhile


@pytest.mark.parametrize("fault", [Hang(), HangAnswer()], ids=str)
async def test_a_deadline_that_passes_while_the_append_is_under_way_leaves_the_outcome_unknown(
    fault: Fault,
) -> None:
    async with staged(SHARED) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        stage.script.add("submit", fault)
        sent = stage.bank.dispatch_nowait(account, "ada", Deposit(1), timeout=1, command_id="mine")
        await stage.clock.advance(0.99)
        assert not sent.done()
        await stage.clock.advance(0.06)
        with pytest.raises(OutcomeUnknownError) as unknown:
            await sent
        assert (unknown.value.stream, unknown.value.command_id) == ("bank_account-ada", "mine")


async def test_whatever_the_repeats_meet_the_callers_hear_of_nothing_but_an_unknown_outcome() -> None:
    async with staged(SHARED) as stage:
        stage.script.add("replay", Hang())
        commands = (Deposit(10), Withdraw(1_000), Touch(), Deposit(10))
        sent = [stage.bank.dispatch_nowait(account, "ada", command, timeout=3) for command in commands]
        await settle()
        stage.script.add("submit", *TROUBLE * 50)
        stage.store.release()
        outcomes = await stage.in_time(asyncio.gather(*sent, return_exceptions=True))
        assert [type(outcome) for outcome in outcomes] == [OutcomeUnknownError] * 4


async def test_the_actor_goes_on_resolving_after_its_callers_have_gone() -> None:
    async with staged(SHARED) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        stage.script.add("submit", *[Lose()] * 8)
        timed_out = stage.bank.dispatch_nowait(account, "ada", Deposit(1), timeout=0.1)
        await settle()
        cancelled = asyncio.create_task(stage.bank.dispatch(account, "ada", Deposit(1)))
        await settle()
        cancelled.cancel()
        with pytest.raises(OutcomeUnknownError):
            await stage.in_time(timed_out)
        await stage.clock.advance(20)
        assert stage.bank.statistics().busy == 0
        assert await stage.bank.state(account, "ada") == Account(3, 3)


async def test_what_waits_behind_an_unknown_outcome_was_not_stored_when_its_deadline_passes() -> None:
    async with staged(SHARED) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        stage.script.add("submit", Hang())
        stage.bank.dispatch_nowait(account, "ada", Deposit(1))
        behind = stage.bank.dispatch_nowait(account, "ada", Deposit(1_000), timeout=1)
        await stage.clock.advance(1.1)
        with pytest.raises(CommandTimeoutError):
            await behind
        stage.store.release()
        assert await stage.in_time(stage.bank.state(account, "ada")) == Account(2, 2)


@pytest.mark.parametrize("fault", [Lose(), LoseAnswer(), Late(1), Late(3)], ids=str)
async def test_a_retry_with_the_id_of_the_error_is_answered_with_the_first_result(fault: Fault) -> None:
    async with staged(SHARED, limits=SLOW) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        stage.script.add("submit", fault)
        with pytest.raises(OutcomeUnknownError) as unknown:
            await stage.in_time(stage.bank.dispatch(account, "ada", Split(4, 2), timeout=0.1))
        retry = stage.bank.dispatch(account, "ada", Split(4, 2), command_id=unknown.value.command_id)
        assert await stage.in_time(retry) == CommandResult(3, 3, (Deposited(2), Deposited(2)))
        await stage.store.land()
        assert await stage.bank.state(account, "ada") == Account(5, 3)


@pytest.mark.parametrize("fault", [Lose(), LoseAnswer(), Late(1)], ids=str)
async def test_a_retry_elsewhere_with_the_id_of_the_error_stores_the_command_once(fault: Fault) -> None:
    async with staged(SHARED, limits=SLOW) as stage, app.open(SHARED) as there:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        await there.state(account, "ada")
        stage.script.add("submit", fault)
        with pytest.raises(OutcomeUnknownError) as unknown:
            await stage.in_time(stage.bank.dispatch(account, "ada", Deposit(5), timeout=0.1))
        retry = await there.dispatch(account, "ada", Deposit(5), command_id=unknown.value.command_id)
        assert retry.events == (Deposited(5),)
        await stage.store.land()
        assert await stage.in_time(stage.bank.state(account, "ada")) == Account(6, 2)


async def test_a_command_that_another_runtime_stored_meanwhile_is_not_decided_again() -> None:
    async with staged(SHARED) as stage, app.open(SHARED) as there:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        stage.script.add("submit", Lose())
        sent = stage.bank.dispatch_nowait(account, "ada", Deposit(5), command_id="once")
        await settle()
        theirs = await there.dispatch(account, "ada", Deposit(5), command_id="once")
        assert await stage.in_time(sent) == theirs
        assert await stage.bank.state(account, "ada") == Account(6, 2)


# ---- a store that cannot be asked any more


async def test_a_store_that_was_closed_meanwhile_leaves_the_outcome_unknown() -> None:
    async with staged(SHARED) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        stage.script.add("submit", LoseAnswer())
        sent = stage.bank.dispatch_nowait(account, "ada", Deposit(1))
        await settle()
        await stage.store.close()
        with pytest.raises(OutcomeUnknownError):
            await stage.in_time(sent)
        with pytest.raises(StoreClosedError):
            await stage.bank.dispatch(account, "ada", Deposit(1))


async def test_a_store_that_raises_in_an_append_leaves_the_outcome_unknown_until_it_answers() -> None:
    class Broken(Exchangeable):
        breaks = 0

        def submit(
            self,
            stream: str,
            events: Sequence[NewEvent],
            expected_version: int,
            waiter: AppendWaiter,
            last_id: str = "",
            last_position: int = 0,
        ) -> Appended | StoreError | None:
            outcome: Appended | StoreError | None
            outcome = self.behind.submit(stream, events, expected_version, waiter, last_id, last_position)
            if self.breaks > 0:
                self.breaks -= 1
                raise RuntimeError("a bug in a driver, after the append")
            return outcome

    broken = Broken(await open_store(SHARED))
    async with staged(broken.as_store) as stage:
        broken.breaks = 2
        assert (await stage.in_time(stage.bank.dispatch(account, "ada", Deposit(1)))).version == 1
        assert await stage.bank.state(account, "ada") == Account(1, 1)


# ---- a store that says that waiting does not help


async def test_where_waiting_does_not_help_appends_are_held_back_for_a_while() -> None:
    async with staged(SHARED, limits=Limits(hold_first=1, hold_most=4)) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        stage.script.add("submit", Refuse(retryable=False))
        for name in ("ada", "ada", "bob", "eve"):
            with pytest.raises(StoreUnavailableError) as full:
                await stage.bank.dispatch(account, name, Deposit(1))
            assert not full.value.retryable
            assert full.value.stored is False
        assert stage.store.calls["submit"] == 2
        with pytest.raises(InsufficientFunds):
            await stage.bank.dispatch(account, "ada", Withdraw(5))
        await stage.clock.advance(1)
        assert (await stage.bank.dispatch(account, "ada", Deposit(1))).version == 2
        assert (await stage.bank.dispatch(account, "bob", Deposit(1))).version == 1


async def test_commands_that_keep_coming_do_not_put_off_the_next_try() -> None:
    async with staged(SHARED, limits=Limits(hold_first=1, hold_most=60)) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        stage.script.add("submit", Refuse(retryable=False))
        answers: list[bool] = []
        for _ in range(25):
            try:
                await stage.bank.dispatch(account, "ada", Deposit(1))
                answers.append(True)
            except StoreUnavailableError:
                answers.append(False)
            await stage.clock.advance(0.1)
        assert answers == [False] * 10 + [True] * 15


async def test_a_store_that_does_not_recover_is_tried_less_and_less_often() -> None:
    async with staged(SHARED, limits=Limits(hold_first=1, hold_most=4)) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        stage.script.add("submit", *[Refuse(retryable=False)] * 100)
        tries: list[int] = []
        for second in range(16):
            before = stage.store.calls["submit"]
            with pytest.raises(StoreUnavailableError):
                await stage.bank.dispatch(account, "ada", Deposit(1))
            if stage.store.calls["submit"] > before:
                tries.append(second)
            await stage.clock.advance(1)
        assert tries == [0, 1, 3, 7, 11, 15]


async def test_after_a_store_has_recovered_the_pauses_begin_anew() -> None:
    async with staged(SHARED, limits=Limits(hold_first=1, hold_most=60)) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        for _ in range(3):
            stage.script.add("submit", Refuse(retryable=False))
            with pytest.raises(StoreUnavailableError):
                await stage.bank.dispatch(account, "ada", Deposit(1))
            await stage.clock.advance(0.9)
            with pytest.raises(StoreUnavailableError):
                await stage.bank.dispatch(account, "ada", Deposit(1))
            await stage.clock.advance(0.1)
            await stage.bank.dispatch(account, "ada", Deposit(1))
