"""What is held back is sent again by itself, and by whoever asks for it: by one of them at a time."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rehydrate import App, JsonCodec, Limits, Rejected, Send, open_store
from rehydrate.store.port import NewEvent, Store
from rehydrate.testing import FakeClock
from rehydrate.testing.clock import settle
from tests.processes.door_worker import Open, Opened, Press, Pressed, WasShut, button, door, move, porter
from tests.processes.test_process import types_in

LIMITS = Limits(takeover_after=60)


class Mended:
    """The codec of the door, with a name more."""

    def __init__(self) -> None:
        known = JsonCodec(Opened | WasShut)
        self.names, self.encode = known.names, known.encode
        self.decoders: dict[str, Callable[[bytes], Any]] = {
            **known.decoders,
            "Unknown": lambda _data: WasShut(),
        }


class Held:
    """A store that keeps whoever asks where the stream of the door ends waiting."""

    def __init__(self, store: Store) -> None:
        self.is_asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def ends(self, streams: Sequence[str]) -> Any:
        answer = await self._store.ends(streams)
        if "door-d" in streams:
            self.is_asked.set()
            await self.may_answer.wait()
        return answer


def house_with(codec: Any = None) -> App:
    its_door = dataclasses.replace(door, codec=codec)

    def react(refused: int, event: Pressed | Rejected) -> Iterable[Send]:
        for send in move(refused, event):
            yield Send(its_door, send.id, send.command)

    return App(aggregates=[its_door, button], processes=[dataclasses.replace(porter, react=react)])


async def test_a_replay_waits_for_the_try_that_is_under_way(fake_clock: FakeClock) -> None:
    store = await open_store("memory://")
    await store.append("door-d", [NewEvent("x", "Unknown", b"{}")], expected_version=0)
    async with house_with().open(store, clock=fake_clock, limits=LIMITS) as house:
        await house.dispatch(button, "b", Press("shut"))
        await fake_clock.advance(10)
        assert len(await house.parked("porter:sends")) == 1
    app = house_with(Mended())
    held: Any = Held(store)
    async with app.open(held, clock=fake_clock, limits=LIMITS) as house:
        while not held.is_asked.is_set():
            await fake_clock.advance(0.5)
        # To shut it changes nothing, and that is about to be said. Somebody opens it, and asks for a replay.
        opened = house.dispatch_nowait(app.aggregates["door"], "d", Open())
        await settle()
        replayed = asyncio.create_task(house.replay("porter:sends"))
        await settle()
        held.may_answer.set()
        await fake_clock.advance(10)
        await opened
        await replayed
        assert await house.parked("porter:sends") == []
    assert await types_in(store, "door-d") == ["Unknown", "Opened"]
    assert (await types_in(store, "porter-b"))[-1] == "rehydrate.Unchanged"
    await store.close()


async def test_a_drop_waits_for_the_try_that_is_under_way(fake_clock: FakeClock) -> None:
    store = await open_store("memory://")
    await store.append("door-d", [NewEvent("x", "Unknown", b"{}")], expected_version=0)
    async with house_with().open(store, clock=fake_clock, limits=LIMITS) as house:
        await house.dispatch(button, "b", Press("shut"))
        await fake_clock.advance(10)
        assert len(await house.parked("porter:sends")) == 1
    held: Any = Held(store)
    async with house_with(Mended()).open(held, clock=fake_clock, limits=LIMITS) as house:
        while not held.is_asked.is_set():
            await fake_clock.advance(0.5)
        # To shut it is about to change nothing. Somebody drops it, and what comes after it is to open it.
        dropping = asyncio.create_task(house.drop("porter:sends"))
        await house.dispatch(button, "b", Press("open"))
        await fake_clock.advance(3)
        assert not dropping.done()
        held.may_answer.set()
        await fake_clock.advance(10)
        # It was sent before it could be dropped, and before what follows it.
        assert await dropping == 0
    log = [event.type for event in (await store.read_all()).events]
    assert log.index("rehydrate.Unchanged") < log.index("Opened")
    assert await types_in(store, "door-d") == ["Unknown", "Opened"]
    await store.close()
