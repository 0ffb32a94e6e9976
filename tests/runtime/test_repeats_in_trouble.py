"""What the properties in `tests/property` found about ids and errors, each as one case."""

from __future__ import annotations

import asyncio

import pytest

from rehydrate import (
    ActorCrashedError,
    CommandResult,
    CommandTimeoutError,
    DuplicateCommandError,
    StoreUnavailableError,
    open_store,
)
from rehydrate.testing.clock import settle
from rehydrate.testing.faults import Fault, Hang, Lose, LoseAnswer
from tests.bank import Account, Command, Crash, Deposit, InsufficientFunds, Touch, Withdraw, account
from tests.stand_ins import SHARED, Exchangeable, copy_of, deposited, staged


@pytest.mark.parametrize(
    ("first", "outcome"),
    [(Withdraw(9), InsufficientFunds), (Crash("decide"), ActorCrashedError), (Touch(), CommandResult)],
)
async def test_behind_a_command_of_the_same_mailbox_that_stored_nothing_its_id_is_free(
    first: Command, outcome: type
) -> None:
    async with staged() as stage:
        stage.script.add("replay", Hang())
        sent = [
            stage.bank.dispatch_nowait(account, "ada", command, command_id="a")
            for command in (first, Deposit(5), first)
        ]
        await settle()
        stage.store.release()
        refused, result, duplicate = await asyncio.gather(*sent, return_exceptions=True)
        assert isinstance(refused, outcome)
        assert isinstance(result, CommandResult)
        assert isinstance(duplicate, DuplicateCommandError)
        assert await stage.bank.state(account, "ada") == Account(5, 1)


async def test_an_id_is_not_taken_by_a_command_that_a_restore_took_away() -> None:
    exchangeable = Exchangeable(await open_store(SHARED))
    async with staged(exchangeable.as_store) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1), command_id="a")
        exchangeable.behind = await copy_of(before := exchangeable.behind, until=0)
        with pytest.raises(StoreUnavailableError):
            await stage.bank.dispatch(account, "ada", Deposit(2), command_id="a")
        assert (await stage.bank.dispatch(account, "ada", Deposit(2), command_id="a")).version == 1
        await before.close()


@pytest.mark.parametrize("fault", [Lose(), LoseAnswer()])
@pytest.mark.parametrize("method", ["replay", "read_stream", "ends"])
async def test_a_read_that_fails_leaves_no_doubt_about_what_was_stored(method: str, fault: Fault) -> None:
    """A store may say of any call that it does not know what became of it; of a read there is nothing to know."""
    async with staged(SHARED) as stage:
        if method != "replay":
            await stage.bank.dispatch(account, "ada", Deposit(1))
        stage.script.add(method, fault)
        with pytest.raises(StoreUnavailableError) as failure:
            await stage.bank.dispatch(account, "ada", Withdraw(5), command_id="a")
        assert failure.value.stored is False
        with pytest.raises(InsufficientFunds):
            await stage.bank.dispatch(account, "ada", Withdraw(5), command_id="a")


async def test_a_first_result_whose_place_another_command_has_taken_since_is_no_result() -> None:
    exchangeable = Exchangeable(await open_store(SHARED))
    async with staged(exchangeable.as_store) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1), command_id="a")
        stage.script.add("read_stream", Hang())
        again = stage.bank.dispatch_nowait(account, "ada", Deposit(1), command_id="a")
        await settle()
        assert stage.store.hanging == 1
        exchangeable.behind = await copy_of(before := exchangeable.behind, until=0)
        await exchangeable.behind.append(account.stream("ada"), [deposited("theirs")], expected_version=0)
        stage.store.release()
        with pytest.raises(StoreUnavailableError):
            await again
        await before.close()


async def test_a_command_that_timed_out_while_its_refusal_was_checked_is_not_decided_again() -> None:
    other = await open_store(SHARED)
    async with staged(SHARED) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        stage.script.add("ends", Hang())
        refused = stage.bank.dispatch_nowait(account, "ada", Withdraw(5), timeout=0.5)
        await stage.clock.advance(0.6)
        with pytest.raises(CommandTimeoutError):
            await refused
        await other.append(account.stream("ada"), [deposited("theirs", 10)], expected_version=1)
        stage.store.release()
        assert await stage.in_time(stage.bank.state(account, "ada")) == Account(11, 2)
    await other.close()
