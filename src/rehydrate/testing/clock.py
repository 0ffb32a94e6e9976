"""Time that a test moves by hand, and waiting without sleeping.

```python
clock = FakeClock()
async with app.open("memory://", clock=clock) as bank:
    await bank.dispatch(account, "ada", Deposit(100))
    await clock.advance(301)  # the actor was passivated: its timer came due
```
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import math
import time
from collections import deque
from collections.abc import Callable
from weakref import WeakKeyDictionary

from rehydrate.clock import Timer

HANG_LIMIT = 30.0
"""Real seconds after which a condition that does not come true is taken for a hang."""
_TURNS = 100
"""How often to yield to an event loop that does not show what it has ready."""
_BUSY = 5.0
"""Real seconds for which a loop that never rests may keep somebody from looking at his condition again."""
_settling: WeakKeyDictionary[asyncio.AbstractEventLoop, int] = WeakKeyDictionary()
"""How many tasks of a loop let it settle."""


class FakeClock:
    """A `rehydrate.clock.Clock` that stands still until `advance`.

    It counts whole nanoseconds, so that twenty times 0.05 seconds is one second.
    """

    def __init__(self, *, monotonic: float = 1_000.0, wall: int = 1_700_000_000_000_000) -> None:
        self._now = round(monotonic * 1e9)
        self._wall_ahead = wall * 1_000 - self._now
        self._timers: list[_FakeTimer] = []
        self._made = 0
        self._failure: Exception | None = None

    def monotonic(self) -> float:
        return self._now / 1e9

    def wall(self) -> int:
        return (self._now + self._wall_ahead) // 1_000

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        self._made += 1
        timer = _FakeTimer(self._now + max(0, round(seconds * 1e9)), self._made, callback)
        heapq.heappush(self._timers, timer)
        return timer

    @property
    def timers(self) -> int:
        """How many timers are set."""
        return sum(1 for timer in self._timers if not timer.cancelled)

    async def advance(self, seconds: float) -> None:
        """Let that much time pass.

        The timers that come due fire in order, each at its own moment, and after each the event loop runs until
        it has nothing left to do. What a timer's callback raises is raised here.
        """
        until_then = self._now + round(seconds * 1e9)
        await settle()
        while self._timers and self._timers[0].due <= until_then:
            timer = heapq.heappop(self._timers)
            if timer.cancelled:
                continue
            self._now = max(self._now, timer.due)
            asyncio.get_running_loop().call_soon(self._fire, timer, context=timer.context)
            await settle()
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
        self._now = max(self._now, until_then)

    def set_wall(self, microseconds: int) -> None:
        """Set the time of day alone, as a correction of the machine's clock does; no timer notices."""
        self._wall_ahead = microseconds * 1_000 - self._now

    def _fire(self, timer: _FakeTimer) -> None:
        try:
            timer.callback()
        except Exception as failure:  # noqa: BLE001 - an event loop would only log it
            self._failure = failure


class _FakeTimer:
    __slots__ = ("callback", "cancelled", "context", "due", "made")

    def __init__(self, due: int, made: int, callback: Callable[[], object]) -> None:
        self.due = due
        self.made = made
        self.callback = callback
        self.context = contextvars.copy_context()
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def __lt__(self, other: _FakeTimer) -> bool:
        return (self.due, self.made) < (other.due, other.made)


async def settle() -> None:
    """Let the event loop run until it has nothing left to do at once.

    What waits for a thread, a socket or real time is not waited for: that is `until`. Nor is anybody who settles at the
    same time, and what he does afterwards.
    """
    await _settle(math.inf)


async def until(condition: Callable[[], object], *, hang_limit: float = HANG_LIMIT) -> None:
    """Let the event loop run until the condition holds.

    Real time passes only when the loop has nothing to do and the condition waits for a thread or a socket.

    Raises:
        TimeoutError: the condition did not come true within `hang_limit` real seconds.
    """
    give_up = time.monotonic() + hang_limit
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError(f"the condition did not come true in {hang_limit:g} s: {condition}")
        await _settle(min(time.monotonic() + _BUSY, give_up))
        if not condition():
            await asyncio.sleep(0.001)


async def _settle(give_up: float) -> None:
    """Until the loop has nothing left to do, or that moment of `time.monotonic` has passed."""
    loop = asyncio.get_running_loop()
    ready: deque[object] | None = getattr(loop, "_ready", None)
    if ready is None:
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        return
    _settling[loop] = _settling.get(loop, 0) + 1
    try:
        quiet = 0
        # Twice: in the first quiet turn the loop may have picked up what a socket or a thread had handed in.
        while quiet < 2 and time.monotonic() < give_up:
            await asyncio.sleep(0)
            # Whoever else does this is ready at any time.
            quiet = 0 if len(ready) >= _settling[loop] else quiet + 1
    finally:
        _settling[loop] -= 1
