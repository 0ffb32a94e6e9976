"""Consecutive events of a stream as columns, for whoever goes through them as rows.

A database hands them out fastest where it joins the data of all of them into one value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias, cast, overload

BETWEEN_DATA: Final = b"\n\xff\x0b"
"""What joined data is parted by. No text holds it, and it cannot begin within itself; data that does hold it comes apart
into too many pieces."""

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
    def __getitem__(self, at: slice) -> Sequence[Row]: ...
    def __getitem__(self, at: int | slice) -> Row | Sequence[Row]:
        versions = range(self._first, self._first + len(self._data))
        if isinstance(at, int):
            return versions[at], self._types[at], self._data[at]
        if at.step not in {None, 1}:
            return list(self)[at]
        return EventRows(versions[at].start, self._types[at], self._data[at])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(cast("Sequence[object]", other))

    def __hash__(self) -> int:
        return hash((self._first, len(self._data)))

    def __repr__(self) -> str:
        return repr(list(self))
