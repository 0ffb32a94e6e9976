"""What a writer knows of its streams without asking the database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Generic, TypeVar

H = TypeVar("H")

MAX_HEADS: Final = 200_000


class KnownHeads(Generic[H]):
    """The streams that were used last, at most `limit` of them, and what a backend knows of each.

    Two generations: when the young one holds half of the limit it becomes the old one, whose streams are forgotten
    unless they come up again. That costs a use nothing, where counting uses would.
    """

    __slots__ = ("_half", "_old", "_young")

    def __init__(self, limit: int = MAX_HEADS) -> None:
        self._half = limit // 2
        self._young: dict[str, H] = {}
        self._old: dict[str, H] = {}

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())

    def get(self, stream: str) -> H | None:
        head = self._young.get(stream)
        return self._old.get(stream) if head is None else head

    def put(self, stream: str, head: H) -> None:
        if len(self._young) >= self._half and stream not in self._young:
            self._old = self._young
            self._young = {}
        self._young[stream] = head

    def update(self, heads: Mapping[str, H]) -> None:
        """Many at once, which may be a few more than half of the limit."""
        if len(self._young) >= self._half:
            self._old = self._young
            self._young = {}
        self._young.update(heads)

    def clear(self) -> None:
        self._young.clear()
        self._old.clear()
