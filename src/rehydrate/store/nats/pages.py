"""Pages of events, cut from the messages of appends."""

from __future__ import annotations

from typing import Final

from rehydrate.store.nats.envelope import position_of
from rehydrate.store.nats.history import Entry
from rehydrate.store.port import LogFilter, ReplayPage, StoredEvent

MAX_PAGE_BYTES: Final = 8 * 1024 * 1024
"""A page ends with the event that brings its data and metadata up to this."""
MAX_SCAN: Final = 10_000
"""How many events of the log a page looks at, matched or not."""


class StreamEvents:
    """A page of one stream in the making."""

    def __init__(self, after: int, limit: int) -> None:
        self.events: list[StoredEvent] = []
        self.is_cut = False
        self._after = after
        self._left = limit
        self._bytes = 0

    def take(self, entry: Entry) -> bool:
        """Take what is behind the version of an append; false once the page ends in the middle of it, or before."""
        envelope = entry.envelope
        for index in range(max(0, self._after + 1 - envelope.version), len(envelope.events)):
            if self._left == 0 or self._bytes >= MAX_PAGE_BYTES:
                self.is_cut = True
                return False
            event = envelope.stored(entry.stream, entry.number, index)
            self.events.append(event)
            self._left -= 1
            self._bytes += len(event.data) + len(event.metadata)
        return True

    def may_take(self) -> bool:
        return self._left > 0 and self._bytes < MAX_PAGE_BYTES


class ReplayedEvents:
    """The same with no more than rehydration needs."""

    def __init__(self, after: int, limit: int) -> None:
        self.rows: list[tuple[int, str, bytes]] = []
        self.is_cut = False
        self._after = after
        self._left = limit
        self._bytes = 0
        self._first_id = self._last_id = ""
        self._position = 0

    def take(self, entry: Entry) -> bool:
        envelope = entry.envelope
        version = max(envelope.version, self._after + 1)
        index = version - envelope.version
        events = envelope.events[index : index + self._left]
        if not events:
            self.is_cut = index < len(envelope.events)
            return not self.is_cut
        if not self.rows:
            self._first_id = events[0][0]
        rows = self.rows
        size = self._bytes
        for event in events:
            if size >= MAX_PAGE_BYTES:
                break
            data = event[2]
            rows.append((version, event[1], data))
            size += len(data)
            version += 1
        taken = version - envelope.version - index
        self._bytes = size
        self._left -= taken
        if taken:
            self._last_id = events[taken - 1][0]
            self._position = position_of(entry.number, index + taken - 1)
        self.is_cut = index + taken < len(envelope.events)
        return not self.is_cut

    def may_take(self) -> bool:
        return self._left > 0 and self._bytes < MAX_PAGE_BYTES

    def page(self, *, is_last: bool) -> ReplayPage:
        return ReplayPage(self.rows, self._first_id, self._last_id, self._position, is_last)


class LogEvents:
    """A page of the log in the making."""

    def __init__(self, after: int, limit: int, where: LogFilter | None) -> None:
        self.events: list[StoredEvent] = []
        self.position = after
        self.event_id = ""
        self.is_cut = False
        self._where = where
        self._left = limit
        self._bytes = 0
        self._scanned = 0

    def take(self, entry: Entry) -> bool:
        envelope = entry.envelope
        first = position_of(entry.number, 0)
        for index in range(max(0, self.position + 1 - first), len(envelope.events)):
            if not self.may_take():
                self.is_cut = True
                return False
            id, type, data, metadata, _ = envelope.events[index]
            self._scanned += 1
            if self._where is None or self._where.matches(entry.stream, type):
                self.events.append(envelope.stored(entry.stream, entry.number, index))
                self._left -= 1
                self._bytes += len(data) + len(metadata)
            self.position, self.event_id = first + index, id
        return True

    def may_take(self) -> bool:
        return self._left > 0 and self._bytes < MAX_PAGE_BYTES and self._scanned < MAX_SCAN
