"""The runtime for Django, Flask and scripts: the same core behind blocking calls, from any number of threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from rehydrate.domain.aggregate import Aggregate, HasState
from rehydrate.domain.envelope import CommandResult, EventEnvelope, Scalar
from rehydrate.runtime.portal import Portal
from rehydrate.runtime.runtime import Runtime
from rehydrate.telemetry import Statistics

S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E")


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

    def statistics(self) -> Statistics:
        """Counts of what runs and of what has been done."""
        return self._portal.call(self._statistics())

    async def _statistics(self) -> Statistics:
        return self._runtime.statistics()
