"""A limit on how long a store may take: it ends the wait, and nothing else is taken for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from rehydrate import StoreUnavailableError
from rehydrate.clock import SystemClock, Timer
from rehydrate.runtime.budget import within
from rehydrate.testing.clock import settle


class AllAtOnce(SystemClock):
    """The clock of a process that stood still for long: whatever was to come is due when it goes on."""

    def __init__(self) -> None:
        self.due: list[Callable[[], object]] = []

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        self.due.append(callback)
        return asyncio.get_running_loop().call_later(3_600, callback)

    def ring(self) -> None:
        for callback in self.due:
            callback()


async def _hang() -> None:
    await asyncio.Event().wait()


async def _snapshot_and_events(clock: AllAtOnce) -> None:
    try:
        await within(clock, 1, _hang(), "the snapshot did not come")
    except StoreUnavailableError:
        # Events are enough.
        await _hang()


async def test_of_two_limits_that_pass_at_once_the_longer_one_is_not_forgotten() -> None:
    clock = AllAtOnce()
    work = _snapshot_and_events(clock)
    reading = asyncio.create_task(within(clock, 4, work, "the stream did not come"))
    await settle()
    clock.ring()
    with pytest.raises(StoreUnavailableError, match="the stream"):
        await reading


async def test_a_cancellation_that_meets_the_end_of_the_time_stays_one() -> None:
    clock = AllAtOnce()
    reading = asyncio.create_task(within(clock, 4, _hang(), "the stream did not come"))
    await settle()
    clock.ring()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
