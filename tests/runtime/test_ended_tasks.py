"""Somebody ends all tasks of the event loop, as many a handler of SIGTERM does, and closes or goes on after that.

A task that is ended before its first step never comes to any of its `except` and `finally`: each is ended there, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from rehydrate import App, Limits, OutcomeUnknownError, Snapshot, StoreUnavailableError
from rehydrate.testing.clock import settle
from rehydrate.testing.faults import Hang
from tests.bank import Deposit, Withdraw, account, bank_account
from tests.stand_ins import SHARED, Stage, deposited, staged

BEGUN = pytest.mark.parametrize("begun", [False, True], ids=["before it begins", "while it waits"])


async def _end_all_tasks(*, begun: bool) -> None:
    if begun:
        await settle()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await settle()


async def _answered(sent: Sequence[asyncio.Future[Any]], kind: type[Exception]) -> None:
    await settle()
    assert [type(future.exception()) for future in sent if future.done()] == [kind] * len(sent)


async def _goes_on(stage: Stage) -> None:
    """Commands are run as before, and closing has nothing to wait for."""
    stage.store.release()
    for name in ("ada", "bob"):
        await stage.in_time(stage.bank.dispatch(account, name, Deposit(5)), seconds=5)
    await stage.in_time(stage.bank.close(), seconds=1)


@BEGUN
async def test_an_aggregate_that_was_being_read(begun: bool) -> None:
    async with staged(limits=Limits(recoveries=1)) as stage:
        stage.script.add("replay", *[Hang()] * begun)
        sent = [stage.bank.dispatch_nowait(account, name, Deposit(1)) for name in ("ada", "ada")]
        waits = stage.bank.dispatch_nowait(account, "bob", Deposit(1))
        await _end_all_tasks(begun=begun)
        await _answered(sent, StoreUnavailableError)
        # The permit has gone to the next one.
        assert (await stage.in_time(waits, seconds=1)).version == 1
        await _goes_on(stage)


@BEGUN
async def test_an_aggregate_that_was_being_read_on_after_a_conflict(begun: bool) -> None:
    async with staged(SHARED) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        stage.script.add("read_stream", *[Hang()] * begun)
        await stage.store.append("bank_account-ada", [deposited("theirs")], expected_version=1)
        sent = stage.bank.dispatch_nowait(account, "ada", Deposit(1))
        await _end_all_tasks(begun=begun)
        await _answered([sent], StoreUnavailableError)
        await _goes_on(stage)


@BEGUN
async def test_the_question_whether_a_refusal_is_of_the_newest_state(begun: bool) -> None:
    async with staged(SHARED) as stage:
        for name in ("ada", "bob"):
            await stage.bank.dispatch(account, name, Deposit(1))
        stage.script.add("ends", *[Hang()] * begun)
        sent = [stage.bank.dispatch_nowait(account, name, Withdraw(9)) for name in ("ada", "bob")]
        await _end_all_tasks(begun=begun)
        await _answered(sent, StoreUnavailableError)
        await _goes_on(stage)


@BEGUN
async def test_a_repeat_whose_first_result_was_being_read_back(begun: bool) -> None:
    async with staged(limits=Limits(mailbox=1)) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1), command_id="one")
        stage.script.add("read_stream", *[Hang()] * begun)
        sent = stage.bank.dispatch_nowait(account, "ada", Deposit(1), command_id="one")
        await _end_all_tasks(begun=begun)
        await _answered([sent], OutcomeUnknownError)
        stage.store.release()
        again = stage.bank.dispatch(account, "ada", Deposit(1), command_id="one")
        assert (await stage.in_time(again, seconds=1)).version == 1
        await _goes_on(stage)


@BEGUN
async def test_a_snapshot_that_was_being_saved(begun: bool) -> None:
    saving = bank_account(snapshot=Snapshot(every=1))
    async with staged(of=App(aggregates=[saving]), limits=Limits(recoveries=1)) as stage:
        await stage.bank.dispatch(saving, "ada", Deposit(1))
        await settle()
        stage.script.add("save_snapshot", *[Hang()] * begun)
        await stage.bank.dispatch(saving, "ada", Deposit(1))
        await asyncio.sleep(0)
        await _end_all_tasks(begun=begun)
        await stage.bank.dispatch(saving, "ada", Deposit(1))
        await settle()
        snapshot = await stage.store.load_snapshot("bank_account-ada")
        assert snapshot is not None
        assert snapshot.version == 3
