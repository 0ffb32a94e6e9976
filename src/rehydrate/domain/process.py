"""What a user declares: a process manager, the mirror of an aggregate. Events go in, commands to send come out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from rehydrate.domain.aggregate import Aggregate, Snapshot, check_initial, check_is_aggregate, check_takes
from rehydrate.domain.envelope import EventEnvelope
from rehydrate.domain.policy import STOP, ErrorPolicy, Park, Retry, Skip, Stop, is_whole
from rehydrate.domain.projection import Source
from rehydrate.domain.rejection import Rejection
from rehydrate.domain.streams import check_aggregate_name, stream_name
from rehydrate.domain.subscription import NEWEST, After
from rehydrate.errors import ConfigurationError

S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E")


@dataclass(frozen=True, slots=True, init=False)
class Send:
    """A command to send, as a value: `react` returns it, and Rehydrate sends it once, whatever crashes meanwhile.

    With `after` or `at` it is a timer: the command is sent when its time has come, also if nothing ran then. Where a
    timer of the same `name` is pending in this instance, this one takes its place.

    Raises `ConfigurationError` for a time that cannot be one.
    """

    aggregate: Aggregate[Any, Any, Any]
    id: str
    command: Any
    after: timedelta | None
    at: datetime | None
    name: str | None

    def __init__(
        self,
        aggregate: Aggregate[Any, C, Any],
        id: str,
        command: C,
        *,
        after: timedelta | None = None,
        at: datetime | None = None,
        name: str | None = None,
    ) -> None:
        """Say what to send, and when.

        Args:
            aggregate: Whose command it is.
            id: Of that aggregate.
            command: What to send.
            after: How long after the event that `react` was given was recorded.
            at: When, with its time zone.
            name: Of the timer, for `Cancel`.
        """
        if after is not None and at is not None:
            raise ConfigurationError("Send(after=, at=): a timer has one time; give one of them")
        if after is not None and not isinstance(after, timedelta):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(
                f"Send(after={after!r}): it must be a timedelta; write timedelta(seconds=...)"
            )
        if at is not None and not isinstance(at, datetime):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"Send(at={at!r}): it must be a datetime with its time zone")
        if at is not None and at.utcoffset() is None:
            raise ConfigurationError(f"Send(at={at!r}): it has no time zone; write datetime(..., tzinfo=UTC)")
        if name is not None and after is None and at is None:
            raise ConfigurationError(
                f"Send(name={name!r}): a name is for a timer, so that it can be cancelled; give after= or at= too"
            )
        for field, value in (
            ("aggregate", aggregate),
            ("id", id),
            ("command", command),
            ("after", after),
            ("at", at),
            ("name", name),
        ):
            object.__setattr__(self, field, value)

    @property
    def is_timer(self) -> bool:
        """Whether it is sent later."""
        return self.after is not None or self.at is not None


@dataclass(frozen=True, slots=True)
class Cancel:
    """Forget the pending timer of that name, if this instance has one: its command is not sent."""

    name: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """A `Send` was refused, and nothing of it was stored: given to `evolve` and `react` like an event."""

    send: Send
    """What was sent; without `after`, `at` and `name`."""
    rejection: Rejection
    """The refusal of the domain, with its facts as JSON has them; or `Undeliverable`."""


class Undeliverable(Rejection):
    """A `Send` that failed in a way that no repeat would mend: its facts are the `error`, by name, and its `reason`."""


# Without slots: `ProcessManager[State, Event](...)` has to be told its type parameters.
@dataclass(frozen=True, kw_only=True, eq=False)
class ProcessManager(Generic[S, E]):
    """What follows from events: per instance a state, folded from events, and the commands that they lead to.

    `correlate(envelope)` says to which instance an event belongs, or None. `evolve(state, event)` returns the next state;
    then `react(state, event)` returns or yields a `Send` for each command that follows, and `Cancel`s of timers. All
    three are pure. The event is one of the sources', or a `Rejected`.

    Raises `ConfigurationError` when a field cannot work; the rest is checked when the `App` is built.
    """

    name: str
    """Part of each instance's stream (`"<name>-<id>"`), so without `-`, and data. Aggregates have no such name."""
    initial: S
    """The state of an instance without events: a frozen value."""
    correlate: Callable[[EventEnvelope[E]], str | None]
    evolve: Callable[[S, E | Rejected], S]
    react: Callable[[S, E | Rejected], Iterable[Send | Cancel]]
    sources: Sequence[Source[E]]
    """The aggregates whose events it gets, in the order in which they were stored."""
    snapshot: Snapshot | None = None
    """For instances that live long."""
    on_error: ErrorPolicy = STOP
    """What becomes of an event that `correlate`, `evolve` or `react` fails at. What is parked holds back its instance."""
    after: After = 0
    """Where it begins when it has no place yet: at the first event, or behind this position; or `NEWEST`, so that it does
    not act on what happened before it was declared."""

    def __post_init__(self) -> None:
        try:
            check_aggregate_name(self.name)
        except ConfigurationError as error:
            raise ConfigurationError(str(error).replace("an aggregate", "a process manager", 1)) from None
        check_initial(f"process manager {self.name!r}", self.initial, "instances")
        for role in ("correlate", "evolve", "react"):
            function = getattr(self, role)
            is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
            if not callable(function) or is_async:
                raise self._refused(f"{role} must be a plain function")
            given = ("envelope",) if role == "correlate" else ("state", "event")
            check_takes(f"process manager {self.name!r}", role, function, *given)
        if isinstance(self.sources, Aggregate) or not self.sources:
            raise self._refused("sources must be a list of at least one aggregate")
        for source in self.sources:
            check_is_aggregate(f"process manager {self.name!r}", source)
        if self.snapshot is not None and not isinstance(self.snapshot, Snapshot):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise self._refused(f"snapshot={self.snapshot!r} must be a Snapshot")
        if not isinstance(self.on_error, Stop | Skip | Park | Retry):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise self._refused(f"on_error={self.on_error!r} must be Stop(), Skip(), Park() or Retry()")
        if self.after != NEWEST and not is_whole(self.after, at_least=0):
            raise self._refused(f"after={self.after!r} must be a position, or NEWEST")

    def stream(self, id: str) -> str:
        """The name of the stream of one instance."""
        return stream_name(self.name, id)

    def _refused(self, reason: str) -> ConfigurationError:
        return ConfigurationError(f"process manager {self.name!r}: {reason}")
