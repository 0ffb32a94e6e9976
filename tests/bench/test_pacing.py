"""At a fixed rate nobody waits for anybody, and who is late is late from when it was due."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bench import pacing
from bench.bank import bank
from bench.pacing import Pace

_EVERY = 0.001
_real_sleep = asyncio.sleep


class _World:
    """Time that passes only where somebody sleeps or works; and a runtime in it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.took: dict[int, float] = {}
        self.sent = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        monkeypatch.setattr(pacing, "perf_counter", lambda: self.now)
        monkeypatch.setattr(asyncio, "sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await _real_sleep(0)

    async def dispatch(self, *_: Any) -> None:
        number, self.sent = self.sent, self.sent + 1
        self.now += self.took.get(number, 0.0)
        await self.may_answer.wait()

    def pace(self) -> Pace:
        runtime: Any = self
        return Pace(runtime, bank(), ["one", "two"], 1 / _EVERY)


async def test_a_stop_delays_everybody_who_was_due_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    world = _World(monkeypatch)
    world.took[2] = 0.005
    pace = world.pace()
    await pace.one_by_one(10)
    assert [round(each) for each in pace.milliseconds] == [0, 0, 5, 4, 3, 2, 1, 0, 0, 0]


async def test_a_command_that_is_not_answered_keeps_nobody_from_being_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = _World(monkeypatch)
    world.may_answer.clear()
    pace = world.pace()
    sending = asyncio.create_task(pace.beside_each_other(10))
    while world.sent < 10:
        await _real_sleep(0)
    world.now += 1
    world.may_answer.set()
    await sending
    late = sorted(pace.milliseconds)
    assert (round(late[0]), round(late[-1])) == (1_000, 1_009)
