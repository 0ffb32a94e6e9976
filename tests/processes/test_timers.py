"""Durable timers: each fires once, never early, also after a restart; one that is cancelled does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rehydrate import (
    App,
    Cancel,
    ConfigurationError,
    EventEnvelope,
    Limits,
    ProcessManager,
    Rejected,
    Runtime,
    Send,
    open_store,
)
from rehydrate.codec.process import Fire, React
from rehydrate.runtime.timers import count_pending
from rehydrate.store.port import Store
from rehydrate.testing import FakeClock
from rehydrate.testing.clock import settle
from tests.bank import Deposit, Deposited, Event, Withdraw, Withdrawn, account

SOON = 300.0
LONG = 6 * SOON
LIMITS = Limits(takeover_after=LONG)
"""Nobody dies here, and few signs of life make it quick."""


def remember(count: int, _event: Event | Rejected) -> int:
    return count + 1


def remind(_count: int, event: Event | Rejected) -> Iterable[Send | Cancel]:
    """A deposit is followed by a reminder after five minutes, in place of one that is pending; a withdrawal cancels it."""
    match event:
        case Deposited(7):
            yield Send(account, "late", Deposit(7), at=datetime(2001, 1, 1, tzinfo=UTC))
        case Deposited(8):
            yield Send(account, "late", Deposit(8), after=timedelta(minutes=5))
            yield Send(account, "late", Deposit(8), after=timedelta(minutes=10))
        case Deposited(amount):
            yield Send(account, "late", Deposit(amount), after=timedelta(minutes=5), name="reminder")
        case Withdrawn():
            yield Cancel("reminder")
            yield Cancel("nothing is called so")
        case _:
            pass


def whose(envelope: EventEnvelope[Event]) -> str | None:
    return None if envelope.aggregate_id == "late" else envelope.aggregate_id


reminders = ProcessManager(
    name="reminders", initial=0, correlate=whose, evolve=remember, react=remind, sources=[account]
)
app = App(aggregates=[account], processes=[reminders])


@pytest.fixture
async def store(fake_clock: FakeClock) -> Any:
    # Events are recorded at the time of the same clock.
    store = await open_store("memory://", clock=fake_clock)
    yield store
    await store.close()


async def reminded(bank: Runtime) -> list[int]:
    return [
        envelope.event.amount
        async for envelope in bank.events(account, "late")
        if isinstance(envelope.event, Deposited)
    ]


async def test_a_timer_fires_once_when_it_is_due_and_not_before(store: Store, fake_clock: FakeClock) -> None:
    async with app.open(store, clock=fake_clock, limits=LIMITS) as bank:
        await bank.dispatch(account, "ada", Deposit(5))
        await fake_clock.advance(SOON - 2)
        assert await reminded(bank) == []
        assert await count_pending(store, "reminders:timers") == 1
        await fake_clock.advance(3)
        assert await reminded(bank) == [5]
        await fake_clock.advance(LONG)
        assert await reminded(bank) == [5]
        assert await count_pending(store, "reminders:timers") == 0


async def test_a_timer_that_is_due_in_a_sealed_store_stops_the_timers_once(
    store: Store, fake_clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with app.open(store, clock=fake_clock, limits=LIMITS) as bank:
        for id in ("ada", "bob"):
            await bank.dispatch(account, id, Deposit(5))
        await fake_clock.advance(SOON / 2)
        await store.seal()
        await fake_clock.advance(LONG)
        (timers,) = [each for each in bank.statistics().consumers if each.name == "reminders:timers"]
        assert timers.state == "stopped"
        assert "is sealed and takes no more events" in timers.reason
        (said,) = [record for record in caplog.records if "sealed" in record.getMessage()]
        assert said.levelname == "ERROR"
        assert await count_pending(store, "reminders:timers") == 2


async def test_a_timer_that_is_cancelled_does_not_fire(store: Store, fake_clock: FakeClock) -> None:
    async with app.open(store, clock=fake_clock, limits=LIMITS) as bank:
        await bank.dispatch(account, "ada", Deposit(5))
        await fake_clock.advance(SOON / 2)
        await bank.dispatch(account, "ada", Withdraw(1))
        await fake_clock.advance(LONG)
        assert await reminded(bank) == []
        assert await count_pending(store, "reminders:timers") == 0


async def test_a_timer_takes_the_place_of_one_of_its_name(store: Store, fake_clock: FakeClock) -> None:
    async with app.open(store, clock=fake_clock, limits=LIMITS) as bank:
        await bank.dispatch(account, "ada", Deposit(5))
        await bank.dispatch(account, "bob", Deposit(1))
        await fake_clock.advance(SOON / 2)
        await bank.dispatch(account, "ada", Deposit(6))
        await fake_clock.advance(SOON / 2 + 2)
        # That of another instance is another timer.
        assert await reminded(bank) == [1]
        await fake_clock.advance(SOON / 2)
        assert await reminded(bank) == [1, 6]


async def test_timers_without_a_name_are_all_kept(store: Store, fake_clock: FakeClock) -> None:
    async with app.open(store, clock=fake_clock, limits=LIMITS) as bank:
        await bank.dispatch(account, "ada", Deposit(8))
        await bank.dispatch(account, "ada", Withdraw(1))
        await fake_clock.advance(3 * SOON)
        assert await reminded(bank) == [8, 8]


async def test_a_timer_of_the_past_fires_at_once(store: Store, fake_clock: FakeClock) -> None:
    async with app.open(store, clock=fake_clock, limits=LIMITS) as bank:
        await bank.dispatch(account, "ada", Deposit(7))
        await fake_clock.advance(0)
        assert await reminded(bank) == [7]


async def test_a_timer_that_was_due_while_nothing_ran_fires_at_the_next_start(
    store: Store, fake_clock: FakeClock
) -> None:
    async with app.open(store, clock=fake_clock, limits=LIMITS) as bank:
        await bank.dispatch(account, "ada", Deposit(5))
        await bank.dispatch(account, "bob", Deposit(6))
        await fake_clock.advance(1)
        await bank.dispatch(account, "bob", Withdraw(1))
        await fake_clock.advance(1)
    await fake_clock.advance(LONG)
    for _ in range(2):
        async with app.open(store, clock=fake_clock, limits=LIMITS) as bank:
            await fake_clock.advance(2)
            assert await reminded(bank) == [5]


async def test_a_start_reads_pending_timers_and_no_history(store: Store, fake_clock: FakeClock) -> None:
    async with app.open(store, clock=fake_clock, limits=LIMITS) as bank:
        for n in range(20):
            await bank.dispatch(account, f"a{n}", Deposit(5))
        await fake_clock.advance(2)
    head = (await store.head()).position
    watched: Any = Watched(store)
    async with app.open(watched, clock=fake_clock, limits=LIMITS) as bank:
        await fake_clock.advance(SOON + 2)
        assert len(await reminded(bank)) == 20
    # One event is looked at to see that the log is the same one.
    assert all(after >= head - 1 for after in watched.read)


class Watched:
    """A store that notes from where the log is read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.read: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def read_all(self, *, after: int = 0, **others: Any) -> Any:
        self.read.append(after)
        return await self._store.read_all(after=after, **others)


async def test_many_timers_that_are_due_at_once_fire_once_each(store: Store, fake_clock: FakeClock) -> None:
    async with app.open(store, clock=fake_clock, limits=LIMITS) as bank:
        await asyncio.gather(*[bank.dispatch(account, f"a{n}", Deposit(100 + n)) for n in range(300)])
        await fake_clock.advance(SOON - 1)
        assert await count_pending(store, "reminders:timers") == 300
        await fake_clock.advance(3)
        assert sorted(await reminded(bank)) == [100 + n for n in range(300)]


async def test_a_jump_of_the_wall_clock_forward_is_not_believed_at_once(
    store: Store, fake_clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with app.open(store, clock=fake_clock, limits=LIMITS) as bank:
        await bank.dispatch(account, "ada", Deposit(5))
        await fake_clock.advance(SOON - 30)
        await bank.dispatch(account, "bob", Deposit(6))
        fake_clock.set_wall(fake_clock.wall() + round(LONG * 1e6))
        await fake_clock.advance(20)
        assert await reminded(bank) == []
        assert "jumped forward by 1800 s" in caplog.text
        # Meanwhile time goes on as before: what is due by that fires.
        await fake_clock.advance(15)
        assert await reminded(bank) == [5]
        # Somebody sets it right: nothing has fired that should not have.
        fake_clock.set_wall(fake_clock.wall() - round(LONG * 1e6))
        await fake_clock.advance(SOON - 60)
        assert await reminded(bank) == [5]
        await fake_clock.advance(60)
        assert await reminded(bank) == [5, 6]


async def test_a_jump_of_the_wall_clock_forward_that_stands_is_believed(
    store: Store, fake_clock: FakeClock
) -> None:
    async with app.open(store, clock=fake_clock, limits=LIMITS) as bank:
        await bank.dispatch(account, "ada", Deposit(5))
        await fake_clock.advance(10)
        fake_clock.set_wall(fake_clock.wall() + round(LONG * 1e6))
        await fake_clock.advance(55)
        assert await reminded(bank) == []
        await fake_clock.advance(10)
        assert await reminded(bank) == [5]


async def test_timers_wait_for_a_wall_clock_that_was_set_back(store: Store, fake_clock: FakeClock) -> None:
    async with app.open(store, clock=fake_clock, limits=LIMITS) as bank:
        await bank.dispatch(account, "ada", Deposit(5))
        await fake_clock.advance(10)
        fake_clock.set_wall(fake_clock.wall() - round(SOON * 1e6))
        await bank.dispatch(account, "bob", Deposit(6))
        await fake_clock.advance(SOON + 5)
        # The one that was set by the clock of now fires by it; the other one is that much later, and not early.
        assert await reminded(bank) == [6]
        await fake_clock.advance(SOON)
        assert await reminded(bank) == [6, 5]


def test_times_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="give one of them"):
        Send(account, "x", Deposit(1), after=timedelta(1), at=datetime.now(UTC))
    with pytest.raises(ConfigurationError, match="no time zone"):
        Send(account, "x", Deposit(1), at=datetime(2030, 1, 1))  # noqa: DTZ001 - that is the mistake
    for wrong in ({"after": 1_800}, {"at": 1_800}):
        times: dict[str, Any] = wrong
        with pytest.raises(ConfigurationError, match=r"=1800\): it must be a (timedelta|datetime)"):
            Send(account, "x", Deposit(1), **times)
    with pytest.raises(ConfigurationError, match="a name is for a timer"):
        Send(account, "x", Deposit(1), name="time-out")


# ---- due against cancelled


ACTIONS = st.lists(
    st.sampled_from(
        ["fire at one", "fire at the other", "cancel at one", "cancel at the other", "turn", "settle"]
    ),
    min_size=2,
    max_size=12,
)


@asynccontextmanager
async def two_processes(store: Store, clock: FakeClock) -> AsyncGenerator[tuple[Runtime, Runtime]]:
    limits = Limits(takeover_after=5)
    async with (
        app.open(store, clock=clock, limits=limits, consumers=False) as one,
        app.open(store, clock=clock, limits=limits, consumers=False) as other,
    ):
        yield one, other


@given(ACTIONS)
@settings(deadline=None, max_examples=150)
def test_of_due_and_cancelled_exactly_one_wins(actions: list[str]) -> None:
    asyncio.run(race(actions))


async def race(actions: list[str]) -> None:
    clock = FakeClock()
    store = await open_store("memory://", clock=clock)
    async with two_processes(store, clock) as (one, other):
        first = react_to(1, "Deposited", b'{"amount":5}')
        instances = one.blueprints["reminders"].aggregate
        await one.dispatch(instances, "ada", first, command_id=first.event_id, caused_at=0)
        asked: list[asyncio.Future[Any]] = []
        for number, action in enumerate([*actions, "fire at one", "settle"]):
            runtime = one if action.endswith("one") else other
            its = runtime.blueprints["reminders"].aggregate
            if action.startswith("fire"):
                fire = Fire(1, "bank_account", "late", "Deposit", b'{"amount":5}')
                asked.append(runtime.dispatch_nowait(its, "ada", fire))
            elif action.startswith("cancel"):
                cancel = react_to(2 + number, "Withdrawn", b'{"amount":1}')
                asked.append(
                    runtime.dispatch_nowait(its, "ada", cancel, command_id=cancel.event_id, caused_at=0)
                )
            elif action == "turn":
                await asyncio.sleep(0)
            else:
                await settle()
        while not all(each.done() for each in asked):
            # Whoever met a conflict waits a moment before he decides again.
            await clock.advance(0.1)
        for each in asked:
            each.result()
        types = [event.type for event in (await store.read_stream("reminders-ada")).events]
        assert types.count("rehydrate.Due") + types.count("rehydrate.Cancelled") == 1
        # Whoever runs then sends what was due, and nothing else.
    async with app.open(store, clock=clock, limits=LIMITS) as bank:
        await clock.advance(2)
        assert len(await reminded(bank)) == types.count("rehydrate.Due")
    await store.close()


def react_to(number: int, type: str, data: bytes) -> React:
    return React(f"e{number}", "bank_account-ada", number, number, type, data, 1_700_000_000_000_000)
