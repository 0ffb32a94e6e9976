"""Hints that somebody has appended: PostgreSQL's notifications, on a connection of their own.

A hint only makes those who wait look at once. One that is lost, because the connection was, costs the time until
they would have looked anyway.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from rehydrate.errors import StoreError
from rehydrate.store.postgres import sql
from rehydrate.store.postgres.address import Address
from rehydrate.store.postgres.connection import Connection, connect, disconnect
from rehydrate.store.postgres.failures import FAILURES

logger = logging.getLogger(__name__)

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 10.0
"""Seconds between two attempts to listen."""
MAX_SILENCE: Final = 60.0
"""Seconds after which the server is asked whether it is still there."""


class Hints:
    """Listens from the first time that anybody waits."""

    def __init__(self, address: Address, hint: Callable[[int], None]) -> None:
        self._address = address
        self._hint = hint
        """Called with the process id of the session that notified."""
        self._listening: asyncio.Task[None] | None = None

    def listen(self) -> None:
        """Begin, if it has not begun."""
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen())

    async def close(self) -> None:
        """Stop listening."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)

    async def _listen(self) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                connection = await connect(self._address)
            except StoreError as error:
                logger.debug("%s: nobody listens for appends of others: %s", self._address.place, error)
            else:
                await self._listen_on(connection)
                pause = FIRST_PAUSE
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _listen_on(self, connection: Connection) -> None:
        """Until the connection is lost."""
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        try:
            await connection.add_listener(self._address.channel, self._notified)
            # What came before this connection was there.
            self._hint(0)
            while not await _happens(lost, MAX_SILENCE):
                # A network that has gone says nothing, and neither does one on which nothing happens.
                await connection.execute(sql.STILL_THERE)
        except FAILURES as error:
            connection.terminate()
            logger.debug("%s: nobody listens for appends of others: %s", self._address.place, error)
        finally:
            await disconnect(connection)

    def _notified(self, _: object, pid: int, _channel: str, _payload: object) -> None:
        self._hint(pid)


async def _happens(event: asyncio.Event, seconds: float) -> bool:
    """Whether it happens within that time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()
