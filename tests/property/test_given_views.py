"""For the same events, `rehydrate.testing.given` has the views that a runtime saves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from rehydrate import Aggregate, App, EventEnvelope, Projection
from rehydrate.runtime import projector
from rehydrate.testing import FakeClock, Happened, given


@dataclass(frozen=True, slots=True)
class Note:
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Noted:
    number: int


@dataclass(frozen=True, slots=True)
class Seen:
    """All that a view can know of the events of its key, since it was last removed."""

    facts: tuple[tuple[int, str, str, int, int, datetime, str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One command, and what is known of it."""

    aggregate: str
    id: str
    numbers: tuple[int, ...]
    by: str | None
    seconds: int
    """Since the one before."""


def decide(_: int, note: Note) -> Iterable[Noted]:
    return [Noted(number) for number in note.numbers]


def evolve(count: int, _: Noted) -> int:
    return count + 1


one = Aggregate(name="one", initial=0, decide=decide, evolve=evolve, commands=Note, events=Noted)
two, unread = replace(one, name="two"), replace(one, name="unread")
aggregates = {aggregate.name: aggregate for aggregate in (one, two, unread)}


def keys(envelope: EventEnvelope[Noted]) -> str | list[str] | None:
    match envelope.event.number % 4:
        case 0:
            return None
        case 1:
            return envelope.aggregate_id
        case _:
            return [envelope.aggregate_id, f"all of {envelope.aggregate}"]


def see(view: Seen, envelope: EventEnvelope[Noted]) -> Seen | None:
    if envelope.event.number == 3:
        return None
    user = envelope.metadata.user or {}
    by = user.get("by")
    assert by is None or isinstance(by, str)
    fact = (
        envelope.event.number,
        envelope.stream,
        envelope.type,
        envelope.version,
        envelope.position,
        envelope.recorded_at,
        by,
    )
    return Seen((*view.facts, fact))


seen = Projection(name="seen", initial=Seen(), key=keys, evolve=see, sources=[one, two])
app = App(aggregates=[one, two, unread], projections=[seen])

steps = st.lists(
    st.builds(
        Step,
        st.sampled_from(sorted(aggregates)),
        st.sampled_from(["a", "b", "c-1"]),
        st.lists(st.integers(0, 6), min_size=1, max_size=3).map(tuple),
        st.none() | st.sampled_from(["ada", "bob"]),
        st.integers(0, 2),
    ),
    max_size=12,
)


async def views_of_a_run(script: list[Step]) -> list[tuple[str, Seen]]:
    clock, position = FakeClock(), 0
    async with app.open("memory://", clock=clock) as runtime:
        for step in script:
            clock.set_wall(clock.wall() + 1_000_000 * step.seconds)
            done = await runtime.dispatch(
                aggregates[step.aggregate], step.id, Note(step.numbers), metadata=metadata_of(step)
            )
            position = done.position
        reading = asyncio.create_task(runtime.views(seen, at_least=position))
        while not reading.done():
            await clock.advance(0.1)
        return reading.result()


def metadata_of(step: Step) -> dict[str, Any]:
    return {} if step.by is None else {"by": step.by}


def happened(script: list[Step]) -> list[Happened]:
    now = datetime.fromtimestamp(FakeClock().wall() / 1e6, UTC)
    told: list[Happened] = []
    for step in script:
        now += timedelta(seconds=step.seconds)
        first, *more = map(Noted, step.numbers)
        told.append(
            Happened(
                aggregates[step.aggregate],
                step.id,
                first,
                *more,
                # Where time stands still it need not be said.
                recorded_at=now if step.seconds else None,
                metadata=metadata_of(step),
            )
        )
    return told


@settings(max_examples=40, deadline=None)
@for_all(script=steps, cached=st.sampled_from([1, 20_000]), cut=st.integers(0, 12))
def test_the_views_are_those_that_a_runtime_saves(script: list[Step], cached: int, cut: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # With 1, nearly every view has been to the store and back before it is folded on.
        patch.setattr(projector, "CACHED_VIEWS", cached)
        saved = asyncio.run(views_of_a_run(script))
    told = happened(script)
    given(seen, *told[:cut]).when(*told[cut:]).then_views(dict(saved))
