"""Ctrl-C and SIGTERM: the first ends the work in order, the second at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any, Final

from rehydrate.cli.endings import INTERRUPTED, TERMINATED, say

CODES: Final = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}


@contextmanager
def listening(hear: Callable[[signal.Signals], None]) -> Generator[None, None, None]:
    """Call `hear` at each of these signals, while the block runs on the event loop."""
    loop = asyncio.get_running_loop()
    heard: list[signal.Signals] = []
    for number in CODES:
        try:
            loop.add_signal_handler(number, hear, number)
        except (NotImplementedError, RuntimeError, ValueError):
            continue  # Windows, or not the main thread: Ctrl-C ends the work at once.
        heard.append(number)
    try:
        yield
    finally:
        for number in heard:
            loop.remove_signal_handler(number)


async def interruptible(work: Coroutine[Any, Any, int], outlook: str) -> int:
    """The exit code of some work, which the first signal cancels; then `outlook` says what that leaves."""
    task = asyncio.ensure_future(work)
    first: list[signal.Signals] = []

    def hear(number: signal.Signals) -> None:
        if first:
            os._exit(CODES[number])
        first.append(number)
        task.cancel()

    with listening(hear):
        try:
            return await task
        except asyncio.CancelledError:
            if not first:
                raise
    say(f"interrupted: {outlook}")
    return CODES[first[0]]
