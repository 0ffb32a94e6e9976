"""The fence for answers that append nothing: is the version they were decided on still the stream's?"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, Any

from rehydrate.errors import StoreUnavailableError
from rehydrate.runtime.budget import within
from rehydrate.runtime.limits import WORK_SLICE
from rehydrate.runtime.rehydration import as_rehydrate_error

if TYPE_CHECKING:
    from rehydrate.runtime.actor import AggregateActor
    from rehydrate.runtime.manager import AggregateManager

_SLICE = 64
"""Actors that go on between two turns of the event loop, if they have little to do."""


class Freshness:
    """Asks the store where streams end, for all actors together that want to know at the time."""

    __slots__ = ("_asked", "_asking", "_is_running", "_manager")

    def __init__(self, manager: AggregateManager) -> None:
        self._manager = manager
        self._asking: list[AggregateActor[Any, Any, Any]] = []
        self._asked: list[AggregateActor[Any, Any, Any]] = []
        """Those whom the question under way is of."""
        self._is_running = False

    def ask(self, actor: AggregateActor[Any, Any, Any]) -> None:
        """Have `actor.checked` or `actor.check_failed` called, never from within this call."""
        self._asking.append(actor)
        if not self._is_running:
            # Before the task is made: where tasks begin at once, this one may be over by the time that it is.
            self._is_running = True
            try:
                self._manager.spawn(self._run(), self._cut_off)
            except BaseException:
                self._is_running = False
                raise

    async def _run(self) -> None:
        manager = self._manager
        count = 0
        while self._asking:
            actors, self._asking = self._asking, []
            self._asked = actors
            try:
                ends = await within(
                    manager.clock,
                    manager.limits.recovery_timeout,
                    manager.store.ends([actor.stream for actor in actors]),
                    "the store did not tell where streams end",
                )
            except Exception as error:  # noqa: BLE001 - whoever asked must hear of it
                for actor in actors:
                    actor.check_failed(as_rehydrate_error(error))
                continue
            began = perf_counter()
            for actor, end in zip(actors, ends, strict=True):
                try:
                    actor.checked(end)
                except Exception as error:  # noqa: BLE001 - the others must hear of theirs
                    actor.recovery_failed(as_rehydrate_error(error))
                count += 1
                if count == _SLICE or perf_counter() - began > WORK_SLICE:
                    await asyncio.sleep(0)
                    count, began = 0, perf_counter()
        self._asked = []
        self._is_running = False

    def _cut_off(self) -> None:
        """Nobody will be told any more. Whoever has been by now has nothing to ask, or asks anew and is among them once."""
        actors = dict.fromkeys([*self._asked, *self._asking])
        self._asked, self._asking = [], []
        self._is_running = False
        for actor in actors:
            actor.check_failed(
                StoreUnavailableError(f"{actor.stream}: asking where it ends was cut off; try again")
            )
