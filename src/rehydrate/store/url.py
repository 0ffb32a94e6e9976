"""Where abstract meets concrete: a URL becomes a store. Nothing else names a backend.

A backend of your own is an entry point of the group `rehydrate.stores`: its name is the scheme, and it leads to a
coroutine function of the shape `OpenStore`.

    [project.entry-points."rehydrate.stores"]
    foundation = "my_package.foundation:open_foundation"
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Final, TypeAlias, cast

import msgspec

from rehydrate.clock import Clock, SystemClock
from rehydrate.errors import ConfigurationError
from rehydrate.store.port import Store
from rehydrate.store_url import StoreUrl

OpenStore: TypeAlias = Callable[[StoreUrl, Clock], Awaitable[Store]]
"""Takes what it knows from the URL, refuses the rest, and opens the store."""
MigrateStore: TypeAlias = Callable[[StoreUrl], Awaitable[str]]
"""Takes the same URL, brings the store's tables up to date, and says what was done."""

ENTRY_POINTS: Final = "rehydrate.stores"


class Backend(msgspec.Struct, frozen=True):
    """A store that Rehydrate brings along."""

    module: str
    attribute: str
    extra: str = ""
    """What `pip install 'rehydrate[...]'` must name for it; empty if nothing."""
    migrate: str = ""
    """What brings its tables up to date; empty if it has none that change with versions."""


BACKENDS: Final[dict[str, Backend]] = {
    "memory": Backend("rehydrate.store.memory", "open_memory"),
    "mongodb": Backend("rehydrate.store.mongodb", "open_mongodb", extra="mongodb"),
    "mongodb+srv": Backend("rehydrate.store.mongodb", "open_mongodb", extra="mongodb"),
    "nats": Backend("rehydrate.store.nats", "open_nats", extra="nats"),
    "postgresql": Backend(
        "rehydrate.store.postgres", "open_postgres", extra="postgres", migrate="migrate_postgres"
    ),
    "sqlite": Backend("rehydrate.store.sqlite", "open_sqlite", migrate="migrate_sqlite"),
}


_OTHER_NAMES: Final = {
    "postgres": "postgresql",
    "mongo": "mongodb",
    "sqlite3": "sqlite",
    "file": "sqlite",
}
"""What others call these schemes. Like our own names, they also come with that of a driver behind a plus."""


async def open_store(url: str, *, clock: Clock | None = None) -> Store:
    """Open the store that a URL names; `memory://` and `sqlite:///bank.db` need nothing to be installed.

    `clock` tells when events were recorded, where the store does not know better.

    Raises:
        ConfigurationError: the URL, or what it leads to, cannot be a store.
        StoreUnavailableError: it cannot be reached or used now.
    """
    parsed = StoreUrl(url)
    opener = _find(parsed.scheme)
    return await opener(parsed, SystemClock() if clock is None else clock)


async def migrate_store(url: str) -> str:
    """Bring the tables of a store up to date, where it has tables that change with versions; what was done.

    Raises:
        ConfigurationError: the URL, or what it leads to, cannot be a store that this program knows.
        StoreUnavailableError: it cannot be reached or used now; nothing was changed.
    """
    parsed = StoreUrl(url)
    backend = BACKENDS.get(parsed.scheme)
    if backend is None or not backend.migrate:
        _find(parsed.scheme)
        return f"{parsed.shown} is of a kind that has nothing to migrate"
    migrate = cast(MigrateStore, _load(parsed.scheme, backend, backend.migrate))
    return f"{parsed.shown}: {await migrate(parsed)}"


def _find(scheme: str) -> OpenStore:
    backend = BACKENDS.get(scheme)
    if backend is not None:
        return cast(OpenStore, _load(scheme, backend, backend.attribute))
    others = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if scheme in others:
        return _load_other(others[scheme])
    name = scheme.partition("+")[0]
    if (meant := _OTHER_NAMES.get(name, name)) in BACKENDS:
        raise ConfigurationError(f"no store is known by {scheme}://: write {meant}://")
    known = ", ".join(f"{name}://" for name in sorted({*BACKENDS, *others}))
    raise ConfigurationError(f"no store is known by {scheme}:// (known: {known})")


def _load(scheme: str, backend: Backend, attribute: str) -> object:
    try:
        module = import_module(backend.module)
    except ImportError as error:
        if not backend.extra:
            raise ConfigurationError(f"{scheme}:// does not work in this Python: {error}") from error
        raise ConfigurationError(
            f"{scheme}:// needs what is not installed ({error}): pip install 'rehydrate[{backend.extra}]'"
        ) from error
    return getattr(module, attribute)


def _load_other(point: EntryPoint) -> OpenStore:
    try:
        return cast(OpenStore, point.load())
    except (ImportError, AttributeError) as error:
        package = point.dist.name if point.dist else "its package"
        raise ConfigurationError(f"{point.name}:// of {package} cannot be loaded: {error}") from error
