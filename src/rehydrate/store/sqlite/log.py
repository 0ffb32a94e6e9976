"""Appending to the log, inside a transaction that holds the write lock: positions, versions, outcomes."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Final, TypeAlias

from rehydrate.errors import StoreError, StoreSealedError, VersionConflictError
from rehydrate.store.group_commit import Group, Outcome, PendingAppend
from rehydrate.store.known_heads import KnownHeads
from rehydrate.store.port import Appended, StreamEnd
from rehydrate.store.sqlite import schema

_StreamAt: TypeAlias = tuple[int, int, str, tuple[int, ...]]
"""The key and the version of a stream, the id of its last event, and the positions of those that are not in the index of
streams yet, after a 0 if there are others before them; (0, 0, "", ()) for one that is not there.

Of nothing else, so that the garbage collector does not look at what is known of hundreds of thousands of streams."""
_EventRow: TypeAlias = tuple[int, int, int, str, str, bytes, bytes, int, int]
_IndexRow: TypeAlias = tuple[int, int, int]

INDEXED_AT_ONCE: Final = 16
"""When so many more events have come, all of a stream are put into the index. Who reads a stream steps through fewer."""


class Log:
    """The log as its writer knows it: the last position, and the heads of streams.

    What is known holds as long as nobody else commits, which `PRAGMA data_version` tells, and is forgotten whenever
    a transaction does not end well.
    """

    def __init__(self, store: str) -> None:
        self._store = store
        self._heads = KnownHeads[_StreamAt]()
        self._position = 0
        self._stream = 0
        """The key that was given out last."""
        self._data_version: int | None = None
        self._ends_known = False
        self._sealed = 0
        self.is_shared = False
        """Whether somebody else has committed just before."""

    def forget(self) -> None:
        """Know nothing more."""
        self._data_version = None

    def refresh(self, connection: sqlite3.Connection) -> None:
        """Forget what is known if anybody else has committed since."""
        (data_version,) = connection.execute(schema.DATA_VERSION).fetchone()
        self.is_shared = self._data_version is not None and data_version != self._data_version
        if data_version != self._data_version:
            self._heads.clear()
            self._ends_known = False
            self._data_version = data_version

    def ends(self, connection: sqlite3.Connection, streams: Sequence[str]) -> list[StreamEnd]:
        """The last event of each stream, as of now."""
        self.refresh(connection)
        found = [self._heads.get(stream) or self._find(connection, stream) for stream in streams]
        return [StreamEnd(version, event_id) for _, version, event_id, _ in found]

    def append(self, connection: sqlite3.Connection, group: Group, now: int) -> list[Outcome]:
        """Insert what may be inserted of a group; the caller holds the lock, and commits."""
        self.refresh(connection)
        if not self._ends_known:
            (self._position,) = connection.execute(schema.LAST_POSITION).fetchone()
            (self._stream,) = connection.execute(schema.LAST_STREAM).fetchone()
            (self._sealed,) = connection.execute(schema.IS_SEALED).fetchone()
            self._ends_known = True
        heads = self._heads
        outcomes: list[Outcome] = []
        rows: list[_EventRow] = []
        new_streams: list[tuple[int, str]] = []
        to_index: dict[str, list[int]] = {}
        for append in group:
            stream = append.stream
            key, version, event_id, behind = heads.get(stream) or self._find(connection, stream)
            expected = append.expected_version
            if version != expected:
                outcomes.append(
                    _repeated(connection, append, version)
                    or self._refusal(VersionConflictError(stream, expected, version))
                )
                continue
            if self._sealed:
                outcomes.append(StoreSealedError(self._store))
                continue
            if append.last_id and event_id and append.last_id != event_id:
                outcomes.append(VersionConflictError(stream, version, version, is_another_history=True))
                continue
            if key == 0:
                self._stream = key = self._stream + 1
                new_streams.append((key, stream))
            position = self._position
            previous = behind[-1] if behind else 0
            for event in append.events:
                version += 1
                position += 1
                recorded_at = now if event.recorded_at is None else event.recorded_at
                rows.append(
                    (
                        position,
                        key,
                        version,
                        event.id,
                        event.type,
                        event.data,
                        event.metadata,
                        recorded_at,
                        previous,
                    )
                )
                previous = position
            new = range(self._position + 1, position + 1)
            if stream in to_index:
                to_index[stream] += new
                behind = (position,)
            elif version // INDEXED_AT_ONCE > expected // INDEXED_AT_ONCE:
                to_index[stream] = [*behind, *new]
                behind = (position,)
            else:
                behind = (*behind, *new)
            heads.put(stream, (key, version, append.events[-1].id, behind))
            self._position = position
            outcomes.append(Appended(version, position))
        _add(connection, schema.ADD_STREAM, new_streams)
        _add(connection, schema.ADD_EVENT, rows)
        self._index(connection, to_index)
        return outcomes

    def _index(self, connection: sqlite3.Connection, streams: dict[str, list[int]]) -> None:
        """Put these positions into the index, with all that lead to them: what is behind the index of these streams."""
        rows: list[_IndexRow] = []
        for stream, positions in streams.items():
            if positions[0] == 0:
                first = positions[1]
                positions[:2] = [at for (at,) in connection.execute(schema.LEADING_TO, (first,))]
            key, version, event_id, _ = self._heads.get(stream) or self._find(connection, stream)
            rows += [(key, indexed, at) for indexed, at in enumerate(positions, version - len(positions) + 1)]
            self._heads.put(stream, (key, version, event_id, ()))
        _add(connection, schema.ADD_INDEXED, rows)

    def _refusal(self, conflict: VersionConflictError) -> StoreError:
        """Whoever is told of a conflict decides again, which a sealed store makes pointless."""
        return StoreSealedError(self._store) if self._sealed else conflict

    def _find(self, connection: sqlite3.Connection, stream: str) -> _StreamAt:
        """Read a head, and know it from now on."""
        try:
            found = connection.execute(schema.FIND_STREAM, (stream,)).fetchone()
        except UnicodeEncodeError:
            return 0, 0, "", ()  # Nothing can be called that.
        key, version, event_id, last = found or (0, 0, "", 0)
        head = key, version, event_id, (0, last) if last else ()
        self._heads.put(stream, head)
        return head


def _add(
    connection: sqlite3.Connection, statement: str, rows: Sequence[tuple[int | str | bytes, ...]]
) -> None:
    """Insert rows, many at a time: between two statements the event loop has the interpreter's lock for a while."""
    for start in range(0, len(rows), schema.MAX_ROWS):
        some = rows[start : start + schema.MAX_ROWS]
        connection.execute(schema.add_rows(statement, len(some)), tuple(chain.from_iterable(some)))


def _repeated(connection: sqlite3.Connection, append: PendingAppend, version: int) -> Appended | None:
    """The first result of an append that stands where it expects to stand."""
    expected = append.expected_version
    if 0 <= expected < version:
        asked = {"stream": append.stream, "after": expected, "limit": len(append.events)}
        there = connection.execute(schema.IDS_OF_STREAM, asked).fetchall()
        if [id for id, _ in there] == [event.id for event in append.events]:
            return Appended(expected + len(there), there[-1][1])
    return None
