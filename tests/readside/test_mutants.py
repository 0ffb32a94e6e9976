"""The laws of consumers notice mistakes: a runtime with one of them breaks the law that is meant."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from rehydrate import open_store
from rehydrate.runtime import process, subscriber, tenure
from rehydrate.runtime.lanes import Item
from rehydrate.runtime.runtime import Runtime
from rehydrate.runtime.sending import Sender
from rehydrate.runtime.tenure import TakenOverError, Tenure
from rehydrate.runtime.timers import Timers
from rehydrate.store.port import LogFilter
from rehydrate.testing.conformance import ConsumerConformance

Patch = pytest.MonkeyPatch

KILLED: Final = "each_send_arrives_once_though_its_process_ends_between_every_two_steps"
ENDED: Final = "views_are_right_though_the_projector_ends_at_each_of_its_writes"
WOKEN: Final = "a_projector_that_wakes_after_it_was_replaced_has_changed_nothing"
REFUSED: Final = "a_send_that_is_refused_comes_back_once"
NOT_BEFORE: Final = "a_timer_fires_once_when_it_is_due_and_not_before"
NEWER: Final = "what_the_code_does_not_know_yet_is_left_to_newer_code_also_where_types_are_asked_for"
CANCELLED: Final = "a_timer_that_is_cancelled_does_not_fire"


class Laws(ConsumerConformance):
    """On memory, with a kill at each write."""


class Impatient(Laws):
    # In memory all is answered at once: what is not there after a second never comes.
    patience = 0.05


def nothing(*_: Any, **__: Any) -> tuple[()]:
    return ()


def place_before_views(patch: Patch) -> None:
    _save_apart(patch, views_first=False)


def views_before_place(patch: Patch) -> None:
    _save_apart(patch, views_first=True)


def _save_apart(patch: Patch, *, views_first: bool) -> None:
    save = Tenure.save

    async def save_apart(
        self: Tenure, position: int, event_id: str, *, views: Any = (), **others: Any
    ) -> None:
        place = self.checkpoint.position, self.checkpoint.event_id
        if views and views_first:
            await save(self, *place, views=views)
        await save(self, position, event_id, **others)
        if views and not views_first:
            await save(self, position, event_id, views=views)

    patch.setattr(Tenure, "save", save_apart)


def no_fence(patch: Patch) -> None:
    """Whoever finds another place than his own saves his all the same."""
    put = tenure.put

    async def put_anyway(
        store: Any, clock: Any, limits: Any, progress: Any, saved: Any, previous: Any, *others: Any
    ) -> None:
        try:
            await put(store, clock, limits, progress, saved, previous, *others)
        except TakenOverError:
            there = await store.load_checkpoint(saved.name)
            await put(store, clock, limits, progress, saved, there, *others)

    patch.setattr(tenure, "put", put_anyway)
    patch.setattr("rehydrate.store.memory.check_save", nothing)


def timer_forgotten_at_a_start(patch: Patch) -> None:
    enter = Timers.enter

    async def enter_without(self: Timers, tenure: Tenure) -> None:
        await enter(self, tenure)
        self._next = None

    patch.setattr(Timers, "enter", enter_without)


def timer_too_early(patch: Patch) -> None:
    now = Timers._now

    def later(self: Timers, tenure: Tenure) -> int:
        return now(self, tenure) + 3_600_000_000

    patch.setattr(Timers, "_now", later)


def timer_not_cancelled(patch: Patch) -> None:
    patch.setattr(process, "_cancelled", nothing)


def refusal_not_told(patch: Patch) -> None:
    async def nobody(*_: Any) -> None: ...

    patch.setattr(Sender, "_tell", nobody)


def ids_not_given(patch: Patch) -> None:
    """A command that is sent again, and an event that is taken in again, are new ones."""
    _dispatch_without(patch, "command_id", "caused_at")


def causes_not_given(patch: Patch) -> None:
    """They are recognised only among the last commands."""
    _dispatch_without(patch, "caused_at")


def _dispatch_without(patch: Patch, *names: str) -> None:
    dispatch = Runtime.dispatch

    async def without(self: Runtime, *given: Any, **others: Any) -> Any:
        return await dispatch(self, *given, **{key: one for key, one in others.items() if key not in names})

    patch.setattr(Runtime, "dispatch", without)


def place_before_answers(patch: Patch) -> None:
    """The place of the sender is saved while its commands are under way."""
    handle = Sender._handle

    async def handle_late(self: Sender, tenure: Tenure, items: list[Item]) -> None:
        place = items[-1].event
        if place.position > tenure.checkpoint.position:
            await tenure.save(place.position, place.id)
        await handle(self, tenure, items)

    patch.setattr(Sender, "_handle", handle_late)


def only_what_it_knows(patch: Patch) -> None:
    """The store is asked for the types that are wanted, by the names that the code knows."""
    wanted = subscriber._filter

    def by_name(subscription: Any, envelopes: Any) -> LogFilter:
        where = wanted(subscription, envelopes)
        known = {
            name
            for codec in envelopes.codecs.values()
            for asked in subscription.types
            for name in codec.stored_names[asked]
        }
        return LogFilter(streams=where.streams, aggregates=where.aggregates, types=frozenset(known))

    patch.setattr(subscriber, "_filter", by_name)


MUTANTS: Final[dict[Callable[[Patch], None], str]] = {
    place_before_views: ENDED,
    views_before_place: ENDED,
    no_fence: WOKEN,
    timer_forgotten_at_a_start: NOT_BEFORE,
    only_what_it_knows: NEWER,
    timer_too_early: NOT_BEFORE,
    timer_not_cancelled: CANCELLED,
    refusal_not_told: REFUSED,
}
MUTANTS_TO_KILL: Final = (ids_not_given, causes_not_given, place_before_answers)


@pytest.mark.parametrize(("mutate", "law"), MUTANTS.items(), ids=[mutate.__name__ for mutate in MUTANTS])
async def test_a_mutant_of_the_runtime_breaks_the_law_meant(
    monkeypatch: Patch, mutate: Callable[[Patch], None], law: str
) -> None:
    mutate(monkeypatch)
    store = await open_store("memory://")
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        await getattr(Impatient, f"test_{law}")(Impatient(), store=store)
    await store.close()


@pytest.mark.slow  # Some seconds for each: what is wrong in the end shows after all lives.
@pytest.mark.parametrize("mutate", MUTANTS_TO_KILL, ids=[mutate.__name__ for mutate in MUTANTS_TO_KILL])
async def test_a_mutant_of_the_runtime_does_not_survive_the_kills(
    monkeypatch: Patch, mutate: Callable[[Patch], None]
) -> None:
    mutate(monkeypatch)
    store = await open_store("memory://")
    with pytest.raises(AssertionError):
        await getattr(Laws, f"test_{KILLED}")(Laws(), store=store)
    await store.close()
