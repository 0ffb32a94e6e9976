"""Time stands still until a test moves it."""

import asyncio
import contextvars
import threading

import pytest

from rehydrate.clock import Clock
from rehydrate.testing.clock import HANG_LIMIT, FakeClock, settle, until


async def test_time_moves_only_by_hand(fake_clock: FakeClock) -> None:
    clock: Clock = fake_clock
    before, day = clock.monotonic(), clock.wall()
    await fake_clock.advance(0)
    assert (clock.monotonic(), clock.wall()) == (before, day)
    await fake_clock.advance(1.5)
    assert (clock.monotonic(), clock.wall()) == (before + 1.5, day + 1_500_000)


async def test_timers_fire_in_order_each_at_its_own_moment(fake_clock: FakeClock) -> None:
    fired: list[tuple[str, float]] = []
    start = fake_clock.monotonic()

    def note(name: str) -> None:
        fired.append((name, fake_clock.monotonic() - start))

    fake_clock.call_later(2, lambda: note("second"))
    fake_clock.call_later(1, lambda: note("first"))
    fake_clock.call_later(2, lambda: note("second, set later"))
    fake_clock.call_later(9, lambda: note("never"))
    await fake_clock.advance(5)
    assert fired == [("first", 1.0), ("second", 2.0), ("second, set later", 2.0)]
    assert fake_clock.monotonic() == start + 5
    assert fake_clock.timers == 1


async def test_a_timer_that_comes_due_exactly_fires_also_after_many_small_steps(
    fake_clock: FakeClock,
) -> None:
    fired = asyncio.Event()
    fake_clock.call_later(1.0, fired.set)
    for _ in range(19):
        await fake_clock.advance(0.05)
    assert not fired.is_set()
    await fake_clock.advance(0.05)
    assert fired.is_set()


async def test_a_timer_set_by_a_timer_fires_in_the_same_advance(fake_clock: FakeClock) -> None:
    ticks: list[float] = []

    def tick() -> None:
        ticks.append(fake_clock.monotonic())
        fake_clock.call_later(10, tick)

    fake_clock.call_later(10, tick)
    await fake_clock.advance(35)
    assert ticks == [1_010.0, 1_020.0, 1_030.0]


async def test_what_a_timer_wakes_has_run_before_the_next_timer_fires(fake_clock: FakeClock) -> None:
    seen: list[str] = []
    woken = asyncio.Event()

    async def worker() -> None:
        await woken.wait()
        for _ in range(10):
            await asyncio.sleep(0)
        seen.append("worker")

    task = asyncio.create_task(worker())
    fake_clock.call_later(1, woken.set)
    fake_clock.call_later(1, lambda: seen.append("next timer"))
    await fake_clock.advance(1)
    assert seen == ["worker", "next timer"]
    await task


async def test_a_cancelled_timer_never_fires(fake_clock: FakeClock) -> None:
    fired = asyncio.Event()
    timer = fake_clock.call_later(1, fired.set)
    timer.cancel()
    timer.cancel()
    assert fake_clock.timers == 0
    await fake_clock.advance(2)
    assert not fired.is_set()


async def test_what_a_callback_raises_is_raised_where_the_time_is_moved(fake_clock: FakeClock) -> None:
    def fail() -> None:
        raise LookupError("in a timer")

    fake_clock.call_later(1, fail)
    with pytest.raises(LookupError, match="in a timer"):
        await fake_clock.advance(1)


async def test_a_callback_runs_in_the_context_that_set_the_timer(fake_clock: FakeClock) -> None:
    who = contextvars.ContextVar("who", default="nobody")
    seen: list[str] = []
    token = who.set("ada")
    fake_clock.call_later(1, lambda: seen.append(who.get()))
    who.reset(token)
    await fake_clock.advance(1)
    assert seen == ["ada"]


async def test_the_time_of_day_can_be_corrected_without_waking_a_timer(fake_clock: FakeClock) -> None:
    fired = asyncio.Event()
    fake_clock.call_later(1, fired.set)
    before = fake_clock.monotonic()
    fake_clock.set_wall(0)
    await settle()
    assert fake_clock.wall() == 0
    assert fake_clock.monotonic() == before
    assert not fired.is_set()


async def test_settle_returns_when_the_loop_has_nothing_left_to_do() -> None:
    steps = 0

    async def work() -> None:
        nonlocal steps
        for _ in range(1_000):
            await asyncio.sleep(0)
            steps += 1

    task = asyncio.create_task(work())
    await settle()
    assert steps == 1_000
    assert task.done()


async def test_until_waits_for_another_thread() -> None:
    done = threading.Event()
    gate = threading.Event()

    def work() -> None:
        gate.wait()
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    asyncio.get_running_loop().call_soon(gate.set)
    await until(done.is_set)
    thread.join()


async def test_until_ends_with_an_error_when_the_condition_never_holds() -> None:
    with pytest.raises(TimeoutError, match="did not come true"):
        await until(lambda: False, hang_limit=0.01)


async def test_two_who_wait_for_the_loop_do_not_wait_for_each_other() -> None:
    done: list[int] = []

    async def work(steps: int) -> None:
        for _ in range(steps):
            await asyncio.sleep(0)
        done.append(steps)

    tasks = [asyncio.create_task(work(steps)) for steps in (10, 100)]
    async with asyncio.timeout(HANG_LIMIT):
        await asyncio.gather(settle(), until(lambda: len(done) == 2), settle())
    assert done == [10, 100]
    await asyncio.gather(*tasks)


async def test_until_looks_again_also_where_the_loop_never_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rehydrate.testing.clock._BUSY", 0.01)
    turns = 0

    async def never_rest() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(never_rest())
    await until(lambda: turns > 10)
    with pytest.raises(TimeoutError, match="did not come true"):
        await until(lambda: False, hang_limit=0.05)
    task.cancel()
