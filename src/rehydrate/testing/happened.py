"""What has happened before a test begins: events as they come back from a store, and the log that they are in."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from rehydrate.codec.aggregate import AggregateCodecs
from rehydrate.codec.json import JsonCodec
from rehydrate.domain.aggregate import Aggregate, check_is_aggregate
from rehydrate.domain.codec import Codec
from rehydrate.domain.envelope import Scalar, microseconds_of
from rehydrate.domain.streams import check_id
from rehydrate.errors import ConfigurationError
from rehydrate.runtime.given import encode_metadata
from rehydrate.store.port import StoredEvent
from rehydrate.testing.checks import come_back
from rehydrate.testing.clock import FakeClock
from rehydrate.testing.failures import undeclared

E = TypeVar("E")


@dataclass(frozen=True, slots=True, init=False, eq=False)
class Happened:
    """Events that one command of an aggregate has stored: what `given` folds into the views of a projection.

    Raises `InvalidIdError` and `ConfigurationError` for what could not be stored so.
    """

    aggregate: Aggregate[Any, Any, Any]
    stream: str
    events: tuple[Any, ...]
    recorded_at: datetime | None
    command_id: str | None
    correlation_id: str | None
    causation_id: str | None
    metadata: Mapping[str, Scalar] | None

    def __init__(
        self,
        aggregate: Aggregate[Any, Any, E],
        id: str,
        event: E,
        /,
        *more: E,
        recorded_at: datetime | None = None,
        command_id: str | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        metadata: Mapping[str, Scalar] | None = None,
    ) -> None:
        """Say what happened, and as far as it matters when, and why.

        Args:
            aggregate: Whose events these are.
            id: Of that aggregate.
            event: What happened.
            more: What else happened, by the same command.
            recorded_at: When the store wrote it, with its time zone; if not given, when it wrote what happened before.
            command_id: Of the command; if not given, one is made up.
            correlation_id: As given to `dispatch`.
            causation_id: As given to `dispatch`.
            metadata: As given to `dispatch`.
        """
        check_is_aggregate("Happened", aggregate)
        check_id(id)
        if recorded_at is not None and recorded_at.utcoffset() is None:
            raise ConfigurationError(
                f"Happened(recorded_at={recorded_at!r}): it has no time zone; write datetime(..., tzinfo=UTC)"
            )
        if command_id is not None:
            check_id(command_id, "command id")
        for field, value in (
            ("aggregate", aggregate),
            ("stream", aggregate.stream(id)),
            ("events", (event, *more)),
            ("recorded_at", recorded_at),
            ("command_id", command_id),
            ("correlation_id", correlation_id),
            ("causation_id", causation_id),
            ("metadata", metadata),
        ):
            object.__setattr__(self, field, value)


class Events:
    """The events of one aggregate, on their way to the store and back."""

    def __init__(self, name: str, codec: Codec) -> None:
        self._name = name
        self.codec = codec

    def stored(self, event: Any, origin: str) -> Any:
        """An event as it comes back."""
        __tracebackhide__ = True
        self.check_declared(event, origin)
        codec = self.codec

        def encode(event: Any) -> bytes:
            data = codec.encode(event)
            if isinstance(codec, JsonCodec) and (check := codec.exact.get(event.__class__)):
                # Raises for what comes back equal, and still is not what the class declares.
                check(event)
            return data

        what = f"{self._name}: the {origin} event {event!r}"
        return come_back(what, event, encode, codec.decoders[codec.names[type(event)]])

    def check_declared(self, event: object, origin: str) -> None:
        __tracebackhide__ = True
        if type(event) not in self.codec.names:
            raise AssertionError(undeclared(self._name, f"{origin} event", event, self.codec.names))


class Log:
    """The events of all streams so far, counted as a store counts them."""

    def __init__(self) -> None:
        self._aggregates: dict[str, tuple[Aggregate[Any, Any, Any], AggregateCodecs]] = {}
        self._versions: dict[str, int] = {}
        self._position = 0
        self._commands = 0
        self._recorded_at = FakeClock().wall()

    def copy(self) -> Log:
        """One that goes on from here, and leaves this one as it is."""
        other = copy.copy(self)
        other._versions = dict(self._versions)
        return other

    @property
    def aggregates(self) -> set[str]:
        """The names of those that have events."""
        return {stream.partition("-")[0] for stream in self._versions}

    @property
    def now(self) -> int:
        """When the last event was recorded, in microseconds since 1970."""
        return self._recorded_at

    def codecs_of(self, aggregate: Aggregate[Any, Any, Any]) -> AggregateCodecs:
        """The codecs of an aggregate. Raises `ConfigurationError` where another one has its name."""
        if aggregate.name not in self._aggregates:
            self._aggregates[aggregate.name] = aggregate, AggregateCodecs.of(aggregate)
        known, codecs = self._aggregates[aggregate.name]
        if known is not aggregate:
            raise ConfigurationError(
                f"two aggregates are named {aggregate.name!r}: a name is the key to its streams"
            )
        return codecs

    def append(self, reader: str, happened: Happened) -> Iterable[StoredEvent]:
        """Store what happened, in order, for a projection or process manager of that name."""
        __tracebackhide__ = True
        # Not every test is type-checked.
        if not isinstance(happened, Happened):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise AssertionError(
                f"{reader}: {happened!r} does not say where it happened; write Happened(aggregate, id, event)"
            )
        name, stream = happened.aggregate.name, happened.stream
        events = Events(name, self.codecs_of(happened.aggregate).events)
        self._commands += 1
        metadata = encode_metadata(
            happened.command_id or f"command-{self._commands}",
            happened.correlation_id,
            happened.causation_id,
            happened.metadata,
        )
        if happened.recorded_at is not None:
            self._recorded_at = microseconds_of(happened.recorded_at)
        for event in happened.events:
            events.stored(event, "given")
            self._position += 1
            self._versions[stream] = self._versions.get(stream, 0) + 1
            yield StoredEvent(
                stream=stream,
                version=self._versions[stream],
                position=self._position,
                id=f"event-{self._position}",
                type=events.codec.names[type(event)],
                data=events.codec.encode(event),
                metadata=metadata,
                recorded_at=self._recorded_at,
            )
