"""Between a runtime and the world: what counts the calls under way, and what a runtime is killed by in one process."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from rehydrate.clock import Clock, Timer
from rehydrate.errors import StoreError
from rehydrate.store.port import Appended, AppendWaiter, NewEvent, Store


class Wire:
    """Passes every call on to a store; a `Store` for whoever holds it.

    Once it is cut nothing goes through any more and no answer comes back, as for a process that was killed. What has
    gone through already runs its course.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.under_way = 0
        """Calls that have not been answered."""
        self.is_cut = False
        self.rivals = 0
        """How many of the next appends somebody else comes before."""
        self.be_faster: Callable[[Store, str, int], None] = _nobody_is
        """What that one does."""

    def submit(
        self,
        stream: str,
        events: Sequence[NewEvent],
        expected_version: int,
        waiter: AppendWaiter,
        last_id: str = "",
        last_position: int = 0,
    ) -> Appended | StoreError | None:
        if self.is_cut:
            return None
        if self.rivals > 0:
            self.rivals -= 1
            self.be_faster(self._store, stream, expected_version)
        outcome = self._store.submit(
            stream, events, expected_version, _Passed(self, waiter), last_id, last_position
        )
        self.under_way += outcome is None
        return outcome

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._store, name)
        return self._passed(attribute) if inspect.iscoroutinefunction(attribute) else attribute

    def _passed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            await self._stop_if_cut()
            self.under_way += 1
            result, failure = None, None
            try:
                result = await method(*args, **kwargs)
            except StoreError as error:
                failure = error
            finally:
                self.under_way -= 1
            await self._stop_if_cut()
            if failure is not None:
                raise failure
            return result

        return call

    async def _stop_if_cut(self) -> None:
        if self.is_cut:
            await asyncio.get_running_loop().create_future()


def _nobody_is(store: Store, stream: str, expected_version: int) -> None:
    pass


class _Passed:
    def __init__(self, wire: Wire, waiter: AppendWaiter) -> None:
        self._wire = wire
        self._waiter = waiter

    def append_done(self, outcome: Appended | StoreError) -> None:
        self._wire.under_way -= 1
        if not self._wire.is_cut:
            self._waiter.append_done(outcome)


class MortalClock:
    """A clock whose timers never fire once it is dead."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.is_dead = False
        self.monotonic = clock.monotonic
        self.wall = clock.wall

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        return self._clock.call_later(seconds, lambda: None if self.is_dead else callback())
