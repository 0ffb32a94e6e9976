"""The fence for answers that append nothing: is the version they were decided on still the stream's?"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, Any

from rehydrate.errors import StoreUnavailableError
from rehydrate.runtime.limits import WORK_SLICE
from rehydrate.runtime.rehydration import as_rehydrate_error

if TYPE_CHECKING:
    from rehydrate.runtime.actor import AggregateActor
    from rehydrate.runtime.manager import AggregateManager

_SLICE = 64
"""Actors that go on between two turns of the event loop, if they have little to do."""


class Freshness:
    """Asks the store for the versions of streams, for all actors together that want to know at the time."""

    __slots__ = ("_asking", "_is_running", "_manager")

    def __init__(self, manager: AggregateManager) -> None:
        self._manager = manager
        self._asking: list[AggregateActor[Any, Any, Any]] = []
        self._is_running = False

    def ask(self, actor: AggregateActor[Any, Any, Any]) -> None:
        """Have `actor.checked` or `actor.check_failed` called, never from within this call."""
        self._asking.append(actor)
        if not self._is_running:
            self._is_running = True
            self._manager.spawn(self._run())

    async def _run(self) -> None:
        count = 0
        try:
            while self._asking:
                actors, self._asking = self._asking, []
                try:
                    versions = await self._versions([actor.stream for actor in actors])
                except Exception as error:  # noqa: BLE001 - whoever asked must hear of it
                    for actor in actors:
                        actor.check_failed(as_rehydrate_error(error))
                    continue
                began = perf_counter()
                for actor, version in zip(actors, versions, strict=True):
                    actor.checked(version)
                    count += 1
                    if count == _SLICE or perf_counter() - began > WORK_SLICE:
                        await asyncio.sleep(0)
                        count, began = 0, perf_counter()
        finally:
            self._is_running = False

    async def _versions(self, streams: list[str]) -> list[int]:
        """One question, within the budget of a read: a store that never answers must not hold up all who ask later."""
        manager, task = self._manager, asyncio.current_task()
        seconds = manager.limits.recovery_timeout
        is_late = False

        def give_up() -> None:
            nonlocal is_late
            is_late = True
            assert task is not None
            task.cancel()

        budget = manager.clock.call_later(seconds, give_up)
        try:
            return await manager.store.versions(streams)
        except asyncio.CancelledError:
            if not is_late:
                raise
            raise StoreUnavailableError(f"the store did not tell its versions in {seconds} s; try again") from None
        finally:
            budget.cancel()
