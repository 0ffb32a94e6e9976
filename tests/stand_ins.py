"""What the tests of the runtime stand on: a bank over a store with faults, and stores that turn against it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from rehydrate import App, Limits, Runtime, StoreError, open_store
from rehydrate.store.port import (
    PAGE_SIZE,
    Appended,
    AppendWaiter,
    NewEvent,
    SnapshotStore,
    Store,
    StoredEvent,
    StreamPage,
)
from rehydrate.testing.clock import FakeClock, settle
from rehydrate.testing.faults import FaultyStore, Script
from tests.bank import app

T = TypeVar("T")

SHARED = "memory://shared"
"""A store that others may write to as well."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A bank on a store with faults, under a clock that the test moves."""

    bank: Runtime
    store: FaultyStore
    script: Script
    clock: FakeClock

    async def in_time(self, work: Awaitable[T], seconds: float = 60.0) -> T:
        """Let time pass until that is done."""
        task = asyncio.ensure_future(work)
        end = self.clock.monotonic() + seconds
        await settle()
        while not task.done() and self.clock.monotonic() < end:
            await self.clock.advance(0.05)
        assert task.done(), f"it is not done after {seconds} s"
        return await task


@asynccontextmanager
async def staged(
    where: str | Store = "memory://",
    *,
    of: App = app,
    limits: Limits | None = None,
    snapshots: SnapshotStore | None = None,
) -> AsyncGenerator[Stage]:
    """A bank on a store of its own, which is closed at the end, whatever hangs there by then."""
    clock = FakeClock()
    behind = await open_store(where, clock=clock) if isinstance(where, str) else where
    store = FaultyStore(behind, script := Script(), clock)
    try:
        async with of.open(store, clock=clock, limits=limits, snapshots=snapshots) as bank:
            stage = Stage(bank, store, script, clock)
            try:
                yield stage
            finally:
                store.release()
                await stage.in_time(bank.close())
    finally:
        await store.close()


class Exchangeable:
    """A store behind which another one can be put, as if it had been restored from a copy."""

    def __init__(self, behind: Store) -> None:
        self.behind = behind

    def __getattr__(self, name: str) -> Any:
        return getattr(self.behind, name)

    @property
    def as_store(self) -> Store:
        return cast(Store, self)


class Rival(Exchangeable):
    """Somebody else who is faster: before each of so many appends comes one of theirs."""

    def __init__(self, behind: Store, *, wins: int = 0) -> None:
        super().__init__(behind)
        self.wins = wins
        self.sizes: list[int] = []
        """How many events each append had that was tried."""
        self._made = 0

    def submit(
        self,
        stream: str,
        events: Sequence[NewEvent],
        expected_version: int,
        waiter: AppendWaiter,
        last_id: str = "",
        last_position: int = 0,
    ) -> Appended | StoreError | None:
        self.sizes.append(len(events))
        if self.wins > 0:
            self.wins -= 1
            self._made += 1
            self.behind.submit(stream, [deposited(f"theirs-{self._made}")], expected_version, waiter)
        return self.behind.submit(stream, events, expected_version, waiter, last_id, last_position)


class Stale(Exchangeable):
    """A store whose reads lag behind: so many of them show nothing new."""

    lags = 0

    async def read_stream(
        self,
        stream: str,
        *,
        after: int = 0,
        limit: int = PAGE_SIZE,
        near: int | None = None,
        may_lag: bool = False,
    ) -> StreamPage:
        if self.lags > 0:
            self.lags -= 1
            return StreamPage([], is_last=True)
        return await self.behind.read_stream(stream, after=after, limit=limit, near=near, may_lag=may_lag)


def deposited(id: str, amount: int = 1) -> NewEvent:
    """An event that somebody else appends."""
    return NewEvent(id, "Deposited", b'{"amount":%d}' % amount)


async def copy_of(store: Store, *, until: int) -> Store:
    """A store of its own that holds the events up to a position."""
    copy = await open_store("memory://")
    page = await store.read_all(limit=until) if until else None
    for event in page.events if page else ():
        await copy.append(event.stream, [_again(event)], expected_version=event.version - 1)
    return copy


def _again(event: StoredEvent) -> NewEvent:
    return NewEvent(event.id, event.type, event.data, event.metadata, event.recorded_at)


class LoopTurns:
    """Counts the turns of the event loop, and what is done in each."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.now = 0
        self.done: list[int] = [0]
        """For each turn so far."""
        self._next = self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self.now += 1
        self.done.append(0)
        self._next = self._loop.call_soon(self._turn)

    def note(self) -> None:
        """Something was done."""
        self.done[-1] += 1

    def stop(self) -> None:
        self._next.cancel()
