"""A limit on how long a store may take, on the clock of the runtime."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from rehydrate.clock import Clock
from rehydrate.errors import StoreUnavailableError

T = TypeVar("T")


async def within(clock: Clock, seconds: float, work: Awaitable[T], what: str) -> T:
    """Wait for it, and no longer than that.

    Raises `StoreUnavailableError` when the time is up; a cancellation from outside stays one.
    """
    task = asyncio.current_task()
    assert task is not None
    is_late, cancelled_before = False, task.cancelling()

    def give_up() -> None:
        nonlocal is_late
        is_late = True
        task.cancel()

    timer = clock.call_later(seconds, give_up)
    try:
        return await work
    except asyncio.CancelledError:
        # As many at once as there are: where the time of whoever waits for this is up as well, that counts.
        if not is_late or task.uncancel() > cancelled_before:
            raise
        raise StoreUnavailableError(f"{what} in {seconds:g} s; try again") from None
    finally:
        timer.cancel()
