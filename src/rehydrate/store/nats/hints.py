"""Who appends says so, to those who wait anywhere: a message that nobody keeps, and that may never arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from nats.aio.msg import Msg

from rehydrate.nats.connection import Connection

_AT_MOST_EVERY: Final = 0.002
"""Seconds between two: who writes fast tells of many appends at once."""


class Hints:
    """Tells the others of our newest position, and us of theirs."""

    def __init__(self, connection: Connection, subject: str, heard: Callable[[int], None]) -> None:
        self._connection = connection
        self._subject = subject
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._position = 0
        self._next = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Hear from now on what others tell."""
        await self._connection.listen(self._subject, self._received)

    def tell(self, position: int) -> None:
        """There is something at that position."""
        self._position = max(position, self._position)
        if self._timer is None:
            wait = self._next - self._loop.time()
            if wait <= 0:
                self._send()
            else:
                self._timer = self._loop.call_later(wait, self._send)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _send(self) -> None:
        self._timer = None
        self._next = self._loop.time() + _AT_MOST_EVERY
        self._connection.tell(self._subject, b"%d" % self._position)

    async def _received(self, message: Msg) -> None:
        told: Any = message.data
        if told.isdigit():
            self._heard(int(told))
