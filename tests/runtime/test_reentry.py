"""`decide` should be pure. Where it sends commands nevertheless, they wait their turn and nothing is corrupted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from rehydrate import Aggregate, App, CommandResult
from rehydrate.testing.clock import settle
from rehydrate.testing.faults import Hang
from tests.bank import (
    Account,
    Command,
    Deposit,
    Deposited,
    Event,
    InsufficientFunds,
    Withdraw,
    decide,
    evolve,
)
from tests.stand_ins import SHARED, staged


class Meddler:
    """A bank account whose `decide` does something on the side, once, when it deposits 100."""

    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action
        self.account: Aggregate[Account, Command, Event] = Aggregate(
            name="meddler",
            initial=Account(),
            decide=self._decide,
            evolve=evolve,
            commands=Command,
            events=Event,
        )
        self.app = App(aggregates=[self.account])

    def _decide(self, state: Account, command: Command) -> Iterable[Event]:
        if command == Deposit(100) and self.action is not None:
            action, self.action = self.action, None
            action()
        return decide(state, command)


@pytest.mark.parametrize("store", ["memory://", SHARED])
@pytest.mark.parametrize("command_id", [None, "mine"])
async def test_a_command_to_itself_is_decided_after_the_one_that_is_being_decided(
    store: str, command_id: str | None
) -> None:
    sent: list[asyncio.Future[CommandResult[Event]]] = []

    def send() -> None:
        sent.append(stage.bank.dispatch_nowait(meddler.account, "ada", Withdraw(101)))
        sent.append(stage.bank.dispatch_nowait(meddler.account, "ada", Deposit(1), command_id="other"))
        sent.append(stage.bank.dispatch_nowait(meddler.account, "ada", Withdraw(102)))

    meddler = Meddler(send)
    async with staged(store, of=meddler.app) as stage:
        await stage.bank.dispatch(meddler.account, "ada", Deposit(1), command_id="first")
        result = await stage.bank.dispatch(meddler.account, "ada", Deposit(100), command_id=command_id)
        assert result == CommandResult(2, 2, (Deposited(100),))
        outcomes = await asyncio.gather(*sent, return_exceptions=True)
        assert [getattr(outcome, "version", None) for outcome in outcomes[:2]] == [3, 4]
        assert isinstance(outcomes[2], InsufficientFunds)
        assert outcomes[2].facts == {"balance": 1, "amount": 102}
        assert await stage.bank.state(meddler.account, "ada") == Account(1, 4)


async def test_a_command_to_itself_while_a_drain_is_decided_is_not_decided_in_between() -> None:
    sent: list[asyncio.Future[CommandResult[Event]]] = []
    meddler = Meddler(lambda: sent.append(stage.bank.dispatch_nowait(meddler.account, "ada", Deposit(3))))
    async with staged(SHARED, of=meddler.app) as stage:
        stage.script.add("replay", Hang())
        commands = (Deposit(1), Deposit(100), Deposit(2))
        waiting = [stage.bank.dispatch_nowait(meddler.account, "ada", command) for command in commands]
        await settle()
        stage.store.release()
        results = await asyncio.gather(*waiting)
        results.append(await sent[0])
        assert [result.version for result in results] == [1, 2, 3, 4]
        assert [result.events for result in results] == [(Deposited(amount),) for amount in (1, 100, 2, 3)]


@pytest.mark.parametrize("store", ["memory://", SHARED])
async def test_a_command_to_another_actor_is_run_at_once(store: str) -> None:
    sent: list[asyncio.Future[CommandResult[Event]]] = []
    meddler = Meddler(lambda: sent.append(stage.bank.dispatch_nowait(meddler.account, "bob", Deposit(7))))
    async with staged(store, of=meddler.app) as stage:
        for name in ("ada", "bob"):
            await stage.bank.dispatch(meddler.account, name, Deposit(1))
        await stage.bank.dispatch(meddler.account, "ada", Deposit(100))
        assert (await sent[0]).version == 2
        assert await stage.bank.state(meddler.account, "bob") == Account(8, 2)


async def test_two_actors_that_send_to_each_other_both_get_everything() -> None:
    bounces: list[asyncio.Future[CommandResult[int]]] = []

    def bounce(state: int, command: Deposit) -> list[Deposited]:
        if command.amount > 0:
            to = "ada" if command.amount % 2 else "bob"
            bounces.append(bank.dispatch_nowait(ball, to, Deposit(command.amount - 1)))
        return [Deposited(command.amount)]

    ball: Aggregate[Any, Deposit, Any] = Aggregate(
        name="ball", initial=0, decide=bounce, evolve=_count, commands=Deposit, events=Deposited
    )
    async with App(aggregates=[ball]).open("memory://") as bank:
        for name in ("ada", "bob"):
            await bank.dispatch(ball, name, Deposit(0))
        await bank.dispatch(ball, "ada", Deposit(20))
        await settle()
        assert len(bounces) == 20
        assert await bank.state(ball, "ada") + await bank.state(ball, "bob") == 23


def _count(state: int, _: Deposited) -> int:
    return state + 1


async def test_a_command_that_was_sent_from_within_decide_is_answered_although_the_bank_closes() -> None:
    sent: list[asyncio.Future[CommandResult[Event]]] = []
    meddler = Meddler(lambda: sent.append(bank.dispatch_nowait(meddler.account, "ada", Deposit(3))))
    async with meddler.app.open("memory://") as bank:
        await bank.dispatch(meddler.account, "ada", Deposit(1))
        await settle()
        await bank.dispatch(meddler.account, "ada", Deposit(100))
        assert not sent[0].done()
    assert sent[0].done()
    assert (await sent[0]).version == 3
