"""Laws of subscriptions and projections, on a store: nothing is missed, and no view holds an event twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final

import pytest

from rehydrate.app import App
from rehydrate.codec.json import JsonCodec
from rehydrate.domain.aggregate import Aggregate
from rehydrate.domain.envelope import EventEnvelope
from rehydrate.domain.policy import Park
from rehydrate.domain.projection import Projection
from rehydrate.domain.subscription import Subscription
from rehydrate.errors import ProjectionBuildingError
from rehydrate.runtime.limits import Limits
from rehydrate.runtime.runtime import Runtime
from rehydrate.store.port import Store, StoredEvent
from rehydrate.testing.clock import until
from rehydrate.testing.conformance.law import law
from rehydrate.testing.conformance.material import event, fill, ids, log_events
from rehydrate.testing.conformance.process_managers import ProcessManagerLaws
from rehydrate.testing.conformance.projectors import ProjectorLaws
from rehydrate.testing.conformance.read_models import (
    Chain,
    Happen,
    Happened,
    account,
    app,
    chains,
    chains_of,
    projection,
)
from rehydrate.testing.conformance.under_test import Another, StoreUnderTest
from rehydrate.testing.conformance.worker import Flood, Run
from rehydrate.testing.conformance.writers import Writers

_QUICK: Final = Limits(takeover_after=0.6)
"""Real seconds: no law waits for ten."""
_LIMIT: Final = 60.0
"""Seconds: starting processes takes a while on a busy machine."""


class ProjectionLaws(StoreUnderTest):
    @law()
    async def test_views_are_the_fold_of_the_whole_log(self, store: Store) -> None:
        for n in range(5):
            await fill(store, f"account-{n}", 40, each=7)
        async with app.open(store) as runtime:
            await views_are_right(runtime, store)
            for n in range(5):
                await fill(store, f"account-{n}", 11, each=3)
            await views_are_right(runtime, store)
        async with app.open(store) as runtime:
            await views_are_right(runtime, store)

    @law()
    async def test_a_view_at_least_at_a_position_holds_the_own_write(self, store: Store) -> None:
        async with app.open(store) as runtime:
            for n in range(1, 30):
                done = await runtime.dispatch(account, "ada", Happen(n))
                chain = await runtime.view(projection, "account-ada", at_least=done.position)
                assert chain.events == n

    @law()
    async def test_events_of_others_move_the_place_and_no_view(self, store: Store) -> None:
        async with app.open(store) as runtime:
            done = await runtime.dispatch(account, "ada", Happen())
            others = await fill(store, "other-1", 5)
            await runtime.view(projection, "all", at_least=others[-1].position)
            await views_are_right(runtime, store, await _of_accounts(store))
            assert others[-1].position > done.position

    @law()
    async def test_another_revision_is_built_beside_the_one_that_runs(
        self, store: Store, another: Another
    ) -> None:
        await fill(store, "account-1", 300, each=50)
        newer = chains(revision=2)
        second = store if store.capabilities.single_writer else await another()
        async with app.open(store) as old, App(aggregates=[account], projections=[newer]).open(second) as new:
            for n in range(20):
                done = await old.dispatch(account, "2", Happen(n))
                await old.view(projection, "all", at_least=done.position)
            await views_are_right(new, store, of=newer)
            await views_are_right(old, store)
            await store.remove_checkpoint(projection.consumer)
            await views_are_right(new, store, of=newer)

    @law()
    async def test_a_projection_that_nobody_has_built_is_not_shown(self, store: Store) -> None:
        last = (await fill(store, "account-1", 3))[-1]
        async with app.open(store, consumers=False) as runtime:
            with pytest.raises(ProjectionBuildingError) as building:
                await runtime.view(projection, "all")
        assert (building.value.position, building.value.head) == (0, last.position)

    @law(lacks=("single_writer",))
    async def test_of_two_runners_one_runs_and_the_other_takes_over_at_once(
        self, store: Store, another: Another
    ) -> None:
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(app.open(store, limits=_QUICK))
            await until(lambda: _state(first) == "running")
            second = await stack.enter_async_context(app.open(await another(), limits=_QUICK))
            await until(lambda: _state(second) == "waiting")
            await fill(store, "account-1", 30)
            await views_are_right(first, store)
            await views_are_right(second, store)
            await first.close()
            await until(lambda: _state(second) == "running")
            await fill(store, "account-1", 30)
            await views_are_right(second, store)

    @law()
    async def test_a_poison_event_that_is_parked_holds_back_its_own_key_only(self, store: Store) -> None:
        poison = set[str]()

        def fails(chain: Chain, envelope: EventEnvelope[Happened]) -> Chain:
            if envelope.id in poison:
                raise RuntimeError("poison")
            return projection.evolve(chain, envelope) or chain

        parking = Projection(
            name="parking",
            initial=Chain(),
            key=lambda envelope: envelope.stream,
            evolve=fails,
            sources=[account],
            on_error=Park(),
        )
        for n in (1, 2):
            await fill(store, f"account-{n}", 3)
        poison.add((await log_events(store))[1].id)
        async with App(aggregates=[account], projections=[parking]).open(store) as runtime:
            last = (await fill(store, "account-1", 2, each=2))[-1]
            page = dict(await runtime.views(parking, at_least=last.position))
            assert {key: chain.events for key, chain in page.items()} == {"account-1": 1, "account-2": 3}
            parked = await runtime.parked("parking")
            assert [(one.stream, one.version) for one in parked] == [("account-1", n) for n in (2, 3, 4, 5)]
            assert await runtime.replay("parking") == 0
            poison.clear()
            assert await runtime.replay("parking") == 4
            assert await runtime.parked("parking") == []
            expected = {key: one for key, one in chains_of(await log_events(store)).items() if key != "all"}
            assert dict(await runtime.views(parking)) == expected


class ProjectionProcessLaws(StoreUnderTest):
    rounds: ClassVar[int] = 1
    """How often a projector is killed twice, or paused, in one law."""

    @pytest.mark.processes
    @law(needs=("multi_process",), hang_limit=_LIMIT)
    async def test_views_are_right_however_often_the_projector_is_killed(
        self, store: Store, writers: Writers
    ) -> None:
        flood = await writers.start(Flood(name="flood", streams=[f"account-{n}" for n in range(4)], tasks=4))
        chance = random.Random(self.rounds)
        reached = 0
        for _ in range(2 * self.rounds):
            projector = await writers.start(Run(takeover_after=_QUICK.takeover_after))
            reached = await _gets_beyond(store, reached + chance.randint(1, 150))
            await projector.kill()
        await flood.kill()
        async with app.open(store, limits=_QUICK) as runtime:
            await views_are_right(runtime, store)

    @pytest.mark.processes
    @law(needs=("multi_process",), hang_limit=_LIMIT)
    async def test_a_paused_projector_that_wakes_after_it_was_replaced_changes_nothing(
        self, store: Store, writers: Writers
    ) -> None:
        if store.capabilities.stopped_writer_holds_lock:
            pytest.skip(f"{store.url} declares stopped_writer_holds_lock=True")
        flood = await writers.start(Flood(name="flood", streams=[f"account-{n}" for n in range(4)], tasks=4))
        reached = 0
        for _ in range(self.rounds):
            paused = await writers.start(Run(takeover_after=_QUICK.takeover_after))
            reached = await _gets_beyond(store, reached)
            paused.pause()
            async with app.open(store, limits=_QUICK) as runtime:
                await until(partial(_runs, runtime))
                reached = await _gets_beyond(store, reached)
                paused.resume()
                reached = await _gets_beyond(store, reached + 50)
                assert _state(runtime) == "running"
            await paused.stop()
        await flood.kill()
        async with app.open(store, limits=_QUICK) as runtime:
            await views_are_right(runtime, store)


class SubscriptionLaws(StoreUnderTest):
    @pytest.mark.processes
    @law(needs=("multi_process",), hang_limit=_LIMIT)
    async def test_no_event_is_missed_between_catching_up_and_living(
        self, store: Store, writers: Writers
    ) -> None:
        floods = [
            [Flood(name=f"writer {n}", streams=[f"account-{n}", "account-shared"], tasks=3, appends=25)]
            for n in range(2)
        ]
        writing = await writers.start_each(*floods)
        seen: list[str] = []
        async with app.open(store, consumers=False) as runtime:
            runtime.consumers.start()

            async def handler(envelope: EventEnvelope[Happened]) -> None:
                seen.append(envelope.id)

            runtime.subscribe("watch", handler)
            for writer in writing:
                await writer.told(ended=1)
            log = await log_events(store)
            await until(lambda: len(seen) >= len(log))
        assert seen == ids(log)
        for writer in writing:
            await writer.stop()

    @law()
    async def test_it_goes_on_where_it_was(self, store: Store) -> None:
        seen: list[int] = []

        async def handler(envelope: EventEnvelope[Happened]) -> None:
            seen.append(envelope.position)

        for _ in range(3):
            await fill(store, "account-1", 20, each=3)
            log = await log_events(store)
            async with app.open(store) as runtime:
                runtime.subscribe("watch", handler)
                await until(partial(_are, len(log), seen))
        assert seen == [event.position for event in await log_events(store)]

    @law()
    async def test_workers_keep_the_order_of_each_key(self, store: Store) -> None:
        seen: dict[str, list[int]] = {}

        async def handler(envelope: EventEnvelope[Happened]) -> None:
            await asyncio.sleep(0)
            seen.setdefault(envelope.stream, []).append(envelope.version)

        for n in range(7):
            await fill(store, f"account-{n}", 30, each=10)
        async with app.open(store) as runtime:
            subscribed = runtime.subscribe("watch", handler, workers=5)
            await until(lambda: subscribed.statistics().handled == 210)
        assert seen == {f"account-{n}": list(range(1, 31)) for n in range(7)}
        checkpoint = await store.load_checkpoint("watch")
        assert checkpoint is not None
        assert checkpoint.position == (await store.head()).position

    @law()
    async def test_a_filter_is_kept_and_the_place_moves_with_what_was_read(self, store: Store) -> None:
        seen: list[str] = []

        async def handler(envelopes: list[EventEnvelope[Happened]]) -> None:
            seen.extend(envelope.stream for envelope in envelopes)

        for n in range(3):
            await fill(store, f"account-{n}", 5)
        async with app.open(store) as runtime:
            runtime.subscribe("watch", handler, streams=["account-1"], batch=3)
            await until(lambda: len(seen) == 5)
        assert seen == ["account-1"] * 5
        checkpoint = await store.load_checkpoint("watch")
        assert checkpoint is not None
        assert checkpoint.position == (await store.head()).position

    @law()
    async def test_what_the_code_does_not_know_yet_is_left_to_newer_code_also_where_types_are_asked_for(
        self, store: Store
    ) -> None:
        """A process of an older version may have the name while newer ones write: what it passed over was lost."""
        seen: list[str] = []

        async def handler(envelope: EventEnvelope[Happened]) -> None:
            seen.append(envelope.type)

        types = ["Happened", "Undone", "Happened", "Happened@2", "Undone", "Happened"]
        await store.append("account-1", [event(type) for type in types], expected_version=0)
        watch = Subscription(name="watch", handler=handler, types=[Happened])
        async with App(aggregates=[_account()], subscriptions=[watch]).open(store) as older:
            await until(lambda: _state(older) == "stopped")
        assert seen == ["Happened"] * 2
        async with App(aggregates=[_account(revisions=2)], subscriptions=[watch]).open(store):
            await until(lambda: len(seen) == 4)
        assert seen == ["Happened", "Happened", "Happened@2", "Happened"]


class ConsumerConformance(
    ProjectionLaws, ProjectorLaws, ProjectionProcessLaws, SubscriptionLaws, ProcessManagerLaws
):
    """Every law of consumers. A subclass says with the fixture `url` where a fresh store is."""


async def views_are_right(
    runtime: Runtime,
    store: Store,
    log: Sequence[StoredEvent] | None = None,
    *,
    of: Projection[Chain, Happened] = projection,
) -> None:
    """Wait for the projection to be at the end of the log, and compare its views with the fold of all events."""
    log = await log_events(store) if log is None else log
    views = await runtime.views(of, at_least=(await store.head()).position, timeout=30)
    expected = chains_of(log)
    assert dict(views) == expected
    assert await runtime.view(of, "all") == expected["all"]


async def _of_accounts(store: Store) -> list[StoredEvent]:
    return [event for event in await log_events(store) if event.stream.startswith("account-")]


@dataclass(frozen=True, slots=True)
class Undone:
    """What nobody asks for."""


def _account(*, revisions: int = 1) -> Aggregate[int, Happen, Happened | Undone]:
    """As the code of some version has it."""
    return Aggregate(
        name="account",
        initial=0,
        decide=account.decide,
        evolve=lambda count, _: count + 1,
        commands=Happen,
        events=Happened | Undone,
        codec=JsonCodec(Happened | Undone, upcasters={"Happened": [_as_it_was] * (revisions - 1)}),
    )


def _as_it_was(fields: dict[str, Any]) -> dict[str, Any]:
    return fields


def _runs(runtime: Runtime) -> bool:
    return _state(runtime) == "running"


def _are(count: int, seen: list[int]) -> bool:
    return len(seen) >= count


def _state(runtime: Runtime) -> str:
    return runtime.statistics().consumers[0].state


async def _gets_beyond(store: Store, position: int) -> int:
    """Wait until the checkpoint of the projection is behind a position; where it is then."""
    while True:
        checkpoint = await store.load_checkpoint(projection.consumer)
        if checkpoint is not None and checkpoint.position > position:
            return checkpoint.position
        await asyncio.sleep(0.01)
