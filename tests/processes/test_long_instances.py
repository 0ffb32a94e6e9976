"""One instance that takes in everything: what it has stored already is not read again and again."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import pytest

from rehydrate import App, EventEnvelope, Rejected, Send, Skip, open_store
from rehydrate.runtime.control import reset
from rehydrate.store.port import NewEvent, ReplayPage, Store, StreamPage
from rehydrate.testing.clock import until
from tests.processes.door_worker import Kick, Open, Pressed, Shut, button, door, porter
from tests.processes.test_process import at_rest

React = Callable[[int, Pressed | Rejected], Iterable[Send]]

MANY = 4_000
"""So many that most of what an instance stores is long before what its actor remembers."""


class Counting:
    """A store that counts what is read of streams."""

    def __init__(self, store: Store) -> None:
        self.events: Counter[str] = Counter()
        """By the aggregate."""
        self.calls: Counter[str] = Counter()
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def read_stream(self, stream: str, **others: Any) -> StreamPage:
        page = await self._store.read_stream(stream, **others)
        self._count(stream, len(page.events))
        return page

    async def replay(self, stream: str, **others: Any) -> ReplayPage:
        page = await self._store.replay(stream, **others)
        self._count(stream, len(page.rows))
        return page

    def _count(self, stream: str, events: int) -> None:
        name = stream.partition("-")[0]
        self.calls[name] += 1
        self.events[name] += events


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = await open_store("memory://")
    yield store
    await store.close()


def nothing(_refused: int, _event: Pressed | Rejected) -> Iterable[Send]:
    return ()


def move(_refused: int, event: Pressed | Rejected) -> Iterable[Send]:
    if isinstance(event, Pressed):
        yield Send(door, "d", Open() if event.what == "open" else Shut())


def shut(_refused: int, event: Pressed | Rejected) -> Iterable[Send]:
    if isinstance(event, Pressed):
        yield Send(door, "d", Shut())


def kick(_refused: int, event: Pressed | Rejected) -> Iterable[Send]:
    if isinstance(event, Pressed):
        yield Send(door, "d", Kick())


def everything(_envelope: EventEnvelope[Pressed]) -> str:
    return "all"


def house_with(react: React, **others: Any) -> App:
    one = dataclasses.replace(porter, correlate=everything, react=react, **others)
    return App(aggregates=[door, button], processes=[one])


async def press(store: Store, times: int = MANY) -> None:
    """The button is pressed, to open and to shut in turn."""
    for start in range(0, times, 100):
        events = [
            NewEvent(f"press {n}", "Pressed", b'{"what":"shut"}' if n % 2 else b'{"what":"open"}')
            for n in range(start, start + 100)
        ]
        await store.append("button-b", events, expected_version=start)


async def run(store: Any, react: React) -> None:
    async with house_with(react).open(store) as house:
        await at_rest(house)


async def all_of(store: Store, stream: str) -> Counter[str]:
    page = await store.read_stream(stream, limit=100_000)
    return Counter(event.type for event in page.events)


async def test_one_that_lags_is_not_read_back_for_each_event(store: Store) -> None:
    await press(store)
    counting = Counting(store)
    await run(counting, move)
    assert await all_of(store, "porter-all") == {"rehydrate.Handled": MANY, "rehydrate.Sent": MANY}
    assert await all_of(store, "door-d") == {"Opened": MANY // 2, "WasShut": MANY // 2}
    assert counting.calls["porter"] <= 20
    assert counting.events["porter"] <= 2 * MANY


async def test_one_that_goes_on_after_a_restart_is_read_back_once(store: Store) -> None:
    await press(store)
    stopped_at = MANY // 2

    def up_to_the_middle(_refused: int, _event: Pressed | Rejected) -> Iterable[Send]:
        nonlocal stopped_at
        stopped_at -= 1
        if not stopped_at:
            raise RuntimeError("so far, and no further")
        return ()

    async with house_with(up_to_the_middle).open(store) as house:
        await until(lambda: house.statistics().consumers[0].state == "stopped")
    counting = Counting(store)
    await run(counting, nothing)
    assert await all_of(store, "porter-all") == {"rehydrate.Handled": MANY}
    # Once for its state, and once for what its actor remembers.
    assert counting.calls["porter"] <= 20
    assert counting.events["porter"] <= 2 * MANY


async def test_one_that_begins_again_at_the_first_event_looks_up_each_where_it_is(store: Store) -> None:
    await press(store)
    await run(store, nothing)
    before = await store.head()
    await reset(store, "porter:events")
    counting = Counting(store)
    await run(counting, nothing)
    assert await store.head() == before
    # Each answer is looked up, and what stands before it, back to where another command begins.
    assert counting.calls["porter"] <= 3 * MANY + 20
    assert counting.events["porter"] <= 260 * MANY


@pytest.mark.parametrize(("react", "answer"), [(shut, "rehydrate.Unchanged"), (kick, "rehydrate.Rejected")])
async def test_what_was_answered_is_looked_up_where_it_is_when_it_is_sent_again(
    store: Store, react: React, answer: str
) -> None:
    await press(store)
    await run(store, react)
    assert (await all_of(store, "porter-all"))[answer] == MANY
    before = await store.head()
    await reset(store, "porter:sends")
    counting = Counting(store)
    await run(counting, react)
    assert await store.head() == before
    assert counting.calls["porter"] <= MANY + 20
    assert counting.events["porter"] <= 5 * MANY


async def test_an_instance_is_not_read_to_its_end_for_each_command_that_is_sent_again(store: Store) -> None:
    await press(store)
    await run(store, move)
    before = await store.head()
    await reset(store, "porter:sends")
    counting = Counting(store)
    await run(counting, move)
    assert await store.head() == before
    assert counting.calls["porter"] <= MANY + 20
    assert counting.events["porter"] <= 5 * MANY
    # Nor is the target.
    assert counting.calls["door"] <= 3 * MANY + 20
    assert counting.events["door"] <= 260 * MANY


async def test_what_was_skipped_is_taken_in_once_by_one_that_begins_again_however_long_its_instance_is(
    store: Store,
) -> None:
    await press(store)
    seen = 0

    def failing(_refused: int, _event: Pressed | Rejected) -> Iterable[Send]:
        nonlocal seen
        seen += 1
        if seen % 100 == 0:
            raise RuntimeError("a bug")
        return ()

    async with house_with(failing, on_error=Skip()).open(store) as house:
        await at_rest(house)
    taken = (await all_of(store, "porter-all"))["rehydrate.Handled"]
    assert 0 < taken < MANY
    for _ in range(2):
        await reset(store, "porter:events")
        await run(store, nothing)
        page = await store.read_stream("porter-all", limit=100_000)
        assert len({event.data for event in page.events}) == len(page.events) == MANY
