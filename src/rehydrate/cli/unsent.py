"""Commands that a process manager is still to send: whether the code of today can read them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from rehydrate.codec.process import CANCELLED, DUE, SENT, Cancelled, Due, Sent
from rehydrate.errors import UndecodableCommandError
from rehydrate.runtime.parking import list_parked
from rehydrate.runtime.process import Instances
from rehydrate.store.port import Store, StoredEvent

_RECORDS: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    SENT: msgspec.json.Decoder(Sent),
    CANCELLED: msgspec.json.Decoder(Cancelled),
    DUE: msgspec.json.Decoder(Due),
}


@dataclass(frozen=True, slots=True)
class SentSoFar:
    """Which commands of a process manager were sent."""

    position: int
    """What was asked for up to there was."""
    parked: Collection[int]
    """But for what was asked for at these positions."""

    @classmethod
    async def of(cls, store: Store, process: str) -> SentSoFar:
        """As it is written down beside the events."""
        sends = f"{process}:sends"
        checkpoint = await store.load_checkpoint(sends)
        parked = await list_parked(store, sends)
        return cls(
            position=0 if checkpoint is None else checkpoint.position,
            parked={one.position for one in parked},
        )

    def has(self, event: StoredEvent) -> bool:
        """Whether what this event asks for was sent."""
        return event.position <= self.position and event.position not in self.parked


class Unsent:
    """Of one instance, in the order of its events."""

    def __init__(self, instances: Instances, so_far: SentSoFar) -> None:
        self._instances = instances
        self._so_far = so_far
        self._timers: dict[int, tuple[StoredEvent, Sent]] = {}
        """Those that are pending, by number."""
        self._asked: list[tuple[StoredEvent, Sent | Due]] = []
        """What is to be sent at once."""

    def add(self, events: Sequence[StoredEvent]) -> None:
        """The next events of the stream."""
        for event in events:
            if (decoder := _RECORDS.get(event.type)) is None:
                continue
            try:
                record: Sent | Cancelled | Due = decoder.decode(event.data)
            except msgspec.MsgspecError:
                # Whoever folds the stream says so.
                continue
            if isinstance(record, Sent) and record.due is not None:
                self._timers[record.number] = event, record
                continue
            self._timers.pop(record.number, None)
            if not isinstance(record, Cancelled) and not self._so_far.has(event):
                self._asked.append((event, record))

    def problems(self) -> list[str]:
        """What cannot be read, each with its place."""
        found: list[str] = []
        for event, asked in [*self._asked, *self._timers.values()]:
            try:
                self._instances.command(asked.aggregate, asked.type, bytes(asked.command))
            except UndecodableCommandError as error:
                due = f", due {_moment(asked.due)}" if isinstance(asked, Sent) and asked.due else ""
                found.append(f"version {event.version}, still to be sent{due}: {error}")
        return found


def _moment(microseconds: int) -> str:
    try:
        return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(" ", "seconds")
    except (ValueError, OverflowError, OSError):
        return f"{microseconds / 1e6:.0f} seconds after 1970"
