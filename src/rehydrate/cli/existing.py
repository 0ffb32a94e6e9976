"""Opening a store to look at it: one that is not there is a sentence, not a new and empty file."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from rehydrate.errors import ConfigurationError
from rehydrate.store.port import Store
from rehydrate.store.url import open_store
from rehydrate.store_url import StoreUrl


@asynccontextmanager
async def existing_store(url: str) -> AsyncGenerator[Store, None]:
    """The store that a URL names, closed on the way out. Raises `ConfigurationError` if there is none yet."""
    check_exists(url)
    store = await open_store(_making_nothing(url))
    try:
        yield store
    finally:
        await store.close()


def check_exists(url: str) -> None:
    """Raise `ConfigurationError` if opening this store would create its file, or make a database of one without a byte."""
    parsed = StoreUrl(url)
    if parsed.scheme != "sqlite" or not parsed.path:
        return
    file = Path(parsed.path)
    if not file.exists() or (file.is_file() and file.stat().st_size == 0):
        raise ConfigurationError(f"there is no database {parsed.path}, and looking at it must not create one")


_MAKES_NOTHING: Final = {
    "postgresql": "migrate",
    "sqlite": "migrate",
    "mongodb": "create",
    "mongodb+srv": "create",
    "nats": "create",
}
"""The parameters that tell a store not to make its tables or collections."""


def _making_nothing(url: str) -> str:
    scheme, _, rest = url.partition("://")
    parameter = _MAKES_NOTHING.get(scheme)
    if parameter is None or f"{parameter}=" in rest.partition("?")[2]:
        return url
    return f"{url}{'&' if '?' in url else '?'}{parameter}=false"
