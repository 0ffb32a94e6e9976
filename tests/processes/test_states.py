"""States of instances: None where `evolve` says so, and the very one that they begin with where nothing can change it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from rehydrate import App, Park, ProcessManager, Rejected, Send, Snapshot, open_store
from rehydrate.codec.beginning import Beginning
from rehydrate.codec.process import Instance
from rehydrate.store.port import Store
from rehydrate.testing import Happened, given
from rehydrate.testing.clock import until
from tests.processes.door_worker import Press, Pressed, Shut, button, by_button, door
from tests.processes.test_process import at_rest, types_in


@pytest.fixture
async def store() -> Any:
    store = await open_store("memory://")
    yield store
    await store.close()


def leave(state: int, event: Pressed | Rejected) -> int | None:
    return None if isinstance(event, Pressed) and event.what == "leave" else (state or 0) + 1


class Leaving:
    def __call__(self, state: int | None, event: Pressed | Rejected) -> int | None:
        return leave(state or 0, event)


def nothing_follows(_state: Any, _event: Pressed | Rejected) -> Iterable[Send]:
    return []


def leaving(evolve: Callable[[Any, Any], Any], **fields: Any) -> ProcessManager[Any, Pressed]:
    return ProcessManager(
        name="leaving",
        initial=0,
        correlate=by_button,
        evolve=evolve,
        react=nothing_follows,
        sources=[button],
        **fields,
    )


@pytest.mark.parametrize("evolve", [leave, Leaving()], ids=["function", "object"])
async def test_none_is_a_state_where_evolve_says_that_it_returns_it(store: Store, evolve: Any) -> None:
    process = leaving(evolve, snapshot=Snapshot(every=1))
    app = App(aggregates=[door, button], processes=[process])
    async with app.open(store) as house:
        await house.dispatch(button, "b", Press("leave"))
        await at_rest(house)
        assert await house.state(process, "b") is None
    async with app.open(store) as house:
        assert await house.state(process, "b") is None
        await house.dispatch(button, "b", Press("come"))
        await at_rest(house)
        assert await house.state(process, "b") == 1
    given(process, Happened(button, "b", Pressed("leave"))).then_state("b", None)


async def test_none_is_a_forgotten_return_where_it_does_not(store: Store) -> None:
    process = leaving(lambda _state, _event: None, on_error=Park())
    async with App(aggregates=[door, button], processes=[process]).open(store) as house:
        await house.dispatch(button, "b", Press("leave"))
        await until(lambda: house.statistics().consumers[0].parked == 1)
        (parked,) = await house.parked("leaving:events")
    assert (
        "evolve returned None for Pressed; return the next state, or declare `-> ... | None` where None is one"
        in parked.reason
    )
    with pytest.raises(TypeError, match="evolve returned None for Pressed"):
        given(process, Happened(button, "b", Pressed("leave")))


@dataclass(frozen=True, slots=True)
class Idle:
    since: int = 0


IDLE = Idle()


def stay(state: Idle, _event: Pressed | Rejected) -> Idle:
    return state


def shut_when_idle(state: Idle, event: Pressed | Rejected) -> Iterable[Send]:
    if state is IDLE and isinstance(event, Pressed):
        yield Send(door, "d", Shut())


async def test_an_instance_begins_with_the_very_initial_where_nothing_can_change_it(store: Store) -> None:
    process = ProcessManager(
        name="idle",
        initial=IDLE,
        correlate=by_button,
        evolve=stay,
        react=shut_when_idle,
        sources=[button],
    )
    async with App(aggregates=[door, button], processes=[process]).open(store) as house:
        await house.dispatch(button, "b", Press("shut"))
        await at_rest(house)
        assert await house.state(process, "b") is IDLE
    # Nothing of Rehydrate's own has to be copied for each instance either.
    begun = Instance(IDLE)
    assert Beginning("idle", begun).new() is begun
    assert await types_in(store, "idle-b") == ["rehydrate.Handled", "rehydrate.Sent", "rehydrate.Unchanged"]


@dataclass(frozen=True, slots=True)
class Noted:
    what: list[str]


def note_anew(state: Noted, event: Pressed | Rejected) -> Noted:
    return Noted([*state.what, event.what if isinstance(event, Pressed) else "no"])


async def test_a_state_that_can_be_changed_is_a_copy_for_each_instance(store: Store) -> None:
    initial = Noted([])
    process = ProcessManager(
        name="noting",
        initial=initial,
        correlate=by_button,
        evolve=note_anew,
        react=nothing_follows,
        sources=[button],
        snapshot=Snapshot(every=1),
    )
    app = App(aggregates=[door, button], processes=[process])
    async with app.open(store) as house:
        one, other = await house.state(process, "1"), await house.state(process, "2")
        assert one == other == initial
        assert len({id(one.what), id(other.what), id(initial.what)}) == 3
        await house.dispatch(button, "1", Press("shut"))
        await at_rest(house)
    async with app.open(store) as house:
        assert await house.state(process, "1") == Noted(["shut"])
