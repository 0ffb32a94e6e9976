"""Stores whose user dies at one of its writes, or stands still there, as a process that is killed or paused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from rehydrate.errors import StoreClosedError, StoreError
from rehydrate.runtime.claim import CLAIM
from rehydrate.store.port import Appended, AppendWaiter, Checkpoint, NewEvent, Store, ViewChange


class MortalStore:
    """Counts two steps at each write, one before it and one when it is acknowledged, and ends at the step `at`.

    From then on no call gets through. `die` is what happens besides; to kill this very process, for example. With
    `of`, only appends of that type of event are counted. Signs of life of the holder of a name are no steps: they come
    by time, and not by what is done.
    """

    def __init__(
        self, store: Store, at: int, die: Callable[[], object] = lambda: None, *, of: str = ""
    ) -> None:
        self.is_dead = False
        self._store = store
        self._left = at
        self._die = die
        self._of = of

    def __getattr__(self, name: str) -> Any:
        if self.is_dead:
            raise _dead()
        return getattr(self._store, name)

    def submit(
        self,
        stream: str,
        events: Sequence[NewEvent],
        expected_version: int,
        waiter: AppendWaiter,
        last_id: str = "",
        last_position: int = 0,
    ) -> Appended | StoreError | None:
        is_step = not self._of or any(event.type == self._of for event in events)
        if self._is_the_end(is_step=is_step):
            return _dead()
        waiting = _Waiter(self, waiter, is_step=is_step)
        outcome = self._store.submit(stream, events, expected_version, waiting, last_id, last_position)
        return outcome if outcome is None else self.answer(outcome, is_step=is_step)

    def answer(self, outcome: Appended | StoreError, *, is_step: bool) -> Appended | StoreError:
        """What the user hears of an append that ended so."""
        return _dead() if self._is_the_end(is_step=is_step) else outcome

    async def save_checkpoint(
        self, checkpoint: Checkpoint, *, previous: Checkpoint | None, views: Sequence[ViewChange] = ()
    ) -> bool:
        is_step = not self._of and not checkpoint.name.startswith(CLAIM)
        if self._is_the_end(is_step=is_step):
            raise _dead()
        saved = await self._store.save_checkpoint(checkpoint, previous=previous, views=views)
        if self._is_the_end(is_step=is_step):
            raise _dead()
        return saved

    def kill(self) -> None:
        """Let the user die now."""
        self.is_dead = True
        self._die()

    def _is_the_end(self, *, is_step: bool) -> bool:
        """Whether the user is dead, perhaps since this step."""
        self._left -= is_step
        if self._left == 0 and not self.is_dead:
            self.kill()
        return self.is_dead


class SleepingStore:
    """Its user stands still before one of its saves that change views: no call gets through until it is woken."""

    def __init__(self, store: Store, at: int) -> None:
        self._store = store
        self._left = at
        self._awake = asyncio.Event()
        self._awake.set()

    @property
    def is_asleep(self) -> bool:
        return not self._awake.is_set()

    def wake(self) -> None:
        self._awake.set()

    def __getattr__(self, name: str) -> Any:
        found: Any = getattr(self._store, name)
        return self._late(found) if callable(found) else found

    async def save_checkpoint(
        self, checkpoint: Checkpoint, *, previous: Checkpoint | None, views: Sequence[ViewChange] = ()
    ) -> bool:
        self._left -= bool(views)
        if self._left == 0 and views:
            self._awake.clear()
        await self._awake.wait()
        return await self._store.save_checkpoint(checkpoint, previous=previous, views=views)

    def _late(self, call: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        async def called(*given: Any, **others: Any) -> Any:
            await self._awake.wait()
            return await call(*given, **others)

        return called


class _Waiter:
    __slots__ = ("_is_step", "_store", "_waiter")

    def __init__(self, store: MortalStore, waiter: AppendWaiter, *, is_step: bool) -> None:
        self._store = store
        self._waiter = waiter
        self._is_step = is_step

    def append_done(self, outcome: Appended | StoreError) -> None:
        self._waiter.append_done(self._store.answer(outcome, is_step=self._is_step))


def _dead() -> StoreClosedError:
    return StoreClosedError("whoever asks this is dead")
