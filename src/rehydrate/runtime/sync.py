"""The runtime for Django, Flask and scripts: the same core behind blocking calls, from any number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from rehydrate.domain.aggregate import Aggregate, HasState
from rehydrate.domain.envelope import CommandResult, EventEnvelope, Scalar
from rehydrate.domain.policy import STOP, ErrorPolicy
from rehydrate.domain.projection import HasViews, Projection
from rehydrate.domain.subscription import After
from rehydrate.runtime.parking import Parked
from rehydrate.runtime.portal import Portal
from rehydrate.runtime.runtime import Runtime
from rehydrate.store.port import PAGE_SIZE
from rehydrate.telemetry import Statistics

S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E")
V = TypeVar("V")


class SyncRuntime:
    """An App on a store, for callers without an event loop; made by `App.open_sync`."""

    def __init__(self, runtime: Runtime, portal: Portal) -> None:
        self._runtime = runtime
        self._portal = portal

    def dispatch(
        self,
        aggregate: Aggregate[S, C, E],
        id: str,
        command: C,
        *,
        command_id: str | None = None,
        caused_at: int | None = None,
        timeout: float | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        metadata: Mapping[str, Scalar] | None = None,
    ) -> CommandResult[E]:
        """Run a command and return what it stored; see `Runtime.dispatch`."""
        return self._portal.call(
            self._runtime.dispatch(
                aggregate,
                id,
                command,
                command_id=command_id,
                caused_at=caused_at,
                timeout=timeout,
                correlation_id=correlation_id,
                causation_id=causation_id,
                metadata=metadata,
            )
        )

    def state(self, aggregate: HasState[S], id: str, *, at: int | None = None) -> S:
        """The state of an aggregate; see `Runtime.state`."""
        return self._portal.call(self._runtime.state(aggregate, id, at=at))

    def events(
        self, aggregate: Aggregate[S, C, E], id: str, *, after: int = 0, limit: int | None = None
    ) -> Iterator[EventEnvelope[E]]:
        """The stored events of an aggregate; see `Runtime.events`."""
        return self._portal.iterate(self._runtime.events(aggregate, id, after=after, limit=limit))

    def view(
        self,
        projection: HasViews[V],
        key: str,
        *,
        at_least: int | None = None,
        timeout: float | None = None,
    ) -> V:
        """The view of a key; see `Runtime.view`."""
        return self._portal.call(self._runtime.view(projection, key, at_least=at_least, timeout=timeout))

    def views(
        self,
        projection: Projection[V, Any],
        *,
        prefix: str = "",
        after: str = "",
        limit: int = PAGE_SIZE,
        at_least: int | None = None,
        timeout: float | None = None,
    ) -> list[tuple[str, V]]:
        """Keys and views; see `Runtime.views`."""
        return self._portal.call(
            self._runtime.views(
                projection, prefix=prefix, after=after, limit=limit, at_least=at_least, timeout=timeout
            )
        )

    def subscribe(
        self,
        name: str,
        handler: Callable[[Any], object],
        *,
        aggregates: Sequence[Aggregate[Any, Any, Any]] = (),
        streams: Sequence[str] = (),
        types: Sequence[type] = (),
        partition_by: Callable[[Any], str] | None = None,
        workers: int = 1,
        batch: int | None = None,
        on_error: ErrorPolicy = STOP,
        after: After = 0,
    ) -> None:
        """Have a handler called for events, until this runtime is closed; see `Runtime.subscribe`.

        A plain function is called in a thread of its own, where it may use this runtime.
        """

        async def subscribe() -> None:
            self._runtime.subscribe(
                name,
                handler,
                aggregates=aggregates,
                streams=streams,
                types=types,
                partition_by=partition_by,
                workers=workers,
                batch=batch,
                on_error=on_error,
                after=after,
            )

        self._portal.call(subscribe())

    def parked(self, consumer: str) -> list[Parked]:
        """What a consumer has set aside; see `Runtime.parked`."""
        return self._portal.call(self._runtime.parked(consumer))

    def replay(self, consumer: str, key: str | None = None) -> int:
        """Handle what is parked; see `Runtime.replay`."""
        return self._portal.call(self._runtime.replay(consumer, key))

    def drop(self, consumer: str, key: str | None = None) -> int:
        """Forget what is parked; see `Runtime.drop`."""
        return self._portal.call(self._runtime.drop(consumer, key))

    def statistics(self) -> Statistics:
        """Counts of what runs and of what has been done."""
        return self._portal.call(self._statistics())

    async def _statistics(self) -> Statistics:
        return self._runtime.statistics()
