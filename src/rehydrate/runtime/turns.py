"""Fairness: dispatches that never suspend must not keep the event loop from everybody else."""

from __future__ import annotations

import asyncio
from collections import deque

from rehydrate.runtime.limits import TURN_DISPATCHES

_CALLERS = 4
"""How many of those who wait share a round: a wake-up for every fifteenth dispatch costs little."""
_ROUND = TURN_DISPATCHES - _CALLERS
"""Whoever is served may be back from a dispatch that had to suspend, which is one more in that turn."""
_UNWATCHED = 4
"""Dispatches before a round begins. On a store that has to be waited for hardly any completes without suspending, and a look
that finds nothing costs a turn of the loop, in which the store's thread waits for the interpreter's lock."""


class Turns:
    """Lets at most 64 dispatches complete without suspending between two turns of the event loop.

    On a store that answers at once `await dispatch(...)` runs to its end without giving way, so a loop of it would
    starve timers and sockets. The hot path looks at two numbers: once `at_once` has come to `until`, a caller must `wait`.
    Those who wait are served in their order, a few dispatches each, so none of them starves another.

    A look at them in each turn begins a round. Whom it wakes runs in the next turn, before the next look, and until then nobody
    else does. Where nobody waits, what is left of this turn and the next may have what was left of a round since the last look.
    """

    __slots__ = ("_is_scheduled", "_looked_at", "_loop", "_waiting", "_without_result", "at_once", "until")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._is_scheduled = False
        self._waiting: deque[asyncio.Future[int]] = deque()
        self.at_once = 0
        """Commands that had their result in the stack of their caller."""
        self.until = _UNWATCHED
        """Where `at_once` ends the round, or what is not watched where no round has begun."""
        self._without_result = 0
        self._looked_at = 0
        """How many dispatches of both kinds there had been at the last look."""

    def completed(self) -> None:
        """A dispatch completed without suspending, and without a result."""
        self._without_result += 1
        self.until -= 1

    async def wait(self) -> None:
        """Give way until it is this caller's turn; at once, if it is the first in this turn of the loop."""
        if not self._is_scheduled:
            self._begin_round(_ROUND - _UNWATCHED)
            return
        waiting: asyncio.Future[int] = self._loop.create_future()
        self._waiting.append(waiting)
        share = await waiting
        self.until = self.at_once + share

    def _begin_round(self, dispatches: int) -> None:
        self.until = self.at_once + dispatches
        self._looked_at = self.at_once + self._without_result
        # In this order: the call fails where the stack has no room.
        self._loop.call_soon(self._look)
        self._is_scheduled = True

    def _look(self) -> None:
        served: list[asyncio.Future[int]] = []
        while self._waiting and len(served) < _CALLERS:
            waiting = self._waiting.popleft()
            if not waiting.done():
                served.append(waiting)
        for waiting in served:
            waiting.set_result(_ROUND // len(served))
        completed = self.at_once + self._without_result - self._looked_at
        if served:
            # Whoever is served may be cancelled before it goes on: the next round must not depend on it.
            self._begin_round(0)
        elif completed:
            self._begin_round(_ROUND - completed)
        else:
            self._is_scheduled = False
            self.until = self.at_once + _UNWATCHED
