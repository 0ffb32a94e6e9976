"""A group on its way to the server, which can be made ready while the one before it is still being written.

The server has nothing to do from the moment it has answered a group until the next one arrives. So what of the next one is
there by then is made ready earlier, as if the one before it were stored already: its events get the positions behind those, and
its streams are taken to end where those leave them. `is_behind` tells whether that has come true; if not, it is thrown away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from rehydrate.store.group_commit import Outcome, PendingAppend
from rehydrate.store.known_heads import KnownHeads
from rehydrate.store.port import Appended
from rehydrate.store.postgres.json_text import json_text
from rehydrate.store.postgres.reader import within


class Row(msgspec.Struct, array_like=True, eq=False, gc=False):
    """An event as the procedures take it: not as a tuple, of which a few hundred would set off the garbage collector."""

    stream: str
    version: int
    id: str
    type: str
    data: bytes
    metadata: bytes
    recorded_at: int
    first: int
    """The position of its stream's first event; -n if the nth of those that must be there tells."""


class Known(msgspec.Struct, frozen=True, gc=False):
    """What a writer knows of a stream."""

    version: int
    event_id: str
    first: int
    """The position of its first event, 0 if that is not known."""


class Draft:
    """What a group comes to if every append in it stands where it expects to stand."""

    __slots__ = (
        "_appends",
        "_before",
        "_heads",
        "_pieces",
        "_start",
        "last_id",
        "must_be_there",
        "new_heads",
        "outcomes",
        "position",
        "rows",
    )

    def __init__(
        self,
        heads: KnownHeads[Known],
        position: int,
        last_id: str,
        before: Mapping[str, Known] | None = None,
    ) -> None:
        self._heads = heads
        self._before = before or {}
        """Where the group that is under way leaves its streams."""
        self._start = (position, last_id)
        self._appends: list[PendingAppend] = []
        self._pieces: list[str] = []
        self.position = position
        """Of its last event, and the id of that."""
        self.last_id = last_id
        self.rows: list[Row] = []
        """Those that are not encoded yet."""
        self.must_be_there: list[tuple[str, int, str, int]] = []
        """Events that nobody here knows to be there, or not the first ones of their streams: the procedure's `expected`."""
        self.new_heads: dict[str, Known] = {}
        self.outcomes: list[Outcome] = []

    def is_behind(self, position: int, last_id: str, group: Sequence[PendingAppend]) -> bool:
        """Whether it was begun behind that event, and with appends that this group begins with."""
        return self._start == (position, last_id) and group[: len(self._appends)] == self._appends

    def take(self, group: Sequence[PendingAppend], now: int) -> bool:
        """Those of the group that it does not have yet; false if one of them is a conflict or a repeat."""
        before, known_end = self._before, self._heads.get
        rows, outcomes, new_heads, position = self.rows, self.outcomes, self.new_heads, self.position
        appends = group[len(self._appends) :] if self._appends else group
        for append in appends:
            stream, version = append.stream, append.expected_version
            known = before.get(stream) or known_end(stream)
            if known is not None and (
                version < known.version
                or (version == known.version and append.last_id and append.last_id != known.event_id)
            ):
                return False
            if not version:
                first = position + 1
            elif known is None or version > known.version or not known.first:
                self.must_be_there.append((stream, version, append.last_id, within(append.last_position)))
                first = -len(self.must_be_there)
            else:
                first = known.first
            event_id = ""
            for event in append.events:
                version += 1
                event_id = event.id
                at = now if event.recorded_at is None else event.recorded_at
                rows.append(Row(stream, version, event_id, event.type, event.data, event.metadata, at, first))
            position += len(append.events)
            outcomes.append(Appended(version, position))
            new_heads[stream] = Known(version, event_id, max(first, 0))
        self.position = position
        self.last_id = new_heads[appends[-1].stream].event_id if appends else self.last_id
        self._appends += appends
        return True

    def encode(self) -> None:
        """Make ready what it has."""
        if self.rows:
            self._pieces.append(json_text(self.rows))
            self.rows.clear()

    def text(self) -> str:
        """All its rows."""
        self.encode()
        if len(self._pieces) == 1:
            return self._pieces[0]
        return f"[{','.join([piece[1:-1] for piece in self._pieces])}]"

    def learn(self, firsts: Sequence[int]) -> None:
        """The positions of the first events of the streams of those that had to be there."""
        for (stream, *_), first in zip(self.must_be_there, firsts, strict=True):
            end = self.new_heads[stream]
            self.new_heads[stream] = Known(end.version, end.event_id, first)

    @property
    def is_one_event(self) -> bool:
        """Whether it is a single event, of a stream whose end is known, and not encoded yet."""
        return len(self.rows) == 1 and not self._pieces and not self.must_be_there
