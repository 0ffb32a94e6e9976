"""Consumers on a store that fails: whatever it loses, delays or repeats, no event is missed and no view holds one twice."""

from __future__ import annotations

import asyncio
import concurrent.futures
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from rehydrate import (
    App,
    EventEnvelope,
    Limits,
    Park,
    Runtime,
    StoreUnavailableError,
    open_store,
)
from rehydrate.runtime.claim import CLAIM, read_claim
from rehydrate.store.port import Checkpoint, LogPage, NewEvent, Store
from rehydrate.testing import FakeClock
from rehydrate.testing.clock import settle, until
from rehydrate.testing.conformance.consumers import views_are_right
from rehydrate.testing.conformance.material import fill, log_events
from rehydrate.testing.conformance.read_models import Happened, account, chains_of, projection
from rehydrate.testing.conformance.read_models import app as chains_app
from rehydrate.testing.faults import FaultyStore, LoseAnswer, RandomFaults, Refuse, Script

CONSUMING = ("read_all", "wait", "head", "load_checkpoint", "save_checkpoint", "load_views", "list_views")


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = await open_store("memory://")
    yield store
    await store.close()


def state(runtime: Runtime, number: int = 0) -> str:
    return runtime.statistics().consumers[number].state


@pytest.mark.parametrize("seed", range(12))
async def test_views_are_right_on_a_store_in_which_everything_fails_now_and_then(
    store: Store, fake_clock: FakeClock, seed: int
) -> None:
    chance = random.Random(seed)
    faults = RandomFaults(chance, rate=0.15, methods=CONSUMING)
    faulty = FaultyStore(store, faults, fake_clock)
    seen: set[str] = set()

    async def handler(envelope: EventEnvelope[Happened]) -> None:
        if chance.random() < 0.05:
            raise RuntimeError("now and then")
        seen.add(envelope.id)

    async with chains_app.open(faulty, clock=fake_clock) as runtime:
        runtime.subscribe("watch", handler, on_error=Park(), workers=chance.choice([1, 3]))
        for n in range(12):
            await fill(store, f"account-{n % 3}", chance.randint(1, 9), each=4)
            await fake_clock.advance(chance.choice([0, 0.1, 2]))
            if n % 4 == 3:
                await asyncio.gather(replayed(runtime), fake_clock.advance(5))
        await fake_clock.advance(60)
        faults.rate = 0
        await fake_clock.advance(60)
        log = await log_events(store)
        await until(lambda: runtime.statistics().consumers[0].position == log[-1].position)
        await views_are_right(runtime, store)
        while len(seen) < len(log):
            await runtime.replay("watch")
            await fake_clock.advance(1)
    assert seen == {event.id for event in log}


async def replayed(runtime: Runtime) -> None:
    try:
        await runtime.replay("watch")
    except StoreUnavailableError:
        pass


async def test_a_save_whose_answer_is_lost_is_not_done_twice(store: Store, fake_clock: FakeClock) -> None:
    script = Script()
    faulty = FaultyStore(store, script, fake_clock)
    async with chains_app.open(faulty, clock=fake_clock) as runtime:
        await until(lambda: state(runtime) == "running")
        await until(lambda: runtime.consumers.is_built(projection.consumer))
        script.add("save_checkpoint", LoseAnswer(), LoseAnswer())
        await fill(store, "account-1", 3)
        await fake_clock.advance(5)
        await views_are_right(runtime, store)
        assert state(runtime) == "running"


async def test_an_outage_is_waited_out(store: Store, fake_clock: FakeClock) -> None:
    faults = RandomFaults(1, rate=0, faults=[Refuse()])
    faulty = FaultyStore(store, faults, fake_clock)
    async with chains_app.open(faulty, clock=fake_clock) as runtime:
        await until(lambda: state(runtime) == "running")
        faults.rate = 1
        await fill(store, "account-1", 3)
        await fake_clock.advance(300)
        faults.rate = 0
        await fake_clock.advance(120)
        await views_are_right(runtime, store)


async def test_a_store_that_cannot_save_is_told_of_until_it_can(
    store: Store, fake_clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    script = Script()
    async with chains_app.open(FaultyStore(store, script, fake_clock), clock=fake_clock) as runtime:
        await until(lambda: state(runtime) == "running")
        await fill(store, "account-1", 1)
        await until(lambda: runtime.statistics().consumers[0].position == 1)
        script.add("save_checkpoint", *[Refuse(retryable=False)] * 12)
        await fill(store, "account-1", 1)
        await until(lambda: state(runtime) == "failing")
        assert runtime.statistics().consumers[0].reason
        await fake_clock.advance(60)
        await until(lambda: state(runtime) == "running")
        assert runtime.statistics().consumers[0].reason == ""
        await views_are_right(runtime, store)
    assert caplog.text.count("the store does not save") == 1


async def test_a_consumer_that_fails_by_a_bug_is_started_again(
    store: Store, fake_clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    broken: Any = Broken(store)
    async with chains_app.open(broken, clock=fake_clock) as runtime:
        await until(lambda: state(runtime) == "failing")
        assert "a bug" in runtime.statistics().consumers[0].reason
        assert "is started again" in caplog.text
        broken.is_broken = False
        await fill(store, "account-1", 3)
        await fake_clock.advance(10)
        await views_are_right(runtime, store)


class Broken:
    """A store whose `read_all` has a bug."""

    def __init__(self, store: Store) -> None:
        self.is_broken = True
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def read_all(self, **given: Any) -> Any:
        if self.is_broken:
            raise RuntimeError("a bug")
        return await self._store.read_all(**given)


async def test_a_log_that_does_not_hold_the_event_of_the_checkpoint_stops_the_consumer(store: Store) -> None:
    await fill(store, "account-1", 3)
    async with chains_app.open(store) as runtime:
        await views_are_right(runtime, store)
    other = await open_store("memory://")
    try:
        checkpoint = await store.load_checkpoint(projection.consumer)
        assert checkpoint is not None
        await other.save_checkpoint(checkpoint, previous=None)
        await fill(other, "account-1", 3)
        async with chains_app.open(other) as runtime:
            await until(lambda: state(runtime) == "stopped")
            assert "which the log does not hold there" in runtime.statistics().consumers[0].reason
    finally:
        await other.close()


async def test_a_name_is_taken_over_when_its_holder_shows_no_life(fake_clock: FakeClock) -> None:
    one, two = await open_store("memory://shared"), await open_store("memory://shared")
    try:
        async with (
            chains_app.open(one, clock=fake_clock) as first,
            chains_app.open(two, clock=fake_clock) as second,
        ):
            await until(lambda: state(first) == "running")
            await fake_clock.advance(60)
            assert (state(first), state(second)) == ("running", "waiting")
            # As if its process was gone: nothing is released.
            for consumer in first.consumers.all():
                consumer.give_up()
            await fake_clock.advance(9)
            assert state(second) == "waiting"
            await fake_clock.advance(2)
            await until(lambda: state(second) == "running")
            await fill(two, "account-1", 3)
            await views_are_right(second, two)
    finally:
        await one.close()
        await two.close()


async def test_a_holder_that_was_taken_for_dead_changes_nothing_more(fake_clock: FakeClock) -> None:
    """Its clock stood still, as that of a process that is stopped."""
    stopped = FakeClock()
    one, two = await open_store("memory://shared"), await open_store("memory://shared")
    try:
        async with (
            chains_app.open(FaultyStore(one, hang := Script(), stopped), clock=stopped) as first,
            chains_app.open(two, clock=fake_clock) as second,
        ):
            await until(lambda: state(first) == "running" and state(second) == "waiting")
            await fake_clock.advance(12)
            await until(lambda: state(second) == "running")
            del hang
            await fill(two, "account-1", 50, each=9)
            await until(lambda: state(first) == "waiting")
            await views_are_right(second, two)
            assert chains_of(await log_events(two))["all"].events == 50
    finally:
        await two.close()
        await one.close()


async def test_an_orderly_end_releases_the_name(store: Store) -> None:
    async with chains_app.open(store) as runtime:
        await until(lambda: state(runtime) == "running")
    claim = read_claim(await store.load_checkpoint(CLAIM + projection.consumer))
    assert claim.standing == "released"


async def test_what_a_handler_has_in_hand_is_finished_and_saved_before_the_end(store: Store) -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()
    handled: list[int] = []

    async def handler(envelope: EventEnvelope[Happened]) -> None:
        begun.set()
        await may_end.wait()
        handled.append(envelope.position)

    await fill(store, "account-1", 3)
    app = App(aggregates=[account])
    async with app.open(store) as runtime:
        runtime.subscribe("watch", handler)
        await begun.wait()
        closing = asyncio.create_task(runtime.close())
        await settle()
        may_end.set()
        await closing
    assert handled == [1]
    checkpoint = await store.load_checkpoint("watch")
    assert checkpoint is not None
    assert checkpoint.position == 1


async def test_a_handler_that_does_not_end_is_ended_when_the_time_for_closing_is_over(
    store: Store, fake_clock: FakeClock
) -> None:
    begun = asyncio.Event()

    async def handler(envelope: EventEnvelope[Happened]) -> None:
        begun.set()
        await asyncio.Event().wait()

    await fill(store, "account-1", 3)
    async with App(aggregates=[account]).open(
        store, clock=fake_clock, limits=Limits(shutdown_timeout=3)
    ) as runtime:
        runtime.subscribe("watch", handler)
        await begun.wait()
        closing = asyncio.create_task(runtime.close())
        await fake_clock.advance(2)
        assert not closing.done()
        await fake_clock.advance(2)
        await closing


async def test_a_handler_that_hangs_does_not_slow_commands(store: Store) -> None:
    begun = asyncio.Event()

    async def handler(envelope: EventEnvelope[Happened]) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with App(aggregates=[account]).open(store, limits=Limits(shutdown_timeout=0.01)) as runtime:
        runtime.subscribe("watch", handler)
        for n in range(3_000):
            await store.append(
                f"account-{n % 7}",
                [NewEvent(id=f"{n}", type="Happened", data=b"{}")],
                expected_version=n // 7,
            )
            if n == 0:
                await begun.wait()
        await settle()
        assert runtime.statistics().consumers[0].handled == 1


async def test_a_handler_whose_own_work_is_cancelled_has_failed(store: Store) -> None:
    async def handler(envelope: EventEnvelope[Happened]) -> None:
        waiting = asyncio.get_running_loop().create_future()
        waiting.cancel()
        await waiting

    async with App(aggregates=[account]).open(store) as runtime:
        runtime.subscribe("watch", handler)
        await fill(store, "account-1", 1)
        await until(lambda: state(runtime) == "stopped")
        assert "what the handler waited for was cancelled" in runtime.statistics().consumers[0].reason


async def test_a_plain_handler_whose_own_work_is_cancelled_has_failed_too(store: Store) -> None:
    def handler(envelope: EventEnvelope[Happened]) -> None:
        raise concurrent.futures.CancelledError

    async with App(aggregates=[account]).open(store) as runtime:
        runtime.subscribe("watch", handler)
        await fill(store, "account-1", 1)
        await until(lambda: state(runtime) == "stopped")
        assert "what the handler waited for was cancelled" in runtime.statistics().consumers[0].reason


class HeldAtSave:
    """A store whose saves of one place wait until they may go on."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name
        self.is_held = False
        self.waiting = 0
        self.may_go_on = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def save_checkpoint(self, checkpoint: Checkpoint, **given: Any) -> bool:
        if self.is_held and checkpoint.name == self._name:
            self.waiting += 1
            await self.may_go_on.wait()
        return await self._store.save_checkpoint(checkpoint, **given)


async def test_a_handler_that_fails_while_the_place_is_saved_stops_its_subscription_at_once(
    store: Store, fake_clock: FakeClock
) -> None:
    held: Any = HeldAtSave(store, "watch")
    may_fail = asyncio.Event()

    async def handler(envelope: EventEnvelope[Happened]) -> None:
        if envelope.version == 2:
            await may_fail.wait()
            raise RuntimeError("cannot")

    await fill(store, "account-1", 2, each=2)
    async with App(aggregates=[account]).open(held, clock=fake_clock) as runtime:
        runtime.subscribe("watch", handler)
        await until(lambda: runtime.statistics().consumers[0].handled == 2)
        held.is_held = True
        await fake_clock.advance(1)
        await until(lambda: held.waiting == 1)
        may_fail.set()
        await settle()
        held.is_held = False
        held.may_go_on.set()
        await until(lambda: state(runtime) == "stopped")


async def test_a_handler_that_will_not_be_cancelled_does_not_hold_up_the_end_for_ever(
    store: Store, fake_clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def handler(envelope: EventEnvelope[Happened]) -> None:
        begun.set()
        while not may_end.is_set():
            try:
                await may_end.wait()
            except asyncio.CancelledError:
                continue

    await fill(store, "account-1", 1)
    async with App(aggregates=[account]).open(store, clock=fake_clock) as runtime:
        runtime.subscribe("watch", handler)
        await begun.wait()
        closing = asyncio.create_task(runtime.close())
        await fake_clock.advance(31.5)
        await closing
        assert "watch: a handler does not end although it was cancelled" in caplog.text
        may_end.set()
        await settle()


async def test_a_reader_that_lags_behind_is_not_asked_without_a_pause(
    store: Store, fake_clock: FakeClock
) -> None:
    lagging = Lagging(store)
    given: Any = lagging
    async with chains_app.open(given, clock=fake_clock) as runtime:
        await until(lambda: runtime.consumers.is_built(projection.consumer))
        await fill(store, "account-1", 3)
        await settle()
        asked = lagging.reads
        await fake_clock.advance(10)
        assert lagging.reads - asked < 30
        lagging.shows = 3
        await fake_clock.advance(3)
        await views_are_right(runtime, store)


class Lagging:
    """A store whose log is read from a replica that shows so much of it."""

    def __init__(self, store: Store) -> None:
        self.shows = 0
        self.reads = 0
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def read_all(self, *, after: int = 0, limit: int = 1_000, **given: Any) -> Any:
        self.reads += 1
        if after < self.shows:
            return await self._store.read_all(after=after, limit=min(limit, self.shows - after), **given)
        return LogPage([], after, "", is_last=True)
