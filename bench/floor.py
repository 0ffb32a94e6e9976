"""A loop that does no work of an event store: what asyncio would cost anybody."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from time import perf_counter

from bench import loops
from bench.sample import Sample, Size


def ping_pong_rate(callers: int, size: Size, _: Path) -> Sample:
    """Callers put a future into a queue and await it; one task takes each out and sets its result."""
    return loops.run(_ping_pong_rate(callers, size))


async def _ping_pong_rate(callers: int, size: Size) -> Sample:
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[asyncio.Future[int]] = asyncio.Queue()

    async def answer() -> None:
        number = 0
        while True:
            waiting = await queue.get()
            number += 1
            waiting.set_result(number)

    async def ask() -> int:
        asked = 0
        while perf_counter() < until:
            for _ in range(2):
                waiting: asyncio.Future[int] = loop.create_future()
                queue.put_nowait(waiting)
                await waiting
            asked += 2
        return asked

    answering = asyncio.create_task(answer())
    gc.collect()
    began = perf_counter()
    until = began + size.seconds
    asked = sum(await asyncio.gather(*[ask() for _ in range(callers)]))
    seconds = perf_counter() - began
    answering.cancel()
    return Sample(asked / seconds, {"round trips": asked, "seconds": seconds})
