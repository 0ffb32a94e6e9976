"""How many questions are under way at a time: servers that are asked faster than they answer answer everything too late."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

AT_ONCE: Final = 256


class Turns:
    """The others wait for their turn, in the order in which they came, for as long as anything is answered."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._free = AT_ONCE
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._answered = self._loop.time()

    async def take(self) -> None:
        """Wait for a turn, to be given back; raises `TimeoutError` where nothing was answered for too long."""
        if self._free:
            self._free -= 1
            return
        turn: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((self._loop.time(), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._hand_on()
            raise

    def give_back(self, *, answered: bool) -> None:
        """The question is over."""
        now = self._loop.time()
        if answered:
            self._answered = now
        elif now - self._answered >= self._timeout:
            while self._waiting and now - self._waiting[0][0] >= self._timeout:
                _, turn = self._waiting.popleft()
                if not turn.done():
                    turn.set_exception(TimeoutError())
        self._hand_on()

    def _hand_on(self) -> None:
        while self._waiting:
            _, turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
