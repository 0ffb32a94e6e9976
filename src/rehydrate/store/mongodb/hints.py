"""A change stream as a hint that there is more: it may come late or never, for whoever waits also looks by himself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from rehydrate.errors import StoreError
from rehydrate.store.mongodb.apart import apart
from rehydrate.store.mongodb.commands import Commands
from rehydrate.store.mongodb.driver import Driver, ForgottenError

logger = logging.getLogger(__name__)

_LISTEN_FOR: Final = 1.0
"""Seconds for which the server holds back an empty answer."""
_AT_MOST_EVERY: Final = 0.005
"""Seconds between two hints: who writes fast is not to be told of each insert."""
_REOPEN_AFTER: Final = 1.0
"""Seconds after which a change stream that broke is opened anew."""


class Hints:
    """Listens while somebody waits, and calls `hint` when something was inserted by whomever."""

    def __init__(self, driver: Driver, commands: Commands, hint: Callable[[], None]) -> None:
        self._driver = driver
        self._commands = commands
        self._hint = hint
        self._waiting = 0
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def begin(self) -> None:
        """Somebody begins to wait."""
        self._waiting += 1
        self._wanted.set()
        if self._task is None:
            self._task = apart(asyncio.create_task(self._listen()))

    def end(self) -> None:
        """He waits no more."""
        self._waiting -= 1
        if self._waiting == 0 and not self._closed:
            self._wanted.clear()

    async def close(self) -> None:
        """Listen no more."""
        self._closed = True
        self._wanted.set()
        if self._task is not None:
            # On Python 3.11 the driver may lose this, and go on: then it ends when the server has answered.
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _listen(self) -> None:
        while await self._is_wanted():
            try:
                await self._listen_to_one()
            except (StoreError, ForgottenError) as error:
                logger.debug("the change stream broke, and is opened anew: %s", error)
                await asyncio.sleep(_REOPEN_AFTER)

    async def _is_wanted(self) -> bool:
        """Wait until somebody waits; false if nobody will any more."""
        await self._wanted.wait()
        return not self._closed

    async def _listen_to_one(self) -> None:
        """A change stream from now on, until it breaks. Nothing is resumed: who waits looks after it was opened."""
        async with self._driver.change_stream(self._commands.changes(), _LISTEN_FOR) as changes:
            self._hint()
            while await self._is_wanted():
                if await changes.more():
                    self._hint()
                    await asyncio.sleep(_AT_MOST_EVERY)
