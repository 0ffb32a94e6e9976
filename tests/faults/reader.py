"""Somebody who reads a log to its end again and again, whatever happens to the server meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Self

from rehydrate import StoreUnavailableError, open_store
from rehydrate.runtime.window import metadata_in
from rehydrate.store.port import Store, StoredEvent
from rehydrate.testing.clock import until
from tests.faults.commands import parts_of
from tests.faults.real_servers import LIMIT

_BREATH = 0.005
"""Seconds at the end of the log, so that other processes have the machine."""


class LogReader:
    """Never looks back: what it saw has to be the log in the end. A store that is not available is asked again.

    At the end of the log it has to see whole commands.
    """

    def __init__(self, store: Store, *, limit: int = 97) -> None:
        self.seen: list[StoredEvent] = []
        self.refused = 0
        """How often the store was not available."""
        self.pages = 0
        """How often it was."""
        self._store = store
        self._limit = limit
        self._is_stopping = False
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        after = 0
        while True:
            is_stopping = self._is_stopping
            try:
                page = await self._store.read_all(after=after, limit=self._limit)
            except StoreUnavailableError:
                self.refused += 1
                await asyncio.sleep(_BREATH)
                continue
            self.pages += 1
            if page.events:
                after = page.position
                self.seen += page.events
                if page.is_last:
                    self._ends_with_a_whole_command()
            elif is_stopping and page.is_last:
                return
            await asyncio.sleep(_BREATH if page.is_last else 0)

    def _ends_with_a_whole_command(self) -> None:
        id = metadata_in(self.seen[-1]).command_id
        parts = parts_of(id)
        newest = self.seen[-parts:]
        assert [metadata_in(event).command_id for event in newest] == [id] * parts, f"{id} is there in part"

    async def looks_again(self) -> None:
        """Wait until it has asked, and has been answered."""
        enough = self.pages + 2
        await until(lambda: self.pages >= enough or self._reading.done())

    async def finish(self, log: Sequence[StoredEvent]) -> None:
        """Read on to the end and compare with the log read at once."""
        self._is_stopping = True
        await self._reading
        missed = sorted({(e.position, e.id) for e in log} - {(e.position, e.id) for e in self.seen})
        assert self.seen == list(log), f"appeared behind the reader: {missed}"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)


@asynccontextmanager
async def reader_of(url: str) -> AsyncGenerator[LogReader]:
    """Somebody who reads the log at that URL from now on."""
    store = await _opened(url)
    try:
        async with LogReader(store) as reader:
            yield reader
    finally:
        await store.close()


async def _opened(url: str) -> Store:
    """A server that was just started may take longer to make its tables than a fault test is patient."""
    async with asyncio.timeout(LIMIT):
        while True:
            try:
                return await open_store(url)
            except StoreUnavailableError as unavailable:
                if not unavailable.retryable:
                    raise
                await asyncio.sleep(_BREATH)
