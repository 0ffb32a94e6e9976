"""What becomes of an event that a consumer fails at, under each policy, and what an operator can do about it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from rehydrate import (
    Aggregate,
    App,
    EventEnvelope,
    JsonCodec,
    Limits,
    Park,
    Projection,
    Retry,
    Runtime,
    Skip,
    Stop,
    open_store,
)
from rehydrate.runtime.control import resume
from rehydrate.store.port import NewEvent
from rehydrate.telemetry import ConsumerStatistics
from rehydrate.testing import FakeClock
from rehydrate.testing.clock import until
from tests.bank import Deposit, Deposited, Event, Withdrawn, account
from tests.readside.ledger import Balance, account_id, add

app = App(aggregates=[account])


class Handler:
    """Remembers what it handled, and fails where it is told to."""

    def __init__(self) -> None:
        self.handled: list[tuple[str, int]] = []
        self.calls: list[tuple[str, int]] = []
        self.fails_at: set[tuple[str, int]] = set()

    async def __call__(self, given: EventEnvelope[Event] | list[EventEnvelope[Event]]) -> None:
        envelopes = given if isinstance(given, list) else [given]
        for envelope in envelopes:
            place = (envelope.aggregate_id, envelope.version)
            self.calls.append(place)
            if place in self.fails_at:
                raise RuntimeError("cannot")
            self.handled.append(place)


@pytest.fixture
async def store() -> AsyncIterator[Any]:
    store = await open_store("memory://")
    yield store
    await store.close()


@pytest.fixture
async def bank(store: Any, fake_clock: FakeClock) -> AsyncIterator[Runtime]:
    async with app.open(store, clock=fake_clock) as bank:
        yield bank


def consumer(bank: Runtime, number: int = 0) -> ConsumerStatistics:
    return bank.statistics().consumers[number]


def is_stopped(bank: Runtime) -> bool:
    return consumer(bank).state == "stopped"


async def three_of_each(bank: Runtime) -> None:
    for version in range(1, 4):
        for id in ("ada", "bob"):
            await bank.dispatch(account, id, Deposit(version))


EACH = [(id, version) for version in range(1, 4) for id in ("ada", "bob")]
OF_BOB = [("bob", version) for version in range(1, 4)]


# ---- subscriptions


async def test_by_default_it_stops_and_raises_the_alarm(
    bank: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    handler = Handler()
    handler.fails_at = {("bob", 1)}
    bank.subscribe("mail", handler)
    await three_of_each(bank)
    await until(lambda: consumer(bank).state == "stopped")
    assert handler.handled == [("ada", 1)]
    assert (
        "bank_account-bob version 1 (Deposited) at position 2: RuntimeError: cannot" in consumer(bank).reason
    )
    assert [record.levelname for record in caplog.records if "mail" in record.getMessage()] == ["ERROR"]
    checkpoint = await bank.store.load_checkpoint("mail")
    assert checkpoint is not None
    assert checkpoint.position == 1


async def test_one_that_stopped_goes_on_when_it_is_resumed(bank: Runtime, fake_clock: FakeClock) -> None:
    handler = Handler()
    handler.fails_at = {("bob", 1)}
    bank.subscribe("mail", handler)
    await three_of_each(bank)
    await until(lambda: consumer(bank).state == "stopped")
    await fake_clock.advance(60)
    assert handler.handled == [("ada", 1)], "it stands still until somebody says so"
    handler.fails_at.clear()
    await resume(bank.store, "mail")
    await fake_clock.advance(1)
    await until(lambda: handler.handled == EACH)


async def test_one_that_stopped_is_tried_again_by_the_next_start(store: Any) -> None:
    handler = Handler()
    handler.fails_at = {("ada", 1)}
    for _ in range(2):
        async with app.open(store) as bank:
            await bank.dispatch(account, "ada", Deposit(1))
            bank.subscribe("mail", handler)
            await until(partial(is_stopped, bank))
        handler.fails_at = {("ada", 2)}
    assert handler.handled == [("ada", 1)]


async def test_a_retry_waits_longer_each_time_and_then_does_what_is_said(
    bank: Runtime, fake_clock: FakeClock
) -> None:
    handler = Handler()
    handler.fails_at = {("ada", 1)}
    bank.subscribe("mail", handler, on_error=Retry(times=3, first=1, most=2, then=Skip()))
    await three_of_each(bank)
    tried: list[int] = []
    for _ in range(6):
        tried.append(len(handler.calls))
        await fake_clock.advance(1)
    await until(lambda: len(handler.handled) == 5)
    assert tried[0] == 1
    assert handler.calls.count(("ada", 1)) == 4
    assert handler.handled == EACH[1:]


async def test_a_retry_that_succeeds_misses_nothing(bank: Runtime, fake_clock: FakeClock) -> None:
    handler = Handler()
    handler.fails_at = {("ada", 2)}
    bank.subscribe("mail", handler, on_error=Retry())
    await three_of_each(bank)
    await until(lambda: ("ada", 2) in handler.calls)
    handler.fails_at.clear()
    await fake_clock.advance(1)
    await until(lambda: handler.handled == EACH)


async def test_skipping_leaves_the_event_out_with_a_warning(
    bank: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    handler = Handler()
    handler.fails_at = {("ada", 2)}
    bank.subscribe("mail", handler, on_error=Skip())
    await three_of_each(bank)
    await until(lambda: len(handler.handled) == 5)
    assert handler.handled == [place for place in EACH if place != ("ada", 2)]
    assert "bank_account-ada version 2" in caplog.text


async def test_parking_holds_back_later_events_of_the_same_key_only(bank: Runtime) -> None:
    handler = Handler()
    handler.fails_at = {("ada", 2)}
    bank.subscribe("mail", handler, on_error=Park())
    await three_of_each(bank)
    await until(lambda: consumer(bank).parked == 2)
    assert handler.handled == [("ada", 1), *OF_BOB]
    parked = await bank.parked("mail")
    assert [(one.stream, one.version, one.key) for one in parked] == [
        ("bank_account-ada", 2, "bank_account-ada"),
        ("bank_account-ada", 3, "bank_account-ada"),
    ]
    assert [one.reason for one in parked] == ["RuntimeError: cannot", ""]


async def test_what_is_parked_is_replayed_in_order_and_the_key_is_free_again(bank: Runtime) -> None:
    handler = Handler()
    handler.fails_at = {("ada", 2)}
    bank.subscribe("mail", handler, on_error=Park())
    await three_of_each(bank)
    await until(lambda: consumer(bank).parked == 2)
    assert await bank.replay("mail") == 0, "it fails again, and stays"
    assert len(await bank.parked("mail")) == 2
    handler.fails_at.clear()
    handler.handled.clear()
    assert await bank.replay("mail", "bank_account-ada") == 2
    await bank.dispatch(account, "ada", Deposit(9))
    await until(lambda: len(handler.handled) == 3)
    assert handler.handled == [("ada", 2), ("ada", 3), ("ada", 4)]
    assert await bank.parked("mail") == []
    assert consumer(bank).parked == 0


async def test_what_is_dropped_is_not_handled_and_the_key_is_free_again(bank: Runtime) -> None:
    handler = Handler()
    handler.fails_at = {("ada", 2)}
    bank.subscribe("mail", handler, on_error=Park())
    await three_of_each(bank)
    await until(lambda: consumer(bank).parked == 2)
    assert await bank.drop("mail") == 2
    await bank.dispatch(account, "ada", Deposit(9))
    await until(lambda: ("ada", 4) in handler.handled)
    assert handler.handled == [("ada", 1), *OF_BOB, ("ada", 4)]


async def test_what_is_parked_is_known_after_a_restart(store: Any) -> None:
    handler = Handler()
    handler.fails_at = {("ada", 2)}
    async with app.open(store) as bank:
        bank.subscribe("mail", handler, on_error=Park())
        await three_of_each(bank)
        await until(lambda: consumer(bank).parked == 2)
    handler.fails_at.clear()
    async with app.open(store) as bank:
        bank.subscribe("mail", handler, on_error=Park())
        last = await bank.dispatch(account, "ada", Deposit(9))
        await until(lambda: consumer(bank).parked == 3)
        assert last.version == 4
        assert await bank.replay("mail") == 3
    assert handler.handled[-3:] == [("ada", 2), ("ada", 3), ("ada", 4)]


async def test_more_than_may_be_parked_stops_it(bank: Runtime) -> None:
    handler = Handler()
    handler.fails_at = {("ada", 1)}
    bank.subscribe("mail", handler, on_error=Park(most=2))
    await three_of_each(bank)
    await until(lambda: consumer(bank).state == "stopped")
    assert "2 events are parked already" in consumer(bank).reason
    assert len(await bank.parked("mail")) == 2


async def test_a_key_of_your_own_joins_streams(bank: Runtime) -> None:
    handler = Handler()
    handler.fails_at = {("ada", 2)}

    def parity(envelope: EventEnvelope[Event]) -> str:
        return "even" if envelope.version % 2 == 0 else "odd"

    bank.subscribe("mail", handler, on_error=Park(), partition_by=parity)
    await three_of_each(bank)
    await until(lambda: consumer(bank).parked == 2)
    assert [(one.stream, one.version) for one in await bank.parked("mail")] == [
        ("bank_account-ada", 2),
        ("bank_account-bob", 2),
    ]
    assert handler.handled == [place for place in EACH if place[1] != 2]


async def test_of_a_batch_that_fails_only_the_event_that_fails_is_parked(bank: Runtime) -> None:
    handler = Handler()
    handler.fails_at = {("ada", 2)}
    await three_of_each(bank)
    bank.subscribe("mail", handler, on_error=Park(), batch=100)
    await until(lambda: consumer(bank).parked == 2)
    assert set(handler.handled) == {("ada", 1), *OF_BOB}


async def test_an_event_that_the_code_does_not_know_is_one_that_it_fails_at(bank: Runtime) -> None:
    handler = Handler()
    bank.subscribe("mail", handler, on_error=Park())
    await bank.dispatch(account, "ada", Deposit(1))
    await bank.store.append(
        "bank_account-bob", [NewEvent(id="odd", type="Unheard", data=b"{}")], expected_version=0
    )
    await until(lambda: consumer(bank).parked == 1)
    (parked,) = await bank.parked("mail")
    assert "no event of type 'Unheard' is declared" in parked.reason


async def test_without_its_key_an_event_cannot_be_parked_and_stops_it(bank: Runtime) -> None:
    bank.subscribe("mail", Handler(), on_error=Park(), partition_by=lambda envelope: 1 / 0)  # type: ignore[arg-type, return-value]
    await bank.dispatch(account, "ada", Deposit(1))
    await until(lambda: consumer(bank).state == "stopped")
    assert consumer(bank).reason.startswith("partition_by failed at bank_account-ada version 1")
    assert "ZeroDivisionError" in consumer(bank).reason


async def test_a_plain_function_runs_in_a_thread(bank: Runtime) -> None:
    seen: list[int] = []

    def handler(envelope: EventEnvelope[Event]) -> None:
        seen.append(envelope.position)

    bank.subscribe("mail", handler)
    await three_of_each(bank)
    await until(lambda: seen == [1, 2, 3, 4, 5, 6])


async def test_only_events_of_the_types_that_are_asked_for(bank: Runtime) -> None:
    handler = Handler()
    bank.subscribe("mail", handler, types=[Deposited])
    await three_of_each(bank)
    await until(lambda: handler.handled == EACH)


async def test_a_type_is_asked_for_under_every_name_that_it_was_ever_stored_under(store: Any) -> None:
    aged: Aggregate[int, Deposit, Deposited | Withdrawn] = Aggregate(
        name="aged",
        initial=0,
        decide=lambda state, command: [],
        evolve=lambda state, event: state,
        commands=Deposit,
        events=Deposited | Withdrawn,
        codec=JsonCodec(
            Deposited | Withdrawn,
            aliases={"Credited": Deposited},
            upcasters={"Deposited": [lambda fields: {"amount": fields["cents"]}]},
        ),
    )
    seen: list[tuple[str, int]] = []

    async def handler(envelope: EventEnvelope[Deposited]) -> None:
        seen.append((envelope.type, envelope.event.amount))

    stored = [
        ("Credited", b'{"cents":1}'),
        ("Withdrawn", b'{"amount":2}'),
        ("Deposited", b'{"cents":3}'),
        ("Deposited@2", b'{"amount":4}'),
    ]
    new = [NewEvent(id=f"{n}", type=type, data=data) for n, (type, data) in enumerate(stored)]
    await store.append("aged-1", new, expected_version=0)
    async with App(aggregates=[aged]).open(store) as bank:
        bank.subscribe("mail", handler, types=[Deposited])
        await until(lambda: len(seen) == 3)
    assert seen == [("Credited", 1), ("Deposited", 3), ("Deposited@2", 4)]


async def test_a_type_that_one_aggregate_has_and_is_not_asked_for_is_unknown_to_another(store: Any) -> None:
    """What is left out is left out by aggregate: a newer class of one may be named as an older one of another."""

    def of(name: str, events: Any) -> Aggregate[Any, Any, Any]:
        return Aggregate(
            name=name, initial=0, decide=lambda state, command: [], evolve=lambda state, event: state,
            commands=Deposit, events=events,
        )  # fmt: skip

    handler = Handler()
    deposited, withdrawn = NewEvent(id="1", type="Deposited", data=b'{"amount":1}'), b'{"amount":2}'
    await store.append("one-1", [deposited], expected_version=0)
    for n, stream in enumerate(("one-1", "two-1")):
        event = NewEvent(id=f"withdrawn {n}", type="Withdrawn", data=withdrawn)
        await store.append(stream, [event], expected_version="any version")
    app = App(aggregates=[of("one", Deposited | Withdrawn), of("two", Deposited)])
    async with app.open(store) as bank:
        bank.subscribe("mail", handler, types=[Deposited])
        await until(lambda: is_stopped(bank))
        assert "two-1 version 1 (Withdrawn) at position 3 could not be decoded" in consumer(bank).reason
    assert handler.handled == [("1", 1)]


# ---- projections


@dataclass
class Poison:
    """Where `evolve` fails: it is read at each call, so it is no pure function."""

    events: set[tuple[str, int]]

    def projection(self, on_error: Stop | Skip | Park, *, joined: bool = False) -> Projection[Balance, Event]:
        def evolve(balance: Balance, envelope: EventEnvelope[Event]) -> Balance:
            if (envelope.aggregate_id, envelope.version) in self.events:
                raise RuntimeError("cannot")
            return add(balance, envelope)

        def both(envelope: EventEnvelope[Event]) -> tuple[str, ...]:
            return envelope.aggregate_id, "all"

        return Projection(
            name="balances",
            initial=Balance(),
            key=both if joined else account_id,
            evolve=evolve,
            sources=[account],
            on_error=on_error,
        )


Opened = Callable[[Projection[Balance, Event]], Any]


@pytest.fixture
def opened(store: Any) -> Opened:
    return lambda projection: App(aggregates=[account], projections=[projection]).open(
        store, limits=Limits(takeover_after=1)
    )


async def test_a_projection_stops_right_before_the_event_that_it_fails_at(opened: Opened) -> None:
    poison = Poison({("bob", 2)})
    projection = poison.projection(Stop())
    async with opened(projection) as bank:
        await three_of_each(bank)
        await until(lambda: consumer(bank).state == "stopped")
        assert dict(await bank.views(projection)) == {"ada": Balance(3, 2), "bob": Balance(1, 1)}
        poison.events.clear()
        await resume(bank.store, projection.consumer)
        await until(lambda: consumer(bank).position == 6)
        assert dict(await bank.views(projection)) == {"ada": Balance(6, 3), "bob": Balance(6, 3)}


async def test_a_projection_that_skips_leaves_the_event_out(opened: Opened) -> None:
    projection = Poison({("bob", 2)}).projection(Skip())
    async with opened(projection) as bank:
        await three_of_each(bank)
        assert dict(await bank.views(projection, at_least=6)) == {"ada": Balance(6, 3), "bob": Balance(4, 2)}


async def test_an_event_of_several_views_is_parked_for_those_that_fail_and_changes_the_others(
    opened: Opened,
) -> None:
    poison = Poison({("bob", 2)})
    projection = poison.projection(Park(), joined=True)
    async with opened(projection) as bank:
        await three_of_each(bank)
        views = dict(await bank.views(projection, at_least=6))
        assert views == {"ada": Balance(6, 3), "bob": Balance(1, 1), "all": Balance(4, 3)}
        assert len(await bank.parked("balances")) == 2 + 3
        poison.events.clear()
        assert await bank.replay("balances", "bob") == 2
        assert await bank.view(projection, "bob") == Balance(6, 3)
        assert await bank.view(projection, "all") == Balance(4, 3)
        assert await bank.replay("balances") == 3
        assert await bank.view(projection, "all") == Balance(12, 6)
        done = await bank.dispatch(account, "bob", Deposit(1))
        assert await bank.view(projection, "all", at_least=done.position) == Balance(13, 7)


async def test_what_a_projection_parked_can_be_dropped(opened: Opened) -> None:
    projection = Poison({("bob", 2)}).projection(Park())
    async with opened(projection) as bank:
        await three_of_each(bank)
        await bank.views(projection, at_least=6)
        assert await bank.drop("balances", "bob") == 2
        done = await bank.dispatch(account, "bob", Deposit(5))
        assert await bank.view(projection, "bob", at_least=done.position) == Balance(6, 2)


async def test_a_view_that_cannot_be_stored_stops_the_projection(
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    def evolve(balance: Balance, envelope: EventEnvelope[Event]) -> Balance:
        return "no balance"  # type: ignore[return-value]

    projection = Projection(
        name="balances", initial=Balance(), key=account_id, evolve=evolve, sources=[account]
    )
    caplog.set_level(logging.CRITICAL)
    async with opened(projection) as bank:
        await three_of_each(bank)
        await until(lambda: consumer(bank).state == "stopped")
        assert "the view of 'ada' cannot be stored" in consumer(bank).reason


async def test_a_handler_that_waits_for_the_end_of_its_own_subscription_is_told_so(bank: Runtime) -> None:
    closing: list[asyncio.Task[None]] = []

    async def handler(envelope: EventEnvelope[Event]) -> None:
        if envelope.version == 1:
            await first.close()
        else:
            closing.append(asyncio.create_task(second.close()))

    first = bank.subscribe("first", handler)
    await bank.dispatch(account, "ada", Deposit(1))
    await until(lambda: is_stopped(bank))
    assert "close it in a task of its own" in consumer(bank).reason
    await first.close()
    second = bank.subscribe("second", handler, after=1)
    await bank.dispatch(account, "ada", Deposit(1))
    await until(lambda: bool(closing) and closing[0].done())
    assert bank.statistics().consumers == ()
