"""What the writer knows of its streams without asking the database."""

from __future__ import annotations

from typing import Final, TypeAlias

MAX_HEADS: Final = 200_000

StreamAt: TypeAlias = tuple[int, int]
"""The key and the version of a stream; (0, 0) for one that is not there."""


class KnownHeads:
    """The streams that were used last, at most `limit` of them.

    Two generations: when the young one holds half of the limit it becomes the old one, whose streams are forgotten
    unless they come up again. That costs a use nothing, where counting uses would.
    """

    __slots__ = ("_half", "_old", "_young")

    def __init__(self, limit: int = MAX_HEADS) -> None:
        self._half = limit // 2
        self._young: dict[str, StreamAt] = {}
        self._old: dict[str, StreamAt] = {}

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())

    def get(self, stream: str) -> StreamAt | None:
        return self._young.get(stream) or self._old.get(stream)

    def put(self, stream: str, head: StreamAt) -> None:
        if len(self._young) >= self._half and stream not in self._young:
            self._old = self._young
            self._young = {}
        self._young[stream] = head

    def clear(self) -> None:
        self._young.clear()
        self._old.clear()
