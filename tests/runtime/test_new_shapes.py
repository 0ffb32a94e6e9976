"""Older and newer code on one store at the same time, where an event gets another shape."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from rehydrate import (
    Aggregate,
    App,
    EventEnvelope,
    JsonCodec,
    Runtime,
    StreamQuarantinedError,
    Subscription,
    UnknownEventError,
    open_store,
)
from rehydrate.domain.codec import Codec
from rehydrate.runtime.control import resume
from rehydrate.telemetry import ConsumerStatistics
from rehydrate.testing.clock import FakeClock, until
from tests.stand_ins import SHARED


@dataclass(frozen=True)
class Weigh:
    grams: int


@dataclass(frozen=True)
class Weighed:
    grams: int


@dataclass(frozen=True)
class WeighedFinely:
    """The same event in its new shape."""

    milligrams: int


@dataclass(frozen=True)
class Refined:
    """The new shape under the old name: the test gives it that of `Weighed`."""

    milligrams: int


Refined.__name__ = "Weighed"


def in_milligrams(fields: dict[str, Any]) -> dict[str, Any]:
    return {"milligrams": fields["grams"] * 1_000}


def in_grams(fields: dict[str, Any]) -> dict[str, Any]:
    return {"grams": fields["milligrams"] // 1_000}


OLD = JsonCodec(Weighed)
READS_IT_FIRST = JsonCodec(
    Weighed, aliases={"WeighedFinely": Weighed}, upcasters={"WeighedFinely": [in_grams]}
)
NEW_NAME = JsonCodec(
    WeighedFinely, aliases={"Weighed": WeighedFinely}, upcasters={"Weighed": [in_milligrams]}
)
SAME_NAME = JsonCodec(Refined, upcasters={"Weighed": [in_milligrams]})


def scale(kind: Callable[[int], Any], codec: Codec, by: int = 1) -> Aggregate[int, Weigh, Any]:
    def decide(_state: int, command: Weigh) -> Iterable[Any]:
        yield kind(command.grams * by)

    def evolve(_state: int, event: Any) -> int:
        grams: int = event.grams * 1_000 if isinstance(event, Weighed) else event.milligrams
        return grams

    return Aggregate[int, Weigh, Any](
        name="scale", initial=0, decide=decide, evolve=evolve, commands=Weigh, events=kind, codec=codec
    )


@asynccontextmanager
async def both(
    old: Aggregate[int, Weigh, Any], new: Aggregate[int, Weigh, Any], *subscriptions: Subscription
) -> AsyncGenerator[tuple[Runtime, Runtime]]:
    """One store, opened by older code, which runs these subscriptions, and by newer code."""
    store = await open_store(SHARED)
    async with (
        App(aggregates=[old], subscriptions=subscriptions).open(store) as older,
        App(aggregates=[new]).open(store) as newer,
    ):
        yield older, newer
    await store.close()


async def test_a_new_shape_under_a_new_name_is_read_by_code_that_learnt_it_before_anybody_writes_it() -> None:
    old, new = scale(Weighed, READS_IT_FIRST), scale(WeighedFinely, NEW_NAME, by=1_000)
    seen: list[object] = []

    def see(envelope: EventEnvelope[Any]) -> None:
        seen.append(envelope.event)

    watching = Subscription(name="watching", handler=see, aggregates=[old], types=[Weighed])
    async with both(old, new, watching) as (older, newer):
        await older.dispatch(old, "a", Weigh(1))
        await newer.dispatch(new, "a", Weigh(2))
        await older.dispatch(old, "a", Weigh(3))
        await newer.dispatch(new, "a", Weigh(4))
        assert await older.state(old, "a") == await newer.state(new, "a") == 4_000
        assert [e.event async for e in newer.events(new, "a")] == [
            WeighedFinely(n * 1_000) for n in (1, 2, 3, 4)
        ]
        assert [e.type async for e in newer.events(new, "a")] == ["Weighed", "WeighedFinely"] * 2
        await until(lambda: len(seen) == 4)
    assert seen == [Weighed(1), Weighed(2), Weighed(3), Weighed(4)]


async def test_a_new_revision_stops_the_stream_in_older_code_and_nothing_is_lost() -> None:
    old, new = scale(Weighed, OLD), scale(Refined, SAME_NAME, by=1_000)
    async with both(old, new) as (older, newer):
        await older.dispatch(old, "a", Weigh(1))
        await newer.dispatch(new, "a", Weigh(2))
        with pytest.raises(StreamQuarantinedError) as quarantined:
            await older.dispatch(old, "a", Weigh(3))
        assert quarantined.value.type == "Weighed@2"
        assert isinstance(quarantined.value.__cause__, UnknownEventError)
        await older.dispatch(old, "b", Weigh(3))
        await newer.dispatch(new, "a", Weigh(4))
        assert [e.event async for e in newer.events(new, "a")] == [
            Refined(1_000),
            Refined(2_000),
            Refined(4_000),
        ]
        assert await newer.state(new, "b") == 3_000


@pytest.mark.parametrize("by", ["a resume", "a start"])
async def test_a_consumer_that_older_code_stopped_goes_on_with_a_resume_or_a_start_and_not_by_itself(
    by: str,
) -> None:
    old, new, clock, seen = scale(Weighed, OLD), scale(Refined, SAME_NAME), FakeClock(), list[object]()

    def see(envelope: EventEnvelope[Any]) -> None:
        seen.append(envelope.event)

    store = await open_store(SHARED)
    before, after = (
        App(aggregates=[kind], subscriptions=[Subscription(name="watching", handler=see, aggregates=[kind])])
        for kind in (old, new)
    )
    async with before.open(store, clock=clock) as older:
        await until(lambda: watching(older).state == "running")
        async with after.open(store, clock=clock) as newer:
            await newer.dispatch(new, "a", Weigh(2))
            await until(lambda: watching(older).state == "stopped")
            await older.close()
            await clock.advance(60)
            assert watching(newer).state == "stopped"
            assert "Weighed@2" in watching(newer).reason
            assert not seen
            if by == "a resume":
                await resume(store, "watching")
                await clock.advance(60)
                await until(lambda: seen)
            else:
                async with after.open(store, clock=clock):
                    await until(lambda: seen)
    await store.close()
    assert seen == [Refined(2)]


def watching(bank: Runtime) -> ConsumerStatistics:
    (its,) = bank.statistics().consumers
    return its
