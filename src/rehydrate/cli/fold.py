"""What the code of an App makes of a stream: whether its events decode and fold, and its snapshot equals the fold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from rehydrate.cli.misfit import why_misfit
from rehydrate.codec.aggregate import AggregateCodecs
from rehydrate.codec.beginning import Beginning
from rehydrate.codec.upcast import UpcastError
from rehydrate.domain.aggregate import Aggregate
from rehydrate.errors import UnknownEventError
from rehydrate.store.port import StoredEvent, StoredSnapshot


class Fold:
    """Folds the events of one stream, as many as come, and keeps the first thing that goes wrong."""

    def __init__(
        self, aggregate: Aggregate[Any, Any, Any], codecs: AggregateCodecs, snapshot: StoredSnapshot | None
    ) -> None:
        self.problems: list[tuple[str, str]] = []
        """What is wrong, and how: of the events only the first, for what follows is folded no more."""
        self._evolve = aggregate.evolve
        self._decoders = codecs.events.decoders
        self._beginning = Beginning(repr(aggregate.name), aggregate.initial, "evolve")
        self._state = self._beginning.new()
        self._snapshot: StoredSnapshot | None = None
        self._saved: Any = None
        self._version = 0
        self._is_broken = False
        if snapshot is not None:
            self._take(aggregate, codecs, snapshot)

    def add(self, events: Sequence[StoredEvent]) -> None:
        """Fold the next events of the stream."""
        for event in events:
            if self._is_broken:
                return
            self._add(event)

    def end(self) -> None:
        """The stream has ended."""
        if not self._is_broken and self._beginning.is_changed():
            self._break(self._beginning.why)
        if not self._is_broken and self._snapshot is not None and self._snapshot.version > self._version:
            self._wrong_snapshot(f"the stream ends at version {self._version}")

    def _take(
        self, aggregate: Aggregate[Any, Any, Any], codecs: AggregateCodecs, snapshot: StoredSnapshot
    ) -> None:
        """Remember the snapshot, unless the code of today ignores it: it is then of another shape."""
        policy, codec = aggregate.snapshot, codecs.state
        if policy is None or codec is None:
            return
        if (snapshot.schema, snapshot.fingerprint) != (policy.schema, codec.fingerprint):
            return
        self._snapshot = snapshot
        try:
            self._saved = codec.decode(snapshot.data)
        except Exception as error:  # noqa: BLE001 - whatever the user's classes raise
            self._wrong_snapshot(f"it cannot be decoded: {_described(error)}")
            self._snapshot = None

    def _add(self, event: StoredEvent) -> None:
        if event.type not in self._decoders:
            unknown = UnknownEventError(event.type, tuple(sorted(self._decoders)))
            self._break(f"version {event.version}: {unknown}")
            return
        try:
            decoded = self._decoders[event.type](event.data)
        except Exception as error:  # noqa: BLE001 - whatever the user's classes raise
            self._break(f"version {event.version} ({event.type}) cannot be decoded: {_described(error)}")
            return
        try:
            self._state = self._evolve(self._state, decoded)
        except Exception as error:  # noqa: BLE001 - whatever the user's code raises
            self._break(f"version {event.version} ({event.type}) cannot be folded: {_described(error)}")
            return
        self._version = event.version
        if self._snapshot is not None and event.version == self._snapshot.version:
            self._compare(event, self._snapshot)

    def _compare(self, event: StoredEvent, snapshot: StoredSnapshot) -> None:
        if (snapshot.event_id, snapshot.position) != (event.id, event.position):
            self._wrong_snapshot("the stream holds another event at that version")
        elif self._saved != self._state:
            self._wrong_snapshot("it differs from the fold of the events")

    def _wrong_snapshot(self, why: str) -> None:
        assert self._snapshot is not None
        self.problems.append(("snapshot", f"the snapshot of version {self._snapshot.version}: {why}"))

    def _break(self, why: str) -> None:
        self._is_broken = True
        self.problems.append(("event", why))


def _described(error: Exception) -> str:
    if isinstance(error, UpcastError):
        return str(error)
    return (
        why_misfit(error) if isinstance(error, msgspec.MsgspecError) else f"{type(error).__name__}: {error}"
    )
