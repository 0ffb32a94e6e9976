"""Commands that a process manager sends are stored: they come back as they were, also for later code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from rehydrate import (
    Aggregate,
    App,
    EventEnvelope,
    JsonCodec,
    Limits,
    Park,
    ProcessManager,
    Rejected,
    Rejection,
    Send,
    StreamQuarantinedError,
    open_store,
)
from rehydrate.cli.run.commands import Orders
from rehydrate.cli.run.lines import Line
from rehydrate.cli.verification import Verification
from rehydrate.store.port import Store
from rehydrate.testing import FakeClock, Happened, given
from rehydrate.testing.clock import until
from tests.bank import Deposit, Deposited, Event, account
from tests.processes.test_process import at_rest, types_in

LIMITS = Limits(takeover_after=1_800)
"""Nobody dies here, and few signs of life make it quick."""


@pytest.fixture
async def store(fake_clock: FakeClock) -> Any:
    # Events are recorded at the time of the same clock.
    store = await open_store("memory://", clock=fake_clock)
    yield store
    await store.close()


@dataclass(frozen=True, slots=True)
class Pay:
    price: Decimal


@dataclass(frozen=True, slots=True)
class Paid:
    price: Decimal


def decide_till(_total: Decimal, command: Pay) -> Iterable[Paid]:
    yield Paid(command.price)


def evolve_till(total: Decimal, event: Paid) -> Decimal:
    return total + event.price


till = Aggregate(
    name="till", initial=Decimal(0), decide=decide_till, evolve=evolve_till, commands=Pay, events=Paid
)


def of_account(envelope: EventEnvelope[Event]) -> str | None:
    return envelope.aggregate_id


def number(count: int, _event: Event | Rejected) -> int:
    return count + 1


def paying(price: Any, of: Any = (account,), **fields: Any) -> ProcessManager[int, Event]:
    """One that pays this at each deposit, whatever it is."""

    def react(_count: int, event: Event | Rejected) -> Iterable[Send]:
        if isinstance(event, Deposited):
            yield Send(till, "t", Pay(price), **fields)

    return ProcessManager(
        name="paying",
        initial=0,
        correlate=of_account,
        evolve=number,
        react=react,
        sources=of,
        on_error=Park(),
    )


@pytest.mark.parametrize(
    ("price", "why"),
    [
        (None, "cannot be stored: ValidationError: "),
        ("dear", "cannot be stored: ValidationError: "),
        (0.1, "cannot be stored: TypeError: "),
        (0.5, "cannot be stored: TypeError: "),
        (1j, "cannot be stored: TypeError: "),
        ("1.5", "does not come back as it was: price: '1.5' came back as Decimal('1.5')"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("fields", [{}, {"after": timedelta(days=1)}], ids=["at once", "timer"])
async def test_a_command_that_would_not_come_back_is_a_mistake_of_react(
    store: Store, price: Any, why: str, fields: dict[str, Any]
) -> None:
    process = paying(price, **fields)
    async with App(aggregates=[account, till], processes=[process]).open(store) as bank:
        await bank.dispatch(account, "a", Deposit(1))
        await until(lambda: bank.statistics().consumers[0].parked == 1)
        (parked,) = await bank.parked("paying:events")
        assert "paying: the command of Send(till, 't', Pay(price=" in parked.reason
        assert why in parked.reason
    assert await types_in(store, "paying-a") == []
    with pytest.raises(AssertionError) as failure:
        given(process, Happened(account, "a", Deposited(1)))
    assert str(failure.value) in parked.reason


async def test_what_comes_back_is_sent(store: Store) -> None:
    async with App(aggregates=[account, till], processes=[paying(Decimal("0.5"))]).open(store) as bank:
        await bank.dispatch(account, "a", Deposit(1))
        await at_rest(bank)
        assert await bank.state(till, "t") == Decimal("0.5")


# ---- and when the code changes while they are stored

SOON = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Cancel:
    text: str


@dataclass(frozen=True, slots=True)
class Cancelled:
    why: str


class Renamed:
    """The classes of later code."""

    @dataclass(frozen=True, slots=True)
    class Expire:
        text: str


class Reshaped:
    @dataclass(frozen=True, slots=True)
    class Cancel:
        reason: str


class TooLate(Rejection):
    pass


def orders(kind: Any, *, is_refused: bool = False, codec: Any = None) -> App:
    """One whose timers send such a command to an order, whose text is its first field."""

    def decide(_reasons: tuple[str, ...], command: Any) -> Iterable[Cancelled]:
        if is_refused:
            raise TooLate
        yield Cancelled(getattr(command, kind.__slots__[0]))

    def evolve(reasons: tuple[str, ...], event: Cancelled) -> tuple[str, ...]:
        return (*reasons, event.why)

    order: Aggregate[tuple[str, ...], Any, Cancelled] = Aggregate(
        name="order",
        initial=(),
        decide=decide,
        evolve=evolve,
        commands=kind,
        events=Cancelled,
        command_codec=codec,
    )

    def react(_count: int, event: Event | Rejected) -> Iterable[Send]:
        if isinstance(event, Deposited):
            yield Send(order, "o", kind("late"), after=SOON)

    process = ProcessManager(
        name="expiring",
        initial=0,
        correlate=of_account,
        evolve=number,
        react=react,
        sources=[account],
    )
    return App(aggregates=[account, order], processes=[process])


async def found_in(store: Store, app: App) -> list[tuple[str, str, str]]:
    verification = Verification(store, app, lambda done, total: None)
    await verification.check()
    return [(finding.what, finding.where, finding.detail) for finding in verification.findings]


async def pending_since(store: Store, clock: FakeClock, app: App) -> None:
    """Leave a timer that is not due yet."""
    async with app.open(store, clock=clock, limits=LIMITS) as shop:
        await shop.dispatch(account, "a", Deposit(1))
        await clock.advance(30)
    assert await types_in(store, "expiring-a") == ["rehydrate.Handled", "rehydrate.Sent"]


@pytest.mark.parametrize(
    ("later", "why", "codec"),
    [
        (
            Renamed.Expire,
            (
                "no command of that name is declared (declared: Expire); declare it, or give the aggregate "
                "command_codec=JsonCodec(..., aliases={'Cancel': ...}) with its new class"
            ),
            JsonCodec(Renamed.Expire, aliases={"Cancel": Renamed.Expire}),
        ),
        (
            Reshaped.Cancel,
            (
                "ValidationError: Object missing required field `reason`; give a new field a default, or give the aggregate "
                "command_codec=JsonCodec(..., upcasters={'Cancel': [...]})"
            ),
            JsonCodec(Reshaped.Cancel, upcasters={"Cancel": [lambda fields: {"reason": fields["text"]}]}),
        ),
    ],
    ids=["renamed", "reshaped"],
)
async def test_a_timer_of_older_code_waits_for_code_that_can_read_it(
    store: Store, fake_clock: FakeClock, later: Any, why: str, codec: JsonCodec
) -> None:
    await pending_since(store, fake_clock, orders(Cancel))
    told = f"a stored command 'Cancel' for aggregate 'order' cannot be decoded: {why}"
    ((what, where, detail),) = await found_in(store, orders(later))
    assert (what, where) == ("command", "expiring-a")
    assert detail.startswith("version 2, still to be sent, due 20")
    assert detail.endswith(f": {told}")
    assert await found_in(store, orders(later, codec=codec)) == []
    async with orders(later).open(store, clock=fake_clock, limits=LIMITS) as shop:
        await fake_clock.advance(400)
        (parked,) = await shop.parked("expiring:sends")
        assert parked.reason == f"UndecodableCommandError: {told}"
    # It is due and parked, and still to be sent.
    assert await found_in(store, orders(later)) == [
        ("command", "expiring-a", f"version 3, still to be sent: {told}")
    ]
    app = orders(later, codec=codec)
    async with app.open(store, clock=fake_clock, limits=LIMITS) as shop:
        await fake_clock.advance(60)
        assert await shop.parked("expiring:sends") == []
        assert await shop.state(app.aggregates["order"], "o") == ("late",)
    # What was sent is of no concern any more.
    assert await found_in(store, orders(later)) == []


async def test_a_command_of_newer_code_says_that_it_is(store: Store, fake_clock: FakeClock) -> None:
    codec = JsonCodec(Reshaped.Cancel, upcasters={"Cancel": [lambda fields: {"reason": fields["text"]}]})
    await pending_since(store, fake_clock, orders(Reshaped.Cancel, codec=codec))
    ((_, _, detail),) = await found_in(store, orders(Cancel))
    assert detail.endswith(
        "a stored command 'Cancel@2' for aggregate 'order' cannot be decoded: it was written by newer code, as revision 2 "
        "of Cancel; deploy that code here, too"
    )


async def test_a_command_for_an_aggregate_that_is_no_more_says_so(
    store: Store, fake_clock: FakeClock
) -> None:
    app = orders(Cancel)
    await pending_since(store, fake_clock, app)
    alone = App(aggregates=[account], processes=list(app.processes.values()))
    ((_, _, detail),) = await found_in(store, alone)
    assert detail.endswith("there is no such aggregate in this App; add it to App(aggregates=[...])")


async def test_what_was_taken_in_of_an_aggregate_that_is_no_more_says_so(
    store: Store, fake_clock: FakeClock
) -> None:
    app = App(aggregates=[account, till], processes=[paying(Decimal(1))])
    async with app.open(store, clock=fake_clock, limits=LIMITS) as bank:
        await bank.dispatch(account, "a", Deposit(1))
        await fake_clock.advance(10)
    later = paying(Decimal(1), of=[till])
    ((what, where, detail),) = await found_in(store, App(aggregates=[till], processes=[later]))
    assert (what, where) == ("event", "paying-a")
    assert detail.endswith(
        "no aggregate 'bank_account' in this App (it has: till); add it to App(aggregates=[...])"
    )


async def test_a_line_of_a_run_has_the_name_of_the_class_and_its_shape_of_today() -> None:
    codec = JsonCodec(Reshaped.Cancel, upcasters={"Cancel": [lambda fields: {"reason": fields["text"]}]})
    read = Orders(orders(Reshaped.Cancel, codec=codec)).read
    for name in ("Cancel", "Cancel@2"):
        text = b'{"aggregate":"order","id":"o","command":"%s","data":{"reason":"late"}}' % name.encode()
        assert read(Line(1, text, digest=0)).command == Reshaped.Cancel("late")


async def test_what_was_refused_is_folded_by_later_code_with_a_codec(
    store: Store, fake_clock: FakeClock
) -> None:
    async with orders(Cancel, is_refused=True).open(store, clock=fake_clock, limits=LIMITS) as shop:
        await shop.dispatch(account, "a", Deposit(1))
        await fake_clock.advance(400)
    assert (await types_in(store, "expiring-a"))[-1] == "rehydrate.Rejected"
    without = orders(Renamed.Expire)
    async with without.open(store, clock=fake_clock, consumers=False) as shop:
        with pytest.raises(StreamQuarantinedError, match="a stored command 'Cancel' for aggregate 'order'"):
            await shop.state(without.processes["expiring"], "a")
    ((what, _, detail),) = await found_in(store, without)
    assert what == "event"
    assert "version 4 (rehydrate.Rejected) cannot be folded: UndecodableCommandError: " in detail
    app = orders(Renamed.Expire, codec=JsonCodec(Renamed.Expire, aliases={"Cancel": Renamed.Expire}))
    async with app.open(store, clock=fake_clock, consumers=False) as shop:
        assert await shop.state(app.processes["expiring"], "a") == 2


async def test_a_command_is_sent_under_the_revision_of_today(store: Store, fake_clock: FakeClock) -> None:
    codec = JsonCodec(Reshaped.Cancel, upcasters={"Cancel": [lambda fields: {"reason": fields["text"]}]})
    app = orders(Reshaped.Cancel, codec=codec)
    await pending_since(store, fake_clock, app)
    assert b'"type":"Cancel@2"' in (await store.read_stream("expiring-a")).events[1].data
    async with app.open(store, clock=fake_clock, limits=LIMITS) as shop:
        await fake_clock.advance(400)
        assert await shop.state(app.aggregates["order"], "o") == ("late",)
