"""Time and ids: the two things that pure code cannot have, as values that a test can replace."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator
from functools import cache
from itertools import chain
from time import monotonic, time_ns
from typing import Final, Protocol


class Timer(Protocol):
    """A callback that is yet to come."""

    def cancel(self) -> None:
        """Make it never come."""
        ...


class Clock(Protocol):
    """Where a runtime takes its time from; `rehydrate.testing.FakeClock` is one that a test moves by hand."""

    def monotonic(self) -> float:
        """Seconds that never run backwards: for time-outs and idleness."""
        ...

    def wall(self) -> int:
        """Microseconds since 1970, UTC: for what people read, never for order."""
        ...

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call back on the running event loop after that many seconds."""
        ...


class SystemClock:
    """The clock of the machine."""

    __slots__ = ()

    monotonic = staticmethod(monotonic)

    def wall(self) -> int:
        return time_ns() // 1_000

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        return asyncio.get_running_loop().call_later(seconds, callback)


NewId = Callable[[], str]
"""Makes an id that nobody else makes: the ids of events, and of commands whose caller gave none."""


_SUFFIXES: Final = tuple(f"{n:02x}" for n in range(1 << 8))
"""Few enough to stay in the cache of the processor."""


def unique_ids() -> NewId:
    """Ids of 32 hex digits in the layout of UUID version 7: 48 bits of time, then random bits and a counter.

    Time and random bits are drawn afresh for each block of 256 ids and a counter tells the ids of a block apart,
    which costs a tenth of `uuid.uuid4()`. Source: RFC 9562, section 6.2, method 1.
    """
    return chain.from_iterable(map(head.__add__, _SUFFIXES) for head in _heads()).__next__


def unique_bytes(before: str, after: str) -> Iterator[bytes]:
    """The same ids, each as bytes between two texts."""
    ends = _ends(after)
    return chain.from_iterable(map(f"{before}{head}".encode().__add__, ends) for head in _heads())


@cache
def _ends(after: str) -> tuple[bytes, ...]:
    return tuple(f"{suffix}{after}".encode() for suffix in _SUFFIXES)


def _heads() -> Iterator[str]:
    """What the ids of a block begin with."""
    while True:
        now = time_ns() // 1_000_000
        low = secrets.randbits(66)
        yield f"{now & 0xFFFFFFFFFFFF:012x}7{low & 0xFFF:03x}{0x8000 | (low >> 12) & 0x3FFF:04x}{low >> 26:010x}"
