"""The one message of an append: all of its events, with the version of the first. Its position is where it lies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from rehydrate.errors import CorruptStoreError
from rehydrate.store.port import NewEvent, StoredEvent

MAX_EVENTS: Final = 4_096
"""Of one append; so many positions has each message."""
FORMAT: Final = 1


class Envelope(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The events of an append as they lie in a message."""

    format: int
    version: int
    """Of the first event."""
    events: list[tuple[str, str, bytes, bytes, int]]
    """Id, type, data, metadata and time of each."""

    @property
    def last_version(self) -> int:
        return self.version + len(self.events) - 1

    @property
    def last_id(self) -> str:
        return self.events[-1][0]

    def is_of(self, events: Sequence[NewEvent]) -> bool:
        """Whether these are the events of which it was made."""
        return [one[0] for one in self.events] == [event.id for event in events]

    def stored(self, stream: str, number: int, index: int) -> StoredEvent:
        """One of its events, as it lies in the log."""
        id, type, data, metadata, recorded_at = self.events[index]
        return StoredEvent(
            stream,
            self.version + index,
            position_of(number, index),
            id,
            type,
            data,
            metadata,
            recorded_at,
        )


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Envelope).decode


def position_of(number: int, index: int) -> int:
    """The position of an event: JetStream numbers the messages, and the envelope its events."""
    return number * MAX_EVENTS + index


def pack(events: Sequence[NewEvent], first_version: int, now: int) -> bytes:
    """The message of an append."""
    return _encode(
        (
            FORMAT,
            first_version,
            [
                (
                    event.id,
                    event.type,
                    event.data,
                    event.metadata,
                    now if event.recorded_at is None else event.recorded_at,
                )
                for event in events
            ],
        )
    )


def unpack(data: bytes, where: str) -> Envelope:
    """The events of a message; raises `CorruptStoreError` for what is none of ours."""
    try:
        envelope = _decode(data)
    except msgspec.DecodeError as error:
        raise CorruptStoreError(f"{where} is no message of Rehydrate: {error}") from error
    if envelope.format != FORMAT or not envelope.events:
        raise CorruptStoreError(
            f"{where} was written by another Rehydrate (format {envelope.format}): upgrade Rehydrate"
        )
    return envelope
