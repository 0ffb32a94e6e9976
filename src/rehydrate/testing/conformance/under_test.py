"""How the laws get at the store under test: opened here, opened again, and opened in other processes."""

from __future__ import annotations

import asyncio
import pkgutil
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest
import pytest_asyncio

from rehydrate.store.port import Store
from rehydrate.testing.clock import HANG_LIMIT
from rehydrate.testing.conformance.writers import Writers


class Another:
    """Opens the store under test as often as a law asks, and closes at its end what the law left open."""

    def __init__(self, opener: str, url: str) -> None:
        self._open = pkgutil.resolve_name(opener)
        self._url = url
        self._opened: list[Store] = []

    async def __call__(self) -> Store:
        store: Store = await self._open(self._url)
        self._opened.append(store)
        return store

    async def close(self) -> None:
        async with asyncio.timeout(HANG_LIMIT):
            for store in self._opened:
                await store.close()


class StoreUnderTest:
    """What every class of laws builds on. The fixture `url` is the backend's."""

    opener: ClassVar[str] = "rehydrate.store.url:open_store"
    """Where the coroutine function is that opens a store at a URL; processes of their own look it up there, too."""

    patience: ClassVar[float] = 1.0
    """By how much to multiply the time after which a law takes a store for one that hangs."""

    @pytest_asyncio.fixture
    async def another(self, url: str) -> AsyncIterator[Another]:
        """One more opened store at the same place: `await another()`."""
        another = Another(self.opener, url)
        yield another
        await another.close()

    @pytest_asyncio.fixture
    async def store(self, another: Another) -> Store:
        """The store under test, opened and empty."""
        return await another()

    @pytest_asyncio.fixture
    async def writers(self, url: str) -> AsyncIterator[Writers]:
        """Starts processes that write to the store."""
        writers = Writers(self.opener, url)
        yield writers
        await writers.kill_all()

    async def copy(self, url: str) -> Any:  # noqa: ARG002
        """A copy of the store at that URL as it is now, in whatever form `restore` takes.

        A backend whose stores are copied and restored while others have them open overrides both.
        """
        pytest.skip(
            f"{type(self).__name__} does not say how a store is copied: override copy() and restore()"
        )

    async def restore(self, url: str, copied: Any) -> None:
        """Bring the store at that URL back to a copy, under the hands of those who have it open."""
        raise NotImplementedError
