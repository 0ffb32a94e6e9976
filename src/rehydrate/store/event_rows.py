"""Consecutive events of a stream as columns, for whoever goes through them as rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias, overload

Row: TypeAlias = tuple[int, str, bytes]


class EventRows(Sequence[Row]):
    """Version, type and data of each event. A row is made when it is looked at, and a page of them costs no memory."""

    __slots__ = ("_data", "_first", "_types")

    def __init__(self, first: int, types: Sequence[str], data: Sequence[bytes]) -> None:
        self._first = first
        self._types = types
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[Row]:
        return zip(range(self._first, self._first + len(self._data)), self._types, self._data, strict=True)

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> EventRows: ...
    def __getitem__(self, at: int | slice) -> Row | EventRows:
        if isinstance(at, int):
            return range(self._first, self._first + len(self._data))[at], self._types[at], self._data[at]
        first = self._first + at.indices(len(self._data))[0]
        return EventRows(first, self._types[at], self._data[at])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash((self._first, len(self._data)))

    def __repr__(self) -> str:
        return repr(list(self))
