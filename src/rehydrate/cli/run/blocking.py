"""Calls that may block for as long as a person or a pipe pleases, away from the event loop."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class BlockingThread:
    """Runs one call after the other on a thread of its own.

    The thread is a daemon, unlike those of an executor: a program that was interrupted must not wait for a terminal
    on which nobody types.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = (
            queue.SimpleQueue()
        )
        threading.Thread(target=self._run, name=name, daemon=True).start()

    async def call(self, function: Callable[[], T]) -> T:
        """What the function returns or raises. Cancelling the caller leaves the call to itself."""
        outcome: asyncio.Future[T] = self._loop.create_future()
        self._calls.put((function, outcome))
        return await outcome

    def close(self) -> None:
        """Let the thread end after its last call, however long that takes."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            function, outcome = call
            try:
                result = function()
            except BaseException as error:  # noqa: BLE001 - it is the caller's
                self._tell(outcome, outcome.set_exception, error)
            else:
                self._tell(outcome, outcome.set_result, result)

    def _tell(self, outcome: asyncio.Future[Any], settle: Callable[[Any], None], value: object) -> None:
        try:
            self._loop.call_soon_threadsafe(lambda: None if outcome.done() else settle(value))
        except RuntimeError:  # The loop has ended: nobody waits any more.
            pass
