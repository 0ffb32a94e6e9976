"""Fairness: dispatches that never suspend must not keep the event loop from everybody else."""

from __future__ import annotations

import asyncio
from collections import deque

from rehydrate.runtime.limits import TURN_DISPATCHES

# A round may end anywhere in a turn of the loop, so a turn sees the rest of one and the whole of the next.
_ROUND = TURN_DISPATCHES // 2
_CALLERS = 4
"""How many of those who wait share a round: a wake-up for every eighth dispatch costs little."""


class Turns:
    """Lets at most 64 dispatches complete without suspending between two turns of the event loop.

    On a store that answers at once `await dispatch(...)` runs to its end without giving way, so a loop of it would
    starve timers and sockets. The hot path looks at two numbers: once `at_once` has come to `until`, a caller must `wait`.
    Those who wait are served in their order, a few dispatches each, so none of them starves another.
    """

    __slots__ = ("_is_scheduled", "_loop", "_waiting", "at_once", "until")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._is_scheduled = False
        self._waiting: deque[asyncio.Future[int]] = deque()
        self.at_once = 0
        """Commands that had their result in the stack of their caller."""
        self.until = 0
        """Where `at_once` ends the round; there already where no round has begun."""

    def completed(self) -> None:
        """A dispatch completed without suspending, and without a result."""
        self.until -= 1

    async def wait(self) -> None:
        """Give way until it is this caller's turn; at once, if it is the first in this turn of the loop."""
        if not self._is_scheduled:
            self._schedule()
            self.until = self.at_once + _ROUND
            return
        waiting: asyncio.Future[int] = self._loop.create_future()
        self._waiting.append(waiting)
        share = await waiting
        self.until = self.at_once + share

    def _schedule(self) -> None:
        self._is_scheduled = True
        self._loop.call_soon(self._begin_round)

    def _begin_round(self) -> None:
        self._is_scheduled = False
        served: list[asyncio.Future[int]] = []
        while self._waiting and len(served) < _CALLERS:
            waiting = self._waiting.popleft()
            if not waiting.done():
                served.append(waiting)
        self.until = self.at_once
        if not served:
            return
        for waiting in served:
            waiting.set_result(_ROUND // len(served))
        # Whoever is served may be cancelled before it goes on: the next round must not depend on it.
        self._schedule()
