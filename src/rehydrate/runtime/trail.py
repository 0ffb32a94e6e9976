"""Which ids stand in a long stretch of a stream, in eight bytes each: what was read back once is not read again."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from typing import Final

from rehydrate.runtime.limits import TRAIL_IDS

_PART: Final = 32_768
"""How many ids are sorted together at most, so that no callback takes long."""
_VERSION_BITS: Final = 24
"""So much is kept of a version: far more than there are events in a part."""
_VERSIONS: Final = (1 << _VERSION_BITS) - 1
_HASHES: Final = (1 << (64 - _VERSION_BITS)) - 1


class _Part:
    """Ids of consecutive events after version `since`."""

    __slots__ = ("last", "packed", "since", "since_position")

    def __init__(self, since: int, since_position: int, last: int, packed: array[int]) -> None:
        self.since = since
        self.since_position = since_position
        self.last = last
        """The version of the last of them."""
        self.packed = packed
        """Sorted: the hash of each id, and behind it the lower bits of its version."""

    def joins(self, new: _Part) -> bool:
        """Whether to make one of the two: not of a large one and a small one, or each id would be sorted again and again."""
        span = max(self.last, new.last) - min(self.since, new.since)
        room = _PART - len(new.packed)
        return span <= _VERSIONS and len(self.packed) <= min(room, 2 * len(new.packed))

    def before(self, later: _Part) -> _Part:
        """This one and a later one as one."""
        packed = array("Q", sorted([*self.packed, *later.packed]))
        return _Part(self.since, self.since_position, later.last, packed)

    def find(self, hashed: int) -> list[int]:
        found: list[int] = []
        at = bisect_left(self.packed, hashed << _VERSION_BITS)
        while at < len(self.packed) and self.packed[at] >> _VERSION_BITS == hashed:
            found.append(self.since + ((self.packed[at] - self.since) & _VERSIONS))
            at += 1
        return sorted(found, reverse=True)


class Trail:
    """The ids of a stream after version `since`, up to where whoever has it says; it grows at both ends.

    What it does not find is not there. What it finds has to be looked up: another id may have the same hash.
    """

    __slots__ = ("_count", "_parts", "idle", "since", "since_position")

    def __init__(self, since: int, since_position: int) -> None:
        self.since = since
        self.since_position = since_position
        """Of the event at that version."""
        self.idle = 0
        """How many ids have come since it was last of use, which is for its user to say."""
        self._parts: deque[_Part] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def reaches(self, caused_at: int) -> bool:
        """Whether it has all that was stored behind a position, as far as it goes."""
        return self.since == 0 or self.since_position <= caused_at

    def find(self, id: str) -> list[int]:
        """The versions at which an id may stand, from the newest on."""
        hashed = hash(id) & _HASHES
        return [version for part in reversed(self._parts) for version in part.find(hashed)]

    def extend(self, ids: Sequence[tuple[str, int]], since: int, since_position: int) -> None:
        """Newer events came after version `since`, of these ids at these versions."""
        if not ids:
            return
        part = _part(ids, since, since_position)
        while self._parts and self._parts[-1].joins(part):
            part = self._parts.pop().before(part)
        self._parts.append(part)
        self._count += len(ids)
        self.idle += len(ids)
        while self._count > TRAIL_IDS and len(self._parts) > 1:
            self._count -= len(self._parts.popleft().packed)
            self.since, self.since_position = self._parts[0].since, self._parts[0].since_position

    def extend_back(self, ids: Sequence[tuple[str, int]], since: int, since_position: int) -> bool:
        """Older events were read, from after version `since` on; false where there is no room for them."""
        if self._count + len(ids) > TRAIL_IDS:
            return False
        self.since, self.since_position = since, since_position
        if ids:
            part = _part(ids, since, since_position)
            while self._parts and self._parts[0].joins(part):
                part = part.before(self._parts.popleft())
            self._parts.appendleft(part)
            self._count += len(ids)
        return True


def _part(ids: Sequence[tuple[str, int]], since: int, since_position: int) -> _Part:
    packed = sorted((hash(id) & _HASHES) << _VERSION_BITS | version & _VERSIONS for id, version in ids)
    return _Part(since, since_position, max(version for _, version in ids), array("Q", packed))
