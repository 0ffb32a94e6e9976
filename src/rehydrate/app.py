"""What exists: the App, inert until it is opened. Importing a module that declares one starts nothing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from types import MappingProxyType
from typing import Any

from rehydrate.clock import Clock, NewId
from rehydrate.codec.aggregate import check_aggregates
from rehydrate.domain.aggregate import Aggregate
from rehydrate.errors import ConfigurationError
from rehydrate.runtime.limits import Limits
from rehydrate.runtime.portal import Portal
from rehydrate.runtime.runtime import Runtime
from rehydrate.runtime.sync import SyncRuntime
from rehydrate.store.port import SnapshotStore, Store
from rehydrate.store.url import open_store


class App:
    """Everything that is declared, checked before any I/O.

    Raises `ConfigurationError` for duplicate names, for functions that cannot be called, and for types that would not
    come back equal from the store.
    """

    def __init__(self, *, aggregates: Sequence[Aggregate[Any, Any, Any]]) -> None:
        if isinstance(aggregates, Aggregate):
            raise ConfigurationError(
                f"aggregates= is the aggregate {aggregates.name!r}, and must be a list: App(aggregates=[...])"
            )
        self._codecs = check_aggregates(aggregates)
        self.aggregates: Mapping[str, Aggregate[Any, Any, Any]] = MappingProxyType(
            {aggregate.name: aggregate for aggregate in aggregates}
        )

    @asynccontextmanager
    async def open(
        self,
        store: str | Store,
        *,
        snapshots: str | SnapshotStore | None = None,
        clock: Clock | None = None,
        new_id: NewId | None = None,
        limits: Limits | None = None,
    ) -> AsyncGenerator[Runtime]:
        """Run the App on a store, named by URL or handed over open; on the way out everybody is answered first.

        Args:
            store: `memory://`, `sqlite:///path`, or a store that stays yours to close.
            snapshots: Another store for the snapshots; by default they lie beside the events.
            clock: Where time comes from, for tests.
            new_id: Where ids of events and commands come from, for tests.
            limits: The bounds of this runtime.

        Raises `ConfigurationError` for a URL that cannot be used and `StoreUnavailableError` for a store that cannot
        be reached.
        """
        for given in (store, snapshots):
            _check_is_store(given)
        async with AsyncExitStack() as stack:
            events = await open_store(store, clock=clock) if isinstance(store, str) else store
            if isinstance(store, str):
                stack.push_async_callback(events.close)
            saved: SnapshotStore = events
            if isinstance(snapshots, str):
                saved = await open_store(snapshots, clock=clock)
                stack.push_async_callback(saved.close)
            elif snapshots is not None:
                saved = snapshots
            codecs = {name: (aggregate, self._codecs[name]) for name, aggregate in self.aggregates.items()}
            runtime = Runtime(
                codecs,
                events,
                saved,
                clock=clock,
                new_id=new_id,
                limits=limits,
                owns_store=isinstance(store, str),
            )
            stack.push_async_callback(runtime.close)
            yield runtime

    @contextmanager
    def open_sync(
        self,
        store: str,
        *,
        snapshots: str | None = None,
        limits: Limits | None = None,
    ) -> Generator[SyncRuntime]:
        """Run the App for code that is not asyncio: the same core, on one thread of its own."""
        with (
            Portal() as portal,
            portal.enter(self.open(store, snapshots=snapshots, limits=limits)) as runtime,
        ):
            yield SyncRuntime(runtime, portal)


def _check_is_store(given: object) -> None:
    """Raise `ConfigurationError` for what is neither the URL of a store nor a store, such as a path."""
    if given is not None and not isinstance(given, str) and not hasattr(given, "save_snapshot"):
        raise ConfigurationError(
            f"{given!r} is no store: give its URL, such as 'sqlite:///bank.db', or what open_store returned"
        )
