"""Reading a log from one position to another."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Protocol

from rehydrate.cli.asking import events_behind
from rehydrate.store.port import Store, StoredEvent


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


async def read_log(store: Store, *, after: int, until: int) -> AsyncGenerator[list[StoredEvent], None]:
    """The log in pages, up to the position `until`, at which it is known to hold an event.

    Raises `StoreUnavailableError` if it does not show so much of it within seconds: a replica may lag behind.
    """
    while after < until:
        page = await events_behind(store, after, newest=until)
        if page[-1].position > until:
            page = [event for event in page if event.position <= until]
        yield page
        after = page[-1].position


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
