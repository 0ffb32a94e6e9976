"""Reading a log from one position to another, and asking again where an error may pass."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Protocol, TypeVar

from rehydrate.cli.run.sending import PAUSES
from rehydrate.errors import StoreUnavailableError
from rehydrate.store.port import Store, StoredEvent

T = TypeVar("T")


class Origin(Protocol):
    """Where events come from: a store, or a file."""

    @property
    def name(self) -> str: ...

    def place(self, position: int) -> str:
        """What a position is there, for a person."""
        ...


class StoreOrigin:
    """A store, in messages."""

    def __init__(self, store: Store) -> None:
        self.name = store.url

    def place(self, position: int) -> str:
        return f"position {position:,}"


async def persistently(ask: Callable[[], Awaitable[T]]) -> T:
    """The answer to a question that may be asked twice; an error that may pass is waited out, for seconds."""
    for pause in PAUSES:
        try:
            return await ask()
        except StoreUnavailableError as error:
            if not error.retryable:
                raise
        await asyncio.sleep(pause)
    return await ask()


async def read_log(store: Store, *, after: int, until: int) -> AsyncGenerator[list[StoredEvent], None]:
    """The log in pages, up to the position `until`, at which it is known to hold an event.

    Raises `StoreUnavailableError` if it does not show so much of it within seconds: a replica may lag behind.
    """
    while after < until:
        page = await persistently(partial(_page, store, after, until))
        yield page
        after = page[-1].position


async def _page(store: Store, after: int, until: int) -> list[StoredEvent]:
    page = await store.read_all(after=after)
    events = page.events
    if not events:
        raise StoreUnavailableError(
            f"{store.url} shows its log up to position {after:,} only, and its newest event is at {until:,}: "
            "if a replica answers, it lags behind; try again"
        )
    if events[-1].position > until:
        events = [event for event in events if event.position <= until]
    return events


class Reader:
    """Takes events out of pages, as many at a time as somebody else has."""

    def __init__(self, pages: AsyncGenerator[list[StoredEvent], None]) -> None:
        self._pages = pages
        self._page: list[StoredEvent] = []

    async def some(self) -> list[StoredEvent]:
        """The events at hand, read if there are none; nothing at the end."""
        if not self._page:
            nothing: list[StoredEvent] = []
            self._page = await anext(self._pages, nothing)
        return self._page

    def take(self, count: int) -> None:
        """Those were used."""
        self._page = self._page[count:]

    async def rest(self) -> AsyncIterator[list[StoredEvent]]:
        """What is left, in pages."""
        while page := await self.some():
            self._page = []
            yield page

    async def close(self) -> None:
        await self._pages.aclose()
