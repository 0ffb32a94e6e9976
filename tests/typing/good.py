"""What type checkers have to accept, with what they have to infer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, assert_type

from rehydrate import (
    Aggregate,
    App,
    Cancel,
    CommandResult,
    EventEnvelope,
    ProcessManager,
    Projection,
    Rejected,
    Runtime,
    Send,
    TransactionalHandler,
)
from rehydrate.codec import JsonCodec
from rehydrate.testing.given import given
from rehydrate.testing.given_process import GivenProcess
from rehydrate.testing.given_views import GivenViews
from rehydrate.testing.happened import Happened
from tests.typing.bank import (
    Account,
    Command,
    Deposit,
    Deposited,
    Event,
    Grow,
    Grown,
    InsufficientFunds,
    Tree,
    Withdraw,
    Withdrawn,
    app,
    bank_account,
    tree,
)

assert_type(bank_account, Aggregate[Account, Command, Event])
assert_type(tree, Aggregate[Tree, Grow, Grown])


async def a_day() -> None:
    async with app.open("memory://") as bank:
        result = await bank.dispatch(
            bank_account, "ada", Deposit(100), command_id="one", metadata={"by": "ada"}
        )
        assert_type(result, CommandResult[Event])
        assert_type(result.events, tuple[Event, ...])
        for event in result.events:
            match event:
                case Deposited(amount) | Withdrawn(amount):
                    assert_type(amount, int)
        assert_type(await bank.dispatch(tree, "oak", Grow()), CommandResult[Grown])
        assert_type(
            bank.dispatch_nowait(bank_account, "ada", Withdraw(1)), asyncio.Future[CommandResult[Event]]
        )
        assert_type(await bank.state(bank_account, "ada"), Account)
        assert_type(await bank.state(tree, "oak", at=1), Tree)
        assert_type(bank.events(bank_account, "ada"), AsyncIterator[EventEnvelope[Event]])
        async for envelope in bank.events(bank_account, "ada", after=0, limit=10):
            assert_type(envelope.event, Event)
        try:
            await bank.dispatch(bank_account, "ada", Withdraw(1_000))
        except InsufficientFunds as no:
            assert_type(no.facts, dict[str, object])


def a_command_of_the_union(command: Command) -> None:
    given(bank_account).when(command)


def in_tests() -> None:
    given(bank_account, Deposited(100)).when(Withdraw(30)).then(Withdrawn(30)).then_state(Account(70))
    given(bank_account, Deposited(20)).when(Withdraw(30)).then_rejected(InsufficientFunds, balance=20)
    given(tree).when(Grow()).then(Grown()).when(Grow()).then_state(Tree(2))


def by_hand() -> App:
    aggregates: list[Aggregate[Any, Any, Any]] = [bank_account, tree]
    codec = JsonCodec(
        Event, aliases={"Credited": Deposited}, upcasters={"Deposited": [lambda fields: fields]}
    )
    same = Aggregate(
        name="same",
        initial=Account(),
        decide=bank_account.decide,
        evolve=bank_account.evolve,
        commands=Command,
        events=Event,
        codec=codec,
    )
    return App(aggregates=[*aggregates, same])


def whose(envelope: EventEnvelope[Event | Grown]) -> str:
    return envelope.aggregate_id


def tally(count: int, envelope: EventEnvelope[Event | Grown]) -> int | None:
    return count + envelope.version


def tally_trees(count: int, envelope: EventEnvelope[Grown]) -> int:
    return count + envelope.version


tallies = Projection(name="tallies", initial=0, key=whose, evolve=tally, sources=[bank_account, tree])
trees = Projection(
    name="trees", initial=0, key=lambda envelope: envelope.aggregate_id, evolve=tally_trees, sources=[tree]
)
assert_type(tallies, Projection[int, Deposited | Withdrawn | Grown])
assert_type(trees, Projection[int, Grown])


def in_tests_of_projections(event: Event) -> None:
    assert_type(given(trees), GivenViews[int])
    given(tallies, Happened(bank_account, "ada", Deposited(1), event), Happened(tree, "oak", Grown()))
    given(tallies).when(Happened(tree, "oak", Grown())).then_view("oak", 1).then_no_view("elm")
    given(trees, *[Happened(tree, id, Grown()) for id in ("oak", "elm")]).then_views({"oak": 1, "elm": 1})


async def views(bank: Runtime) -> None:
    assert_type(await bank.view(tallies, "ada", at_least=1), int)
    assert_type(await bank.views(trees, prefix="o"), list[tuple[str, int]])


def correlate(envelope: EventEnvelope[Event]) -> str | None:
    return envelope.aggregate_id


def progress(count: int, event: Event | Rejected) -> int:
    match event:
        case Rejected(send, rejection):
            assert_type(send, Send)
            return len(rejection.facts)
        case Deposited(amount) | Withdrawn(amount):
            return count + amount


def follow(count: int, event: Event | Rejected) -> Iterable[Send | Cancel]:
    if count and not isinstance(event, Rejected):
        yield Send(bank_account, "fees", Deposit(1))
    yield Cancel("time-out")


def follow_with_sends(count: int, event: Event | Rejected) -> list[Send]:
    return [Send(tree, str(count), Grow())]


fees = ProcessManager(
    name="fees", initial=0, correlate=correlate, evolve=progress, react=follow, sources=[bank_account]
)
assert_type(fees, ProcessManager[int, Event])
assert_type(given(fees), GivenProcess[int])
given(fees, Happened(bank_account, "ada", Deposited(1))).then(Cancel("time-out")).then_state("ada", 1)
fee = Send(bank_account, "fees", Deposit(1))
given(fees).when(*[Happened(bank_account, "ada", Deposited(1))]).when_refused(fee, InsufficientFunds()).then()
given(fees).then_timers("ada", fee).then_timers("bob")
App(
    aggregates=[bank_account, tree],
    processes=[
        fees,
        ProcessManager(
            name="more",
            initial=0,
            correlate=correlate,
            evolve=progress,
            react=follow_with_sends,
            sources=[bank_account],
        ),
    ],
)


async def steps_of(bank: Runtime) -> None:
    assert_type(await bank.state(fees, "ada"), int)


async def write(envelope: EventEnvelope[Event], connection: Any) -> None:
    await connection.execute("INSERT INTO seen VALUES ($1)", envelope.position)


TransactionalHandler(name="write", handler=write, types=[Deposited])
