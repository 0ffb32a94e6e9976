"""An alarm that may ring for each of many things in a row, on one timer: one for each would cost more than it is worth."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Alarm:
    """Rings once if what has begun has not ended after so many seconds."""

    def __init__(self, after: float, ring: Callable[[], object]) -> None:
        self._after = after
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._began: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        self._began = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(self._after, self._look)

    def end(self) -> None:
        """The timer goes on, for what begins next."""
        self._began = None

    def close(self) -> None:
        """Never ring again."""
        self._began = None
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        if self._began is None:
            return
        left = self._began + self._after - self._loop.time()
        if left > 0:
            # What it was set for has ended, and this has begun later.
            self._timer = self._loop.call_later(left, self._look)
        else:
            self._ring()
