"""An instance is told once of what changed nothing, and what it has stored meanwhile is not read again for that."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from rehydrate import App, Limits, Rejected, Runtime, Send, open_store
from rehydrate.errors import StoreError
from rehydrate.store.port import ANY_VERSION, Appended, AppendWaiter, NewEvent, Store
from rehydrate.testing import FakeClock
from tests.processes.door_worker import Kick, Press, Pressed, Shut, button, door, porter
from tests.processes.door_worker import app as plain

LIMITS = Limits(takeover_after=60)
EACH = 40
"""How many commands follow from one event."""
TIMES = 40
MORE_THAN_AN_ACTOR_REMEMBERS = 1_024


def react(_refused: int, event: Pressed | Rejected) -> Iterable[Send]:
    if isinstance(event, Pressed):
        command = Shut() if event.what == "shut" else Kick()
        for _ in range(EACH):
            yield Send(door, "d", command)


app = App(aggregates=[door, button], processes=[dataclasses.replace(porter, react=react)])


class Watched:
    """A store that says nothing of where the door is before it may, and counts what is read of the instance."""

    def __init__(self, store: Store) -> None:
        self.may_answer = asyncio.Event()
        self.read = 0
        self.is_silent = False
        """Whether it stores what the instance is told next, and keeps that to itself."""
        self.kept: _Kept | None = None
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def ends(self, streams: Sequence[str]) -> Any:
        if "door-d" in streams:
            await self.may_answer.wait()
        return await self._store.ends(streams)

    async def read_stream(self, stream: str, **others: Any) -> Any:
        page = await self._store.read_stream(stream, **others)
        if stream == "porter-b":
            self.read += len(page.events)
        return page

    def submit(
        self,
        stream: str,
        events: Sequence[NewEvent],
        expected_version: int,
        waiter: AppendWaiter,
        last_id: str = "",
        last_position: int = 0,
    ) -> Appended | StoreError | None:
        if not self.is_silent or events[0].type != "rehydrate.Unchanged":
            return self._store.submit(stream, events, expected_version, waiter, last_id, last_position)
        self.is_silent = False
        self.kept = _Kept(waiter)
        outcome = self._store.submit(stream, events, expected_version, self.kept, last_id, last_position)
        if outcome is not None:
            self.kept.append_done(outcome)
        return None


class _Kept:
    """An answer that nobody hears before it is told."""

    def __init__(self, waiter: AppendWaiter) -> None:
        self._waiter = waiter
        self._outcome: Appended | StoreError | None = None

    def append_done(self, outcome: Appended | StoreError) -> None:
        self._outcome = outcome

    def tell(self) -> None:
        assert isinstance(self._outcome, Appended)
        self._waiter.append_done(self._outcome)


@pytest.fixture
async def store() -> Any:
    store = await open_store("memory://")
    yield Watched(store)
    await store.close()


async def press(house: Runtime, what: str, times: int) -> None:
    for _ in range(times):
        await house.dispatch(button, "b", Press(what))


async def end_of(store: Any) -> int:
    versions: list[int] = await store.versions(["porter-b"])
    return versions[0]


@pytest.mark.parametrize("what", ["shut", "kick"])
async def test_an_instance_far_ahead_of_its_sender_is_not_read_again_for_each_command(
    store: Any, fake_clock: FakeClock, what: str
) -> None:
    async with app.open(store, clock=fake_clock, limits=LIMITS) as house:
        await fake_clock.advance(1)
        await press(house, what, TIMES)
        await fake_clock.advance(1)
        before = await end_of(store)
        assert before == TIMES * (1 + EACH) > MORE_THAN_AN_ACTOR_REMEMBERS
        store.read = 0
        store.may_answer.set()
        await fake_clock.advance(5)
        read = store.read
        assert await end_of(store) == before + TIMES * EACH
    assert read <= 2 * MORE_THAN_AN_ACTOR_REMEMBERS


async def test_an_instance_that_may_have_been_told_is_not_told_twice_however_much_it_has_stored_since(
    store: Any, fake_clock: FakeClock
) -> None:
    limits = Limits(takeover_after=60, timeout=1, max_live=4, retry_first=40, retry_most=40)
    store.may_answer.set()
    async with plain.open(store, clock=fake_clock, limits=limits) as house:
        await fake_clock.advance(1)
        store.is_silent = True
        await press(house, "shut", 1)
        await fake_clock.advance(8)
        (parked,) = await house.parked("porter:sends")
        assert parked.reason.startswith("CommandTimeoutError: ")
        store.kept.tell()
        # Its actor is needed for others, so that it does not remember what it has stored.
        for other in range(8):
            await house.dispatch(button, f"other {other}", Press("shut"))
        others = [
            NewEvent(f"{n}", "rehydrate.SentAgain", b'{"sent_id":"other"}')
            for n in range(MORE_THAN_AN_ACTOR_REMEMBERS + 10)
        ]
        await store.append("porter-b", others, expected_version=ANY_VERSION)
        await fake_clock.advance(45)
        assert await house.parked("porter:sends") == []
    types = [event.type for event in (await store.read_stream("porter-b", limit=5_000)).events]
    assert types.count("rehydrate.Unchanged") == 1
