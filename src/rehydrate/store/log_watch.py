"""Waking those who wait for events: at once for our own, by looking now and then for those of other processes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

from rehydrate.errors import StoreClosedError, StoreError, StoreUnavailableError
from rehydrate.store.another import another
from rehydrate.store.group_commit import Outcome
from rehydrate.store.port import Appended


class LogWatch:
    """Who waits for the log to grow. Nobody looks while nobody waits."""

    def __init__(self, last_position: Callable[[], Awaitable[int]], poll: float) -> None:
        self._last_position = last_position
        self._poll = poll
        self._waiting: dict[asyncio.Future[StoreError | None], int] = {}
        self._looking: asyncio.Task[None] | None = None
        self._hint = asyncio.Event()

    async def wait(self, after: int) -> None:
        """Return when there are events after that position."""
        woken: asyncio.Future[StoreError | None] = asyncio.get_running_loop().create_future()
        self._waiting[woken] = after
        try:
            # Registered first, so that nothing that comes meanwhile is missed.
            if await self._last_position() > after:
                return
            if self._looking is None and not woken.done():
                self._looking = asyncio.create_task(self._look())
                self._looking.add_done_callback(self._ended)
            error = await woken
        finally:
            del self._waiting[woken]
        if error is not None:
            raise error

    def notice(self, outcomes: Sequence[Outcome]) -> None:
        """A group of our own was committed."""
        if self._waiting:
            self._wake(max((done.position for done in outcomes if isinstance(done, Appended)), default=0))

    def hint(self) -> None:
        """Somebody says that there is more: look now, without waiting for the next time."""
        self._hint.set()

    def close(self) -> None:
        """Nobody waits any more."""
        self._fail(StoreClosedError)
        if self._looking is not None:
            self._looking.cancel()

    async def _look(self) -> None:
        """Ask for the position, not for any change: saved checkpoints shall not wake those who save them."""
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._poll):
                        await self._hint.wait()
                self._hint.clear()
                if not self._waiting:
                    return
                self._wake(await self._last_position())
        except StoreError as error:
            self._fail(partial(another, error))
        except BaseException as error:
            self._let_go(error)
            raise
        finally:
            self._looking = None

    def _ended(self, looking: asyncio.Task[None]) -> None:
        if self._looking is looking:
            # Before its first step: it has not come to the end of what it does.
            self._looking = None
            self._let_go(asyncio.CancelledError())

    def _let_go(self, error: BaseException) -> None:
        """Ended from outside, or by a mistake: whoever waits must not wait for ever."""
        self._fail(partial(StoreUnavailableError, f"looking for more events was ended by {error!r}"))

    def _wake(self, position: int) -> None:
        """There is an event at that position."""
        for woken, after in self._waiting.items():
            if after < position and not woken.done():
                woken.set_result(None)

    def _fail(self, error: Callable[[], StoreError]) -> None:
        for woken in self._waiting:
            if not woken.done():
                woken.set_result(error())
