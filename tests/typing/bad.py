"""What type checkers have to refuse: each line that is marked so, and no other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from rehydrate import Aggregate, App, EventEnvelope, ProcessManager, Projection, Rejected, Runtime, Send
from rehydrate.codec import JsonCodec
from rehydrate.testing.given import given
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
    bank_account,
    decide,
    evolve,
    tree,
)


async def commands(bank: Runtime) -> None:
    await bank.dispatch(bank_account, "ada", Deposited(1))  # refused: an event in place of a command
    await bank.dispatch(bank_account, "ada", Grow())  # refused: a command of another aggregate
    await bank.dispatch(tree, "oak", Deposit(1))  # refused: the other way round
    await bank.dispatch(bank_account, "ada", Deposit)  # refused: the class
    await bank.dispatch(bank_account, "ada")  # refused: no command
    await bank.dispatch("bank_account", "ada", Deposit(1))  # refused: the name in place of the aggregate
    await bank.dispatch(bank_account, 7, Deposit(1))  # refused: an id that is no text
    await bank.dispatch(bank_account, "ada", Deposit(1), "one")  # refused: an option without its name
    await bank.dispatch(bank_account, "ada", Deposit(1), metadata={"at": [1]})  # refused: no scalar
    bank.dispatch_nowait(bank_account, "ada", Deposited(1))  # refused: an event in place of a command


async def results(bank: Runtime) -> None:
    result = await bank.dispatch(bank_account, "ada", Deposit(1))
    grown: Grown = result.events[0]  # refused: an event of another aggregate
    deposited: Deposited = result.events[0]  # refused: it may be another event
    result.events.append(Deposited(1))  # refused: a result does not change
    result.version = 2  # refused: nor here
    tree_state: Tree = await bank.state(bank_account, "ada")  # refused: the state of another aggregate
    await bank.state(bank_account, "ada", 1)  # refused: an option without its name
    async for envelope in bank.events(bank_account, "ada"):
        other: Grown = envelope.event  # refused: an event of another aggregate
        raw: Event = envelope  # refused: the envelope is not the event
        print(other, raw)
    await bank.events(bank_account, "ada")  # refused: it is iterated over
    print(grown, deposited, tree_state)


def tests() -> None:
    given(bank_account, Grown())  # refused: an event of another aggregate
    given(bank_account, Deposit(1))  # refused: a command in place of an event
    given(bank_account).when(Deposited(1))  # refused: an event in place of a command
    given(bank_account).when(Grow())  # refused: a command of another aggregate
    given(bank_account).when(Deposit(1), Deposit(2))  # refused: one command at a time
    given(bank_account).when(Deposit(1)).then(Deposit(1))  # refused: a command in place of an event
    given(bank_account).when(Deposit(1)).then(Grown())  # refused: an event of another aggregate
    given(bank_account).when(Deposit(1)).then_state(Tree())  # refused: the state of another aggregate
    given(bank_account).when(Withdraw(1)).then_rejected(ValueError)  # refused: not a Rejection
    given(bank_account).when(Withdraw(1)).then_rejected(InsufficientFunds(balance=1))  # refused: a value, not a class
    given(bank_account).when(Withdraw(1)).then_rejected(InsufficientFunds, 1)  # refused: a fact without its name


def rejections() -> None:
    try:
        raise InsufficientFunds(20)  # refused: a fact without its name
    except InsufficientFunds as no:
        print(no.facts["balance"] + 1)  # refused: nothing is known of a fact


def decide_undeclared(account: Account, command: Command) -> Iterable[Event]:
    yield Grown()  # refused: an event of another aggregate
    yield Deposit(1)  # refused: a command in place of an event


def decide_forgets(account: Account, command: Command) -> Iterable[Event]:
    match command:
        case Deposit(amount):
            return [Deposited(amount)]
        case _:
            assert_never(command)  # refused: nobody decides Withdraw


def evolve_forgets(account: Account, event: Event) -> Account:
    match event:
        case Deposited(amount):
            return Account(account.balance + amount)
        case _:
            assert_never(event)  # refused: nobody evolves with Withdrawn


def evolve_backwards(event: Event, account: Account) -> Account:
    return account


def evolve_partly(account: Account, event: Deposited) -> Account:
    return account


def decide_nothing(account: Account, command: Command) -> None: ...


def decide_one(account: Account, command: Command) -> Event:
    return Withdrawn(1)


class Declared:
    backwards = Aggregate(name="a", initial=Account(), decide=decide, evolve=evolve_backwards, commands=Command, events=Event)  # refused: the state comes first
    partly = Aggregate(name="a", initial=Account(), decide=decide, evolve=evolve_partly, commands=Command, events=Event)  # refused: decide gives events that evolve does not take
    mixed = Aggregate(name="a", initial=Account(), decide=decide, evolve=Tree.evolve, commands=Command, events=Event)  # refused: the functions of two domains
    nothing = Aggregate(name="a", initial=Account(), decide=decide_nothing, evolve=evolve, commands=Command, events=Event)  # refused: no events
    one = Aggregate(name="a", initial=Account(), decide=decide_one, evolve=evolve, commands=Command, events=Event)  # refused: an event, not some
    untold = Aggregate(name="a", initial=Account(), decide=decide, evolve=evolve, commands=Command)  # refused: events are missing
    by_place = Aggregate("a", Account(), decide, evolve, Command, Event)  # refused: without names


app = App([bank_account])  # refused: without a name
app = App(aggregates=[Account])  # refused: not an aggregate
codec = JsonCodec(Event, upcasters={"Deposited": [lambda fields: None]})  # refused: an upcaster returns the new shape


def whose(envelope: EventEnvelope[Event]) -> str:
    return envelope.aggregate_id


def number(envelope: EventEnvelope[Event]) -> int:
    return envelope.version


def tally(count: int, envelope: EventEnvelope[Event]) -> int:
    return count + envelope.version


def tally_deposits(count: int, envelope: EventEnvelope[Deposited]) -> int:
    return count + envelope.event.amount


tallies = Projection(name="tallies", initial=0, key=whose, evolve=tally, sources=[bank_account])


def projections() -> None:
    Projection(name="a", initial=0, key=whose, evolve=tally_deposits, sources=[bank_account])  # refused: misses an event
    Projection(name="a", initial=0, key=whose, evolve=tally, sources=[bank_account, tree])  # refused: another's events
    Projection(name="a", initial="", key=whose, evolve=tally, sources=[bank_account])  # refused: views of another type
    Projection(name="a", initial=0, key=number, evolve=tally, sources=[bank_account])  # refused: a key that is no text


def tests_of_projections() -> None:
    given(tallies, Deposited(1))  # refused: an event without the place where it happened
    given(tallies, Happened(bank_account, "ada", Grown()))  # refused: an event of another aggregate
    given(bank_account, Happened(bank_account, "ada", Deposited(1)))  # refused: an aggregate has its own events only
    given(tallies).when(Grown())  # refused: here, too
    given(tallies).then_view("ada", "1")  # refused: a view of another type
    given(tallies).then_view(1, 1)  # refused: a key that is no text
    given(tallies).then_views({"ada": "1"})  # refused: views of another type
    given(tallies).then_views({1: 1})  # refused: keys that are no text
    given(tallies).then_state(1)  # refused: a projection has views
    Happened(bank_account, "ada", Deposit(1))  # refused: a command in place of an event
    Happened(bank_account, "ada")  # refused: nothing happened
    Happened("bank_account", "ada", Deposited(1))  # refused: the name in place of the aggregate
    Happened(bank_account, "ada", Deposited(1), metadata={"at": [1]})  # refused: no scalar


async def views(bank: Runtime) -> str:
    await bank.view("tallies", "ada")  # refused: the name in place of the projection
    return await bank.view(tallies, "ada")  # refused: a view is no text


def correlate(envelope: EventEnvelope[Event]) -> str | None:
    return envelope.aggregate_id


def progress(count: int, event: Event | Rejected) -> int:
    return count + 1


def progress_without_refusals(count: int, event: Event) -> int:
    return count + 1


def follow(count: int, event: Event | Rejected) -> list[Send]:
    return []


def follow_with_commands(count: int, event: Event | Rejected) -> list[Deposit]:
    return [Deposit(1)]


fees = ProcessManager(name="fees", initial=0, correlate=correlate, evolve=progress, react=follow, sources=[bank_account])


def tests_of_processes() -> None:
    given(fees, Deposited(1))  # refused: an event without the place where it happened
    given(fees).then(Deposit(1))  # refused: a command without a receiver
    given(fees).then_state("ada", "1")  # refused: a state of another type
    given(fees).then_state(1)  # refused: of which instance
    given(fees).then_timers("ada", "time-out")  # refused: a name in place of what is to be sent
    given(fees).when_refused(Deposit(1), InsufficientFunds())  # refused: a command without a receiver
    given(fees).when_refused(Send(bank_account, "ada", Deposit(1)), InsufficientFunds)  # refused: the class
    given(fees).then_view("ada", 1)  # refused: a process manager has states


class Processes:
    deaf = ProcessManager(name="p", initial=0, correlate=correlate, evolve=progress_without_refusals, react=follow, sources=[bank_account])  # refused: refusals come back, too
    bare = ProcessManager(name="p", initial=0, correlate=correlate, evolve=progress, react=follow_with_commands, sources=[bank_account])  # refused: a command without a receiver
    astray = Send(tree, "oak", Deposit(1))  # refused: another's command
    named = Send("bank_account", "ada", Deposit(1))  # refused: the name in place of the aggregate
