"""What becomes of an event that a consumer fails at. The default is to stop and raise the alarm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from rehydrate.domain.quantities import check_seconds
from rehydrate.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Stop:
    """Stand still at the event, say so in the log and in the statistics, and go on when somebody resumes it."""


STOP: Final = Stop()


@dataclass(frozen=True, slots=True)
class Skip:
    """Leave the event out, with a warning in the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Park:
    """Set the event aside, and the later ones of its key behind it, until somebody replays or drops them."""

    most: int = 10_000
    """How many events may be parked; one more stops the consumer."""

    def __post_init__(self) -> None:
        if not is_whole(self.most, at_least=1):
            raise ConfigurationError(f"Park(most={self.most!r}): it must be at least 1, and an int")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Call the handler again, after pauses that double; then do what `then` says."""

    times: int = 5
    """How often, after the first call."""
    first: float = 0.1
    """Seconds of the first pause."""
    most: float = 30.0
    """Seconds of the longest pause."""
    then: Stop | Skip | Park = STOP

    def __post_init__(self) -> None:
        if not is_whole(self.times, at_least=1):
            raise ConfigurationError(f"Retry(times={self.times!r}): it must be at least 1, and an int")
        for field in ("first", "most"):
            check_seconds(f"Retry: {field}", getattr(self, field))
        if not isinstance(self.then, Stop | Skip | Park):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"Retry(then={self.then!r}): write Stop(), Skip() or Park()")


ErrorPolicy: TypeAlias = Stop | Skip | Park | Retry


def is_whole(value: object, *, at_least: int) -> bool:
    """Whether this is an int that is not below another; not every caller is type-checked."""
    return isinstance(value, int) and value >= at_least
