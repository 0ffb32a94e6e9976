"""Clocks that are wrong: hours ahead or behind, set again and again, and running too fast or too slow."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from rehydrate.clock import SystemClock, Timer


class Skew(msgspec.Struct, frozen=True, kw_only=True):
    """How wrong a clock is."""

    ahead: float = 0.0
    """Seconds that the time of day is ahead of the right one; behind it where negative."""
    jumps_every: float = 0.0
    """Seconds after which the time of day jumps to as much on the other side, and again back."""
    rate: float = 1.0
    """Seconds that pass for it in a second."""


class SkewedClock:
    """A `rehydrate.clock.Clock` that is as wrong as it is told to be."""

    def __init__(self, skew: Skew) -> None:
        self._skew = skew
        self._right = SystemClock()
        self._began = time.monotonic()

    def monotonic(self) -> float:
        return self._began + (time.monotonic() - self._began) * self._skew.rate

    def wall(self) -> int:
        skew = self._skew
        has_jumped = skew.jumps_every and (time.monotonic() - self._began) // skew.jumps_every % 2
        ahead = -skew.ahead if has_jumped else skew.ahead
        return self._right.wall() + round(ahead * 1e6)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        return self._right.call_later(seconds / self._skew.rate, callback)
