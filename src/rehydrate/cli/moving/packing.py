"""Events in the order of a log become appends, and appends become batches that may be sent together.

What lies side by side in one stream becomes one append, and never ends inside what one command stored. A batch holds
each stream once, so that a store may commit it in one go and in its order. Nothing here waits or asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from rehydrate.store.port import Capabilities, NewEvent, StoredEvent

MAX_BATCH_APPENDS: Final = 64
MAX_BATCH_BYTES: Final = 8 * 1024 * 1024
"""So little that every store commits it in one go: of two commits the first could fail, and the second not. A single
append may have more bytes."""


class _Maker(msgspec.Struct, frozen=True, gc=False):
    """What the metadata of an event says about the command that made it."""

    command_id: str = ""


_decode_maker: Final = msgspec.json.Decoder(_Maker).decode


class Parcel(msgspec.Struct, gc=False):
    """An append to be."""

    stream: str
    expected_version: int
    events: list[NewEvent]
    size: int
    """Bytes of data and metadata."""
    place: int
    """The position of its first event, where it comes from."""


class Packer:
    """Packs what it is given, page after page, within what the destination takes."""

    def __init__(self, capabilities: Capabilities) -> None:
        self._max_events = capabilities.max_append_events
        self._max_bytes = capabilities.max_append_bytes
        self._unit: list[StoredEvent] = []
        """The newest events, of one command: the next page may begin with more of them."""
        self._unit_bytes = 0
        self._maker = ""
        self._batch: dict[str, Parcel] = {}
        self._last: Parcel | None = None
        self._batch_bytes = 0

    def add(self, events: Sequence[StoredEvent]) -> Iterator[list[Parcel]]:
        """Take in the next events of the log; the batches that are full."""
        for event in events:
            maker, size = _maker_of(event), _size(event)
            if self._unit and not (self._is_continued_by(event, maker) and self._has_room_for(size)):
                yield from self._place()
            self._unit.append(event)
            self._unit_bytes += size
            self._maker = maker

    def finish(self) -> Iterator[list[Parcel]]:
        """The log has ended: what is left."""
        if self._unit:
            yield from self._place()
        if self._batch:
            yield self._full()

    def _is_continued_by(self, event: StoredEvent, maker: str) -> bool:
        """Whether the command of the newest events stored this one as well."""
        previous = self._unit[-1]
        return (
            maker != ""
            and maker == self._maker
            and event.stream == previous.stream
            and event.version == previous.version + 1
        )

    def _has_room_for(self, size: int) -> bool:
        """Whether the destination takes the newest events and one more as one append: else they are divided there."""
        return len(self._unit) < self._max_events and self._unit_bytes + size <= self._max_bytes

    def _place(self) -> Iterator[list[Parcel]]:
        """Put the newest events into the batch."""
        events, size = self._unit, self._unit_bytes
        self._unit, self._unit_bytes = [], 0
        yield from self._put(events, size)

    def _put(self, events: Sequence[StoredEvent], size: int) -> Iterator[list[Parcel]]:
        first, last = events[0], self._last
        is_next = (
            last is not None
            and last.stream == first.stream
            and last.expected_version + len(last.events) == first.version - 1
            and len(last.events) + len(events) <= self._max_events
            and last.size + size <= self._max_bytes
        )
        is_too_much = self._batch_bytes + size > MAX_BATCH_BYTES and bool(self._batch)
        if is_too_much or (
            not is_next and (first.stream in self._batch or len(self._batch) == MAX_BATCH_APPENDS)
        ):
            yield self._full()
            is_next = False
        new = [NewEvent(each.id, each.type, each.data, each.metadata, each.recorded_at) for each in events]
        if is_next and last is not None:
            last.events += new
            last.size += size
        else:
            self._last = Parcel(first.stream, first.version - 1, new, size, first.position)
            self._batch[first.stream] = self._last
        self._batch_bytes += size

    def _full(self) -> list[Parcel]:
        batch = list(self._batch.values())
        self._batch, self._last, self._batch_bytes = {}, None, 0
        return batch


def _size(event: StoredEvent) -> int:
    return len(event.data) + len(event.metadata)


def _maker_of(event: StoredEvent) -> str:
    """The command that made an event; empty if that cannot be told."""
    try:
        return _decode_maker(event.metadata).command_id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
