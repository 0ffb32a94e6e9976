"""Laws of projectors that end or stand still, on stores of one process: there a process is played by a runtime.

On other stores real processes are killed and paused: `consumers`.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from rehydrate.runtime.runtime import Runtime
from rehydrate.store.port import Store
from rehydrate.testing.clock import FakeClock
from rehydrate.testing.conformance.law import law
from rehydrate.testing.conformance.material import fill, log_events
from rehydrate.testing.conformance.mortal import MortalStore, SleepingStore
from rehydrate.testing.conformance.read_models import app, chains_of, projection
from rehydrate.testing.conformance.under_test import StoreUnderTest


class ProjectorLaws(StoreUnderTest):
    @law(lacks=("multi_process",))
    async def test_views_are_right_though_the_projector_ends_at_each_of_its_writes(
        self, store: Store
    ) -> None:
        clock = FakeClock()
        at = 0
        for at in count(1):
            await _happen(store)
            mortal: Any = MortalStore(store, at)
            async with app.open(mortal, clock=clock) as runtime:
                await _catch_up(runtime, store, clock, mortal)
            if not mortal.is_dead:
                break
            # Who goes on has more to do than the one before, and reads other pages.
            await _happen(store)
            async with app.open(store, clock=clock) as runtime:
                await _catch_up(runtime, store, clock)
                await _are_right(runtime, store)
        assert at > 3

    @law(lacks=("multi_process",))
    async def test_a_projector_that_wakes_after_it_was_replaced_has_changed_nothing(
        self, store: Store
    ) -> None:
        clock = FakeClock()
        for at in (1, 2):
            await _happen(store)
            sleeping: Any = SleepingStore(store, at)
            async with app.open(sleeping, clock=clock) as paused:
                while not sleeping.is_asleep:
                    await clock.advance(1)
                    await _happen(store)
                async with app.open(store, clock=clock) as runtime:
                    await _catch_up(runtime, store, clock)
                    sleeping.wake()
                    await clock.advance(1)
                    await _are_right(runtime, store)
                    assert paused.statistics().consumers[0].state == "waiting"
                    await _happen(store)
                    await _catch_up(runtime, store, clock)
                    await _are_right(runtime, store)


async def _happen(store: Store) -> None:
    for n in range(3):
        await fill(store, f"account-{n}", 5)


async def _catch_up(
    runtime: Runtime, store: Store, clock: FakeClock, mortal: MortalStore | None = None
) -> None:
    """Let time pass until all that is stored is folded, or the projector is dead."""
    while runtime.statistics().consumers[0].position < (await store.head()).position:
        if mortal is not None and mortal.is_dead:
            return
        await clock.advance(1)


async def _are_right(runtime: Runtime, store: Store) -> None:
    assert dict(await runtime.views(projection)) == chains_of(await log_events(store))
