"""What a runtime keeps alive: no actor through an error that somebody holds, and no garbage that waits for a collector."""

from __future__ import annotations

import asyncio
import gc
import logging
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from rehydrate import App, RehydrateError, Rejection, StoreUnavailableError, open_store
from rehydrate.runtime.actor import AggregateActor
from rehydrate.testing.clock import settle
from rehydrate.testing.faults import Hang, Refuse
from tests.bank import Account, Command, Crash, Deposit, Split, Touch, Withdraw, bank_account
from tests.stand_ins import SHARED, staged

brief = bank_account(passivate_after=1.0)
app = App(aggregates=[brief])


def _counted(*kinds: type) -> int:
    """How many there are, garbage that waits for a collector included.

    The collector does not know what stands in a mailbox, but what that holds: the command, and the state.
    """
    # By their types: a proxy is asked for the class of what it stands for, which may be gone.
    return sum(issubclass(type(thing), kinds) for thing in gc.get_objects())


def _alive(*kinds: type) -> int:
    gc.collect()
    return _counted(*kinds)


REFUSED: list[Command] = [Withdraw(5), Split(5_000, 5_000)]
FAILING: list[Command] = [*REFUSED, Crash("decide"), Crash("evolve")]


@pytest.mark.parametrize("store", ["memory://", SHARED])
@pytest.mark.parametrize("command", REFUSED, ids=str)
async def test_an_error_that_its_caller_keeps_does_not_keep_the_actor(command: Command, store: str) -> None:
    kept: list[Exception] = []
    before = _alive(AggregateActor, Account)
    async with staged(store, of=app) as stage:
        await stage.bank.dispatch(brief, "ada", Deposit(1))
        try:
            await stage.bank.dispatch(brief, "ada", replace(command))
        except (Rejection, RehydrateError) as error:
            kept.append(error)
        kept.extend(
            outcome
            for outcome in await asyncio.gather(
                stage.bank.dispatch(brief, "ada", replace(command)),
                stage.bank.dispatch(brief, "ada", replace(command), command_id="mine"),
                return_exceptions=True,
            )
            if isinstance(outcome, Exception)
        )
        assert len(kept) == 3
        await stage.clock.advance(5)
        assert stage.bank.statistics().live == 0
        assert _alive(AggregateActor, Account) <= before


@pytest.mark.parametrize("store", ["memory://", SHARED])
@pytest.mark.parametrize("command", [*REFUSED, Deposit(1), Touch()], ids=str)
async def test_an_answer_leaves_nothing_that_only_a_collector_finds(command: Command, store: str) -> None:
    async with staged(store, of=app) as stage:
        await stage.bank.dispatch(brief, "ada", Deposit(1))
        await settle()
        before = _alive(type(command), Account)
        gc.disable()
        try:
            for _ in range(5):
                try:
                    await stage.bank.dispatch(brief, "ada", replace(command))
                except (Rejection, RehydrateError):
                    logging.getLogger(__name__).debug("as expected")
            await settle()
            assert _counted(type(command), Account) <= before
        finally:
            gc.enable()


async def test_an_answer_that_nobody_looks_at_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async with staged(SHARED, of=app) as stage:
        stage.script.add("submit", Refuse())
        for command in (Deposit(1), *FAILING):
            stage.bank.dispatch_nowait(brief, "ada", command)
            stage.bank.dispatch_nowait(brief, "", command)
        await settle()
        gc.collect()
        await settle()
    assert caplog.records == []


async def test_a_caller_that_has_gone_leaves_no_error_behind(caplog: pytest.LogCaptureFixture) -> None:
    kinds = {AggregateActor, Account, *map(type, FAILING)}
    before = _alive(*kinds)
    async with staged(SHARED, of=app) as stage:
        stage.script.add("replay", Hang())
        callers = [
            asyncio.create_task(stage.bank.dispatch(brief, "ada", replace(command))) for command in FAILING
        ]
        await settle()
        assert all(caller.cancel() for caller in callers)
        await asyncio.gather(*callers, return_exceptions=True)
        callers.clear()
        stage.store.release()
        await settle()
        await stage.clock.advance(5)
        assert _alive(*kinds) <= before
    assert caplog.records == []


def _full(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA max_page_count = 1")


async def test_a_closed_runtime_goes_although_its_store_was_full(tmp_path: Path) -> None:
    before = _alive(AggregateActor, Account)
    store = await open_store(f"sqlite:///{tmp_path}/bank.db")
    async with app.open(store) as bank:
        await bank.dispatch(brief, "ada", Deposit(1))
        await vars(store)["_writer"].change(_full)
        with pytest.raises(StoreUnavailableError, match="full"):
            await bank.dispatch(brief, "ada", Split(5_000, 2_000))
        assert bank.statistics().live == 1
    await store.close()
    del bank, store
    assert _alive(AggregateActor, Account) <= before
