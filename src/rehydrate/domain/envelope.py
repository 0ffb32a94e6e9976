"""What comes back: the result of a command, and events with all that is known about them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, Generic, TypeAlias, TypeVar

import msgspec

E = TypeVar("E", covariant=True)

Scalar: TypeAlias = str | int | float | bool | None
"""What a user's own metadata fields may hold."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class CommandResult(msgspec.Struct, Generic[E], frozen=True, gc=False):
    """A command that was accepted, and what it stored."""

    version: int
    """The version of the command's last event; without events, of the stream's last, 0 if the stream is empty."""
    position: int
    """The position of that event in the store; wait for it to read your own write."""
    events: tuple[E, ...]
    """The events of this command, in order."""


class Metadata(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """What an event tells about the command that made it; stored beside the event as JSON."""

    command_id: str = ""
    """The retry identity of the command; empty for events that no command made."""
    correlation_id: str | None = None
    """The conversation that the command belongs to; absent where the command began it."""
    causation_id: str | None = None
    """What caused the command: the id of an event or of another command."""
    fingerprint: str | None = None
    """A digest of the command, kept where the caller gave the id."""
    user: dict[str, Scalar] | None = None
    """The caller's own fields."""


class EventEnvelope(msgspec.Struct, Generic[E], frozen=True, gc=False, kw_only=True):
    """A stored event, decoded, with its place and its origin."""

    event: E
    id: str
    type: str
    """The stored name."""
    stream: str
    version: int
    position: int
    recorded_at: datetime
    """When the store wrote it, UTC: `moment`. For people: order is by position only."""
    metadata: Metadata

    @property
    def aggregate(self) -> str:
        """The name of the aggregate whose event this is."""
        return self.stream.partition("-")[0]

    @property
    def aggregate_id(self) -> str:
        """The id of that aggregate, as it was given to `dispatch`."""
        return self.stream.partition("-")[2]


def moment(microseconds: int) -> datetime:
    """So long after 1970, UTC. What no `datetime` can say is the nearest that it can: no time makes an event unreadable."""
    try:
        return _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        nearest = datetime.max if microseconds > 0 else datetime.min  # noqa: DTZ901 - it gets its zone below
        return nearest.replace(tzinfo=UTC)


def microseconds_of(moment: datetime) -> int:
    """How long after 1970 a moment is that has a time zone: the other way."""
    return (moment - _EPOCH) // timedelta(microseconds=1)
