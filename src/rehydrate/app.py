"""What exists: the App, inert until it is opened. Importing a module that declares one starts nothing."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncGenerator, Generator, Iterable, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, cast

from rehydrate.clock import Clock, NewId
from rehydrate.codec.aggregate import AggregateCodecs, check_aggregates
from rehydrate.codec.process import check_processes
from rehydrate.codec.projection import check_projections
from rehydrate.codec.subscription import check_subscription
from rehydrate.domain.aggregate import Aggregate
from rehydrate.domain.process import ProcessManager
from rehydrate.domain.projection import Projection
from rehydrate.domain.subscription import Subscription, check_consumer_names
from rehydrate.domain.transactional import TransactionalHandler, check_transactional
from rehydrate.errors import ConfigurationError
from rehydrate.runtime.limits import Limits
from rehydrate.runtime.portal import Portal
from rehydrate.runtime.process import Process
from rehydrate.runtime.processes import add_consumers, processes_of
from rehydrate.runtime.runtime import Runtime
from rehydrate.runtime.sync import SyncRuntime
from rehydrate.store.port import SnapshotStore, Store
from rehydrate.store.url import open_store

_HOW_TO_OPEN = "App.open has to be entered to get the runtime: async with app.open(...) as runtime"
_HOW_TO_OPEN_SYNC = "App.open_sync has to be entered to get the runtime: with app.open_sync(...) as runtime"
_BLOCKS_ITS_LOOP = (
    "App.open_sync inside a running event loop: each of its calls blocks everything else on that loop; "
    "use async with app.open(...) there"
)


class App:
    """Everything that is declared, checked before any I/O.

    Raises `ConfigurationError` for duplicate names, for functions that cannot be called, and for types that would not
    come back equal from the store.
    """

    def __init__(
        self,
        *,
        aggregates: Sequence[Aggregate[Any, Any, Any]],
        projections: Sequence[Projection[Any, Any]] = (),
        subscriptions: Sequence[Subscription] = (),
        processes: Sequence[ProcessManager[Any, Any]] = (),
        transactional: Sequence[TransactionalHandler] = (),
    ) -> None:
        if isinstance(aggregates, Aggregate):
            raise ConfigurationError(
                f"aggregates= is the aggregate {aggregates.name!r}, and must be a list: App(aggregates=[...])"
            )
        _check_are_aggregates(aggregates)
        self._codecs = check_aggregates(aggregates)
        self.aggregates: Mapping[str, Aggregate[Any, Any, Any]] = MappingProxyType(
            {aggregate.name: aggregate for aggregate in aggregates}
        )
        for given, name in (
            (projections, "projections"),
            (subscriptions, "subscriptions"),
            (processes, "processes"),
            (transactional, "transactional"),
        ):
            if isinstance(given, Projection | Subscription | ProcessManager | TransactionalHandler):
                raise ConfigurationError(f"{name}= must be a list: App({name}=[...])")
        views = check_projections(projections, self.aggregates)
        self.projections: Mapping[str, Projection[Any, Any]] = MappingProxyType(
            {projection.name: projection for projection in projections}
        )
        self._views = {name: (projection, views[name]) for name, projection in self.projections.items()}
        for subscription in subscriptions:
            check_subscription(subscription, self.aggregates, self._codecs)
        self.subscriptions: Mapping[str, Subscription] = MappingProxyType(
            {subscription.name: subscription for subscription in subscriptions}
        )
        for handler in transactional:
            check_subscription(
                handler.subscription, self.aggregates, self._codecs, kind="transactional handler"
            )
        self.transactional = tuple(transactional)
        self._processes = check_processes(processes, self.aggregates, self._codecs)
        self.processes: Mapping[str, ProcessManager[Any, Any]] = MappingProxyType(
            {process.name: process for process in processes}
        )
        check_consumer_names(
            (kind, consumer.name)
            for kind, consumers in (
                ("projection", projections),
                ("subscription", subscriptions),
                ("transactional handler", transactional),
                ("process manager", processes),
            )
            for consumer in consumers
        )

    def folded(self) -> Mapping[str, tuple[Aggregate[Any, Any, Any], AggregateCodecs]]:
        """What streams are folded with, by the first part of their names: aggregates, and instances of process managers."""
        return self._folded(processes_of(self.processes, self._processes))

    def _folded(
        self, processes: Iterable[Process]
    ) -> dict[str, tuple[Aggregate[Any, Any, Any], AggregateCodecs]]:
        folded = {name: (aggregate, self._codecs[name]) for name, aggregate in self.aggregates.items()}
        return folded | {process.name: (process.instances, process.codecs.instances) for process in processes}

    def open(
        self,
        store: str | Store,
        *,
        snapshots: str | SnapshotStore | None = None,
        clock: Clock | None = None,
        new_id: NewId | None = None,
        limits: Limits | None = None,
        consumers: bool = True,
        cluster: str | None = None,
    ) -> AbstractAsyncContextManager[Runtime]:
        """Run the App on a store, named by URL or handed over open; on the way out everybody is answered first.

        Args:
            store: A URL such as `sqlite:///bank.db` or `postgresql://host/bank`, or a store that stays yours to close.
            snapshots: Another store for the snapshots; by default they lie beside the events.
            clock: Where time comes from, for tests.
            new_id: Where ids of events and commands come from, for tests.
            limits: The bounds of this runtime.
            consumers: Whether this process competes for running the projections, subscriptions and process managers.
            cluster: `nats://host:port/NAME`: share the aggregates out among all processes that open this cluster, so
                that each has one live actor; the store must be one that they all reach.

        Raises `ConfigurationError` for a URL that cannot be used and `StoreUnavailableError` for a store that cannot
        be reached.
        """
        opening = self._open(store, snapshots, clock, new_id, limits, consumers=consumers, cluster=cluster)
        return _Opening(opening)

    @asynccontextmanager
    async def _open(
        self,
        store: str | Store,
        snapshots: str | SnapshotStore | None,
        clock: Clock | None,
        new_id: NewId | None,
        limits: Limits | None,
        *,
        consumers: bool,
        cluster: str | None,
    ) -> AsyncGenerator[Runtime]:
        _check_is_store(store)
        if snapshots is not None:
            _check_is_store(snapshots)
        _check_are_limits(limits)
        async with AsyncExitStack() as stack:
            events = await open_store(store, clock=clock) if isinstance(store, str) else store
            if isinstance(store, str):
                stack.push_async_callback(events.close)
            check_transactional(self.transactional, events.capabilities.transaction, events.url)
            saved: SnapshotStore = events
            if isinstance(snapshots, str):
                saved = await open_store(snapshots, clock=clock)
                stack.push_async_callback(saved.close)
            elif snapshots is not None:
                saved = snapshots
            processes = processes_of(self.processes, self._processes)
            runtime = Runtime(
                self._folded(processes),
                events,
                saved,
                clock=clock,
                new_id=new_id,
                limits=limits,
                owns_store=isinstance(store, str),
                projections=self._views,
            )
            stack.push_async_callback(runtime.close)
            if cluster is not None:
                await stack.enter_async_context(_joined(runtime, cluster, clock, new_id))
            for subscription in self.subscriptions.values():
                runtime.consumers.subscribe(subscription)
            runtime.consumers.have_transactional(self.transactional)
            add_consumers(runtime, processes)
            if consumers:
                runtime.consumers.start()
            yield runtime

    def open_sync(
        self,
        store: str,
        *,
        snapshots: str | None = None,
        limits: Limits | None = None,
        consumers: bool = True,
        cluster: str | None = None,
    ) -> AbstractContextManager[SyncRuntime]:
        """Run the App for code that is not asyncio: the same core, on one thread of its own."""
        return _SyncOpening(self._open_sync(store, snapshots, limits, consumers=consumers, cluster=cluster))

    @contextmanager
    def _open_sync(
        self,
        store: str,
        snapshots: str | None,
        limits: Limits | None,
        *,
        consumers: bool,
        cluster: str | None,
    ) -> Generator[SyncRuntime]:
        opening = self.open(store, snapshots=snapshots, limits=limits, consumers=consumers, cluster=cluster)
        with Portal() as portal, portal.enter(opening) as runtime:
            yield SyncRuntime(runtime, portal)


class _Opening(AbstractAsyncContextManager[Runtime]):
    """What `open` returns. Whoever takes it for the runtime is told how to get that."""

    def __init__(self, inside: AbstractAsyncContextManager[Runtime]) -> None:
        self._inside = inside

    async def __aenter__(self) -> Runtime:
        return await self._inside.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._inside.__aexit__(kind, error, trace)

    if not TYPE_CHECKING:  # A type checker says so by itself.

        def __await__(self) -> NoReturn:
            raise ConfigurationError(_HOW_TO_OPEN)

        def __enter__(self) -> NoReturn:
            raise ConfigurationError(_HOW_TO_OPEN)

        def __exit__(self, *_: object) -> None: ...

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(_HOW_TO_OPEN, name=name, obj=self)


class _SyncOpening(AbstractContextManager[SyncRuntime]):
    """The same for `open_sync`."""

    def __init__(self, inside: AbstractContextManager[SyncRuntime]) -> None:
        self._inside = inside

    def __enter__(self) -> SyncRuntime:
        if _is_in_a_loop():
            warnings.warn(_BLOCKS_ITS_LOOP, RuntimeWarning, stacklevel=2)
        return self._inside.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._inside.__exit__(kind, error, trace)

    if not TYPE_CHECKING:

        async def __aenter__(self) -> NoReturn:
            raise ConfigurationError(_HOW_TO_OPEN_SYNC)

        async def __aexit__(self, *_: object) -> None: ...

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(_HOW_TO_OPEN_SYNC, name=name, obj=self)


def _is_in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _check_are_aggregates(given: object) -> None:
    if not isinstance(given, Iterable):
        raise ConfigurationError(f"aggregates= is {given!r}, and must be a list: App(aggregates=[...])")
    for each in cast("Iterable[object]", given):
        if not isinstance(each, Aggregate):
            raise ConfigurationError(
                f"aggregates= holds {each!r}, which is no Aggregate: App(aggregates=[...])"
            )


def _joined(
    runtime: Runtime, cluster: str, clock: Clock | None, new_id: NewId | None
) -> AbstractAsyncContextManager[None]:
    # Imported where it is asked for: a program without a cluster needs nothing of NATS.
    try:
        from rehydrate.cluster.placement import joined
    except ImportError as error:
        raise ConfigurationError(
            f"cluster= needs what is not installed ({error}): pip install 'rehydrate[nats]'"
        ) from error
    return joined(runtime, cluster, clock=clock, new_id=new_id)


def _check_is_store(given: object) -> None:
    """Raise `ConfigurationError` for what is neither the URL of a store nor a store, such as a path."""
    if given is None:
        raise ConfigurationError(
            "store=None is no store: give its URL, such as 'sqlite:///bank.db'; if it comes from a variable, that is not set"
        )
    if not isinstance(given, str) and not hasattr(given, "save_snapshot"):
        raise ConfigurationError(
            # Not its text, which may hold a password.
            f"a value of type {type(given).__name__} is no store: give its URL, such as 'sqlite:///bank.db', or what open_store returned"
        )


def _check_are_limits(given: object) -> None:
    if given is not None and not isinstance(given, Limits):
        raise ConfigurationError(f"limits={given!r} must be a Limits: limits=Limits(...)")
