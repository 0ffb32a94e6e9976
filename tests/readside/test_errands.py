"""Having what is parked replayed, whatever becomes of its consumer meanwhile."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from rehydrate import (
    App,
    ConfigurationError,
    EventEnvelope,
    Limits,
    Park,
    Projection,
    Runtime,
    StoreUnavailableError,
    open_store,
)
from rehydrate.runtime.claim import ClaimRecord
from rehydrate.store.port import Store
from rehydrate.testing import FakeClock
from rehydrate.testing.clock import until
from rehydrate.testing.conformance.material import fill
from rehydrate.testing.conformance.read_models import Happened, account
from tests.bank import Deposit, Event
from tests.bank import account as bank_account
from tests.readside.ledger import Balance, account_id, add


def _parking(
    evolve: Callable[[Balance, EventEnvelope[Event]], Balance],
) -> Projection[Balance, Event]:
    """Balances that put aside what they fail at."""
    return Projection(
        name="balances",
        initial=Balance(),
        key=account_id,
        evolve=evolve,
        sources=[bank_account],
        on_error=Park(),
    )


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = await open_store("memory://")
    yield store
    await store.close()


def state(runtime: Runtime, number: int = 0) -> str:
    return runtime.statistics().consumers[number].state


class Hanging:
    """A handler that fails at its first event, and hangs when it is to handle that again."""

    def __init__(self) -> None:
        self.calls = 0
        self.may_end = asyncio.Event()

    async def __call__(self, envelope: EventEnvelope[Happened]) -> None:
        self.calls += 1
        if self.calls == 1:
            raise RuntimeError("once")
        await self.may_end.wait()


async def test_who_has_something_replayed_hears_of_it_when_the_name_is_lost_meanwhile(
    store: Store, fake_clock: FakeClock
) -> None:
    handler = Hanging()
    await fill(store, "account-1", 1)
    async with App(aggregates=[account]).open(store, clock=fake_clock) as runtime:
        runtime.subscribe("watch", handler, on_error=Park())
        await until(lambda: runtime.statistics().consumers[0].parked == 1)
        replaying = asyncio.create_task(runtime.replay("watch"))
        await until(lambda: handler.calls == 2)
        stranger = ClaimRecord(store, "watch", "a stranger")
        await stranger.put_whatever_is_there("held")
        await fake_clock.advance(5)
        # Nobody is the holder's any more, so it is done on an errand.
        await until(lambda: handler.calls == 3)
        handler.may_end.set()
        await until(replaying.done)
        assert await replaying == 1


async def test_who_has_something_replayed_hears_of_it_when_the_time_for_closing_is_over(
    store: Store, fake_clock: FakeClock
) -> None:
    handler = Hanging()
    await fill(store, "account-1", 1)
    async with App(aggregates=[account]).open(store, clock=fake_clock) as runtime:
        runtime.subscribe("watch", handler, on_error=Park())
        await until(lambda: runtime.statistics().consumers[0].parked == 1)
        replaying = asyncio.create_task(runtime.replay("watch"))
        await until(lambda: handler.calls == 2)
        closing = asyncio.create_task(runtime.close())
        await fake_clock.advance(31)
        await closing
        await until(replaying.done)
        assert isinstance(replaying.exception(), StoreUnavailableError)


class Stepwise:
    """A store whose every call takes a few turns of the event loop, as one in a thread or on a server does."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not inspect.iscoroutinefunction(found) or name == "wait":
            return found

        async def stepwise(*given: Any, **named: Any) -> Any:
            for _ in range(3):
                await asyncio.sleep(0)
            return await found(*given, **named)

        return stepwise


@pytest.mark.parametrize("turns", range(0, 60, 3))
async def test_a_replay_while_a_projection_begins_costs_no_event(store: Store, turns: int) -> None:
    curse = {"is_on": True}

    def evolve(balance: Balance, envelope: EventEnvelope[Event]) -> Balance:
        if curse["is_on"] and envelope.aggregate_id == "cursed":
            raise RuntimeError("cannot")
        return add(balance, envelope)

    views = _parking(evolve)
    bank = App(aggregates=[bank_account], projections=[views])
    async with bank.open(store) as runtime:
        await runtime.dispatch(bank_account, "cursed", Deposit(7))
        await until(lambda: runtime.statistics().consumers[0].parked == 1)
    async with bank.open(store, consumers=False) as runtime:
        for number in range(40):
            await runtime.dispatch(bank_account, f"a{number}", Deposit(1))
    head = await store.head()
    curse["is_on"] = False
    slow: Any = Stepwise(store)
    async with bank.open(slow) as runtime:
        for _ in range(turns):
            await asyncio.sleep(0)
        replays = runtime.replay("balances"), runtime.replay("balances")
        assert sorted(await asyncio.gather(*replays)) == [0, 1]
        found = dict(await runtime.views(views, at_least=head.position))
    assert found == {"cursed": Balance(7, 1)} | {f"a{number}": Balance(1, 1) for number in range(40)}


async def test_an_errand_may_take_longer_than_a_holder_may_be_silent(
    store: Store, fake_clock: FakeClock
) -> None:
    handler = Hanging()
    await fill(store, "account-1", 1)
    app = App(aggregates=[account])
    async with (
        app.open(store, clock=fake_clock) as runtime,
        app.open(store, clock=fake_clock, consumers=False) as other,
    ):
        runtime.subscribe("watch", handler, on_error=Park())
        other.subscribe("watch", handler, on_error=Park())
        await until(lambda: runtime.statistics().consumers[0].parked == 1)
        replaying = asyncio.create_task(other.replay("watch"))
        await until(lambda: handler.calls == 2)
        await fake_clock.advance(4 * Limits().takeover_after)
        handler.may_end.set()
        await until(replaying.done)
        assert await replaying == 1
        await fake_clock.advance(2 * Limits().takeover_after)
        await until(lambda: state(runtime) == "running")
    assert handler.calls == 2


class Refusing:
    """A store that refuses to save a place, by an error that is none of its own."""

    def __init__(self, store: Store) -> None:
        self.refuses = False
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def save_checkpoint(self, checkpoint: Any, **given: Any) -> bool:
        if self.refuses and checkpoint.name == "balances@1":
            self.refuses = False
            raise RuntimeError("a bug")
        return await self._store.save_checkpoint(checkpoint, **given)


async def test_what_a_replay_could_not_save_is_not_taken_for_done(
    store: Store, fake_clock: FakeClock
) -> None:
    curse = {"is_on": True}

    def evolve(balance: Balance, envelope: EventEnvelope[Event]) -> Balance:
        if curse["is_on"]:
            raise RuntimeError("cannot")
        return add(balance, envelope)

    views = _parking(evolve)
    refusing: Any = Refusing(store)
    app = App(aggregates=[bank_account], projections=[views])
    async with app.open(refusing, clock=fake_clock) as runtime:
        await runtime.dispatch(bank_account, "ada", Deposit(7))
        await until(lambda: runtime.statistics().consumers[0].parked == 1)
        curse["is_on"], refusing.refuses = False, True
        with pytest.raises(RuntimeError, match="a bug"):
            await runtime.replay("balances")
        await fake_clock.advance(5)
        await until(lambda: state(runtime) == "running")
        assert await runtime.replay("balances") == 1
        assert await runtime.view(views, "ada") == Balance(7, 1)


@pytest.mark.parametrize("consumers", [True, False])
async def test_a_replay_that_makes_what_cannot_be_stored_says_so(store: Store, consumers: bool) -> None:
    curse = {"is_on": True}

    def evolve(balance: Balance, envelope: EventEnvelope[Event]) -> Balance:
        if curse["is_on"]:
            raise RuntimeError("cannot")
        return "no balance"  # type: ignore[return-value]

    views = _parking(evolve)
    app = App(aggregates=[bank_account], projections=[views])
    async with app.open(store) as runtime:
        await runtime.dispatch(bank_account, "ada", Deposit(7))
        await until(lambda: runtime.statistics().consumers[0].parked == 1)
    async with app.open(store, consumers=consumers) as runtime:
        await until(lambda: state(runtime) == ("running" if consumers else "starting"))
        curse["is_on"] = False
        with pytest.raises(
            ConfigurationError, match="projection 'balances@1': the view of 'ada' cannot be stored"
        ):
            await runtime.replay("balances")
        assert len(await runtime.parked("balances")) == 1
        if consumers:
            await until(lambda: state(runtime) == "stopped")
