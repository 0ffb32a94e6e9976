"""Which commands a stream has seen: the ids in the metadata of its newest events, kept by an actor on demand.

What is asked for beyond them is read back once, and leaves a trail.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rehydrate.domain.envelope import Metadata
from rehydrate.errors import CorruptStoreError
from rehydrate.runtime.limits import WINDOW_EVENTS
from rehydrate.runtime.trail import Trail
from rehydrate.store.port import StoredEvent

_decode = msgspec.json.Decoder(Metadata).decode


def metadata_in(event: StoredEvent) -> Metadata:
    """What an event tells about the command that made it.

    Raises `CorruptStoreError` for metadata that is not such.
    """
    try:
        return _decode(event.metadata)
    except msgspec.MsgspecError as error:
        raise CorruptStoreError(
            f"{event.stream} version {event.version}: unreadable metadata: {error}"
        ) from error


def _metadata_or_none(event: StoredEvent) -> Metadata:
    """As `metadata_in`; what cannot be read names no command, and must not keep later ones from being recognised."""
    try:
        return metadata_in(event)
    except CorruptStoreError:
        return Metadata()


def command_id_of(event: StoredEvent) -> str:
    """The command that made an event; empty if that cannot be told."""
    return _metadata_or_none(event).command_id


def command_id_in(metadata: bytes) -> str:
    """The command that this is of."""
    return _decode(metadata).command_id


class Seen(msgspec.Struct, frozen=True, gc=False):
    """A command that a stream has stored events of."""

    first: int
    """The version of its first event."""
    last: int
    digest: str | None


def seen_in(event: StoredEvent) -> Seen:
    """The command that an event is the last of, as far as this event tells."""
    return Seen(event.version, event.version, _metadata_or_none(event).fingerprint)


class Window:
    """The commands of all events after version `since`, at least the last 1,024 events once it has been loaded.

    Two generations: the young one takes what comes; when it holds 1,024 events it becomes the old one and the old
    one is forgotten, so nothing is ever deleted one by one.
    """

    __slots__ = (
        "_old",
        "_young",
        "_young_since",
        "_young_since_position",
        "since",
        "since_position",
        "trail",
    )

    def __init__(self, since: int, since_position: int) -> None:
        self.since = since
        self.since_position = since_position
        self.trail: Trail | None = None
        """What was read back of the events up to `since`; what the window forgets goes there, while it is used."""
        self._old: dict[str, Seen] = {}
        self._young: dict[str, Seen] = {}
        self._young_since = since
        self._young_since_position = since_position

    def find(self, command_id: str) -> Seen | None:
        return self._young.get(command_id) or self._old.get(command_id)

    def covers(self, version: int, caused_at: int | None) -> bool:
        """Whether an id that is not here cannot be in the stream, as far as is promised."""
        if self.since == 0:
            return True
        if caused_at is not None:
            return self.since_position <= caused_at
        return self.since <= version - WINDOW_EVENTS

    def tells(self, command_id: str, caused_at: int) -> bool:
        """Whether it is known, beyond what is covered, if this command has run."""
        if command_id in self._young or command_id in self._old:
            return True
        if self.trail is None:
            return False
        self.trail.idle = 0
        return self.trail.reaches(caused_at) and not self.trail.find(command_id)

    def add(self, command_id: str, seen: Seen, position: int) -> None:
        """A command came; `position` is that of its last event."""
        self._young[command_id] = seen
        if seen.last - self._young_since >= WINDOW_EVENTS:
            if self.trail is not None:
                self._leave(self.trail)
            self._old = self._young
            self.since, self.since_position = self._young_since, self._young_since_position
            self._young = {}
            self._young_since, self._young_since_position = seen.last, position

    def _leave(self, trail: Trail) -> None:
        """Keep in the trail what is forgotten here; or the trail no longer, where it costs more than to read it again would."""
        if 2 * trail.idle > len(trail):
            self.trail = None
        else:
            trail.extend([(id, seen.last) for id, seen in self._old.items()], self.since, self.since_position)

    def add_events(self, events: Sequence[StoredEvent]) -> None:
        """Consecutive events came that somebody else appended."""
        for command_id, seen, position in commands_of(events):
            known = self._young.get(command_id)
            first = seen.first if known is None else min(known.first, seen.first)
            self.add(command_id, Seen(first, seen.last, seen.digest), position)

    def extend_back(self, events: Sequence[StoredEvent], since: int, since_position: int) -> None:
        """Older events were read, the newest of them at version `self.since`."""
        older = {command_id: seen for command_id, seen, _ in commands_of(events)}
        for command_id, seen in self._old.items():
            before = older.get(command_id)
            older[command_id] = seen if before is None else Seen(before.first, seen.last, seen.digest)
        for command_id in older.keys() & self._young.keys():
            self._young[command_id] = msgspec.structs.replace(
                self._young[command_id], first=older[command_id].first
            )
        self._old = older
        self.since, self.since_position = since, since_position


def commands_of(events: Sequence[StoredEvent]) -> list[tuple[str, Seen, int]]:
    """The commands that consecutive events came of, each with the position of its last event."""
    found: list[tuple[str, Seen, int]] = []
    for event in events:
        metadata = _metadata_or_none(event)
        if found and found[-1][0] == metadata.command_id:
            seen = found[-1][1]
            found[-1] = (metadata.command_id, Seen(seen.first, event.version, seen.digest), event.position)
        else:
            seen = Seen(event.version, event.version, metadata.fingerprint)
            found.append((metadata.command_id, seen, event.position))
    return found
