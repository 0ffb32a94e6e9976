"""A command that its target accepted without events leaves no trace there, and is sent once all the same."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rehydrate import Limits, Runtime, open_store
from rehydrate.runtime.control import pause, reset, resume
from rehydrate.store.port import ANY_VERSION, NewEvent, Store
from rehydrate.testing import FakeClock
from rehydrate.testing.clock import until
from rehydrate.testing.conformance.mortal import MortalStore
from tests.processes.door_worker import Press, app, button, door, porter
from tests.processes.test_process import at_rest, types_in

ROOT = Path(__file__).parents[2]
LIMITS = Limits(takeover_after=0.5)
MOVED = Limits(takeover_after=2)
"""Of a time that is moved by hand."""


@pytest.fixture
async def store() -> Any:
    store = await open_store("memory://")
    yield store
    await store.close()


async def press(runtime: Runtime, *buttons: str) -> None:
    for what in buttons:
        await runtime.dispatch(button, "b", Press(what))


async def test_it_is_not_sent_again_by_one_that_begins_at_the_first_event(store: Store) -> None:
    async with app.open(store) as house:
        await press(house, "shut", "open")
        await at_rest(house)
    before = await store.head()
    for consumer in ("porter:events", "porter:sends", "porter:timers"):
        await reset(store, consumer)
    async with app.open(store) as house:
        await at_rest(house)
        assert await house.state(door, "d")
    assert await store.head() == before


async def test_only_what_changed_nothing_is_noted_and_react_is_not_told(store: Store) -> None:
    async with app.open(store) as house:
        await press(house, "shut", "open", "kick", "shut", "kick")
        await at_rest(house)
        assert await house.state(porter, "b") == 1
    types = await types_in(store, "porter-b")
    assert types.count("rehydrate.Sent") == 5
    # To shut it when it was shut, and to kick it when it was open; to kick it when it was shut is refused.
    assert types.count("rehydrate.Unchanged") == 2
    assert types.count("rehydrate.Rejected") == 1


async def test_it_is_noted_before_the_next_command_to_that_target_is_sent(store: Store) -> None:
    async with app.open(store) as house:
        await press(house, "shut", "open")
        await at_rest(house)
    log = [event.type for event in (await store.read_all()).events]
    assert log.index("rehydrate.Unchanged") < log.index("Opened")


async def test_it_is_not_sent_again_from_the_log_in_another_store(store: Store) -> None:
    async with app.open(store) as house:
        await press(house, "shut", "open")
        await at_rest(house)
    moved = await open_store("memory://")
    events = (await store.read_all()).events
    for event in events:
        same = NewEvent(event.id, event.type, event.data, event.metadata)
        await moved.append(event.stream, [same], expected_version=ANY_VERSION)
    async with app.open(moved) as house:
        await at_rest(house)
        assert await house.state(door, "d")
    assert (await moved.head()).event_id == events[-1].id
    await moved.close()


async def test_each_command_is_decided_once_in_order_wherever_its_process_ends(fake_clock: FakeClock) -> None:
    asked = ("shut", "open", "open", "kick", "shut", "kick", "shut", "open")
    at = 0
    is_over = False
    while not is_over:
        at += 1
        store = await open_store("memory://")
        async with app.open(store, consumers=False) as house:
            await press(house, *asked)
        mortal: Any = MortalStore(store, at)
        async with app.open(mortal, clock=fake_clock, limits=MOVED) as house:
            is_over = await ends_at_rest(store, house, fake_clock, mortal)
        for consumer in ("porter:events", "porter:sends"):
            async with app.open(store, clock=fake_clock, limits=MOVED) as house:
                assert await ends_at_rest(store, house, fake_clock)
            assert await types_in(store, "door-d") == ["Opened", "WasShut", "Opened"], at
            answers = Counter(await types_in(store, "porter-b"))
            assert (answers["rehydrate.Unchanged"], answers["rehydrate.Rejected"]) == (4, 1), at
            await reset(store, consumer)
        await store.close()
    assert at > 20


async def ends_at_rest(
    store: Store, house: Runtime, clock: FakeClock, mortal: MortalStore | None = None
) -> bool:
    """Let time pass until nothing follows any more; False if the process is dead before that."""
    while mortal is None or not mortal.is_dead:
        head = (await store.head()).position
        await clock.advance(0.25)
        consumers = house.statistics().consumers
        is_there = all(one.position >= head and not one.parked for one in consumers)
        if is_there and (await store.head()).position == head:
            return True
    return False


async def test_it_is_not_sent_again_after_a_process_that_was_killed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'house.db'}"
    async with app.open(url, limits=LIMITS) as house:
        await until(lambda: all(one.state == "running" for one in house.statistics().consumers))
    store = await open_store(url)
    await pause(store, "porter:sends")
    async with app.open(store, limits=LIMITS) as house:
        await press(house, "shut", "open")
        await until(lambda: house.statistics().consumers[0].handled == 2)
    await resume(store, "porter:sends")
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "ignore", "-m", "tests.processes.door_worker", url, cwd=ROOT
    )
    assert await worker.wait() == -signal.SIGKILL
    async with app.open(store, limits=LIMITS) as house:
        assert await house.state(door, "d")
        await until(lambda: house.statistics().consumers[1].state == "running")
        await at_rest(house)
        assert await house.state(door, "d")
    assert await types_in(store, "door-d") == ["Opened"]
    await store.close()
