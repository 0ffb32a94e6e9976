"""Opening a store to look at it: one that is not there is a sentence, not a new and empty file."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from rehydrate.errors import ConfigurationError
from rehydrate.store.port import Store
from rehydrate.store.store_url import StoreUrl
from rehydrate.store.url import open_store


@asynccontextmanager
async def existing_store(url: str) -> AsyncGenerator[Store, None]:
    """The store that a URL names, closed on the way out. Raises `ConfigurationError` if there is none yet."""
    check_exists(url)
    store = await open_store(_without_making_tables(url))
    try:
        yield store
    finally:
        await store.close()


def check_exists(url: str) -> None:
    """Raise `ConfigurationError` if opening this store would create its file."""
    parsed = StoreUrl(url)
    if parsed.scheme == "sqlite" and parsed.path and not Path(parsed.path).exists():
        raise ConfigurationError(f"there is no database {parsed.path}, and looking at it must not create one")


def _without_making_tables(url: str) -> str:
    if not url.startswith("postgresql://") or "migrate=" in url.partition("?")[2]:
        return url
    return f"{url}{'&' if '?' in url else '?'}migrate=false"
