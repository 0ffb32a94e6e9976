"""A wrong clock is as wrong as it is said to be."""

from __future__ import annotations

import asyncio
import time

from tests.faults.cluster.skew import Skew, SkewedClock

HOUR = 3_600.0


def test_the_time_of_day_is_ahead_or_behind() -> None:
    for ahead in (HOUR, -HOUR):
        wall = SkewedClock(Skew(ahead=ahead)).wall() / 1e6
        assert abs(wall - time.time() - ahead) < 60


def test_it_jumps_to_the_other_side_and_back() -> None:
    clock = SkewedClock(Skew(ahead=HOUR, jumps_every=1e-9))
    seen = {clock.wall() / 1e6 > time.time() for _ in range(1_000)}
    assert seen == {True, False}


def test_it_runs_at_another_rate_and_its_timers_with_it() -> None:
    clock = SkewedClock(Skew(rate=1_000_000))
    fast, right = clock.monotonic(), time.monotonic()
    while time.monotonic() - right < 0.001:
        pass
    assert clock.monotonic() - fast > 900

    async def due() -> float:
        loop = asyncio.get_running_loop()
        timer = SkewedClock(Skew(rate=0.5)).call_later(10, lambda: None)
        assert isinstance(timer, asyncio.TimerHandle)
        return timer.when() - loop.time()

    assert 19 < asyncio.run(due()) <= 20
