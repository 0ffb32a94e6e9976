"""Rows for people, and JSON lines for programs: which of them is wanted, and how they are written."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final, NamedTuple

from rich.console import Console
from rich.text import Text

_MARK: Final = "…"


class Column(NamedTuple):
    """A column whose width is known before the rows are: a row is written as soon as it is there."""

    title: str
    width: int
    """0 for the last column, which takes what is left of the line."""
    is_number: bool = False


class RowWriter:
    """Writes rows under a heading, however many come, and each at once."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._has_heading = False

    def write(self, cells: Sequence[str]) -> None:
        if not self._has_heading:
            self._has_heading = True
            self._console.print(Text(self._line([column.title for column in self._columns]), style="bold"))
        self._console.print(Text(self._line(cells)))

    def write_note(self, text: str) -> None:
        """What is to be said of the row above, however long it is."""
        self._console.print(Text(f"  {visible(text)}"))

    def _line(self, cells: Sequence[str]) -> str:
        parts: list[str] = []
        used = 0
        for column, cell in zip(self._columns, cells, strict=True):
            text = visible(cell)
            if column.width:
                text = text.rjust(column.width) if column.is_number else text.ljust(column.width)
            else:
                text = shortened(text, self._console.width - used)
            parts.append(text)
            used += len(text) + 2
        return "  ".join(parts).rstrip()


def write_table(
    titles: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str], *, texts: frozenset[str]
) -> None:
    """Rows that are all there: columns as wide as what they hold, and under a row what is to be said of it, uncut.

    `texts` are the columns that are no numbers.
    """
    columns = [
        Column(column[0], max(len(visible(cell)) for cell in column), is_number=column[0] not in texts)
        for column in zip(titles, *rows, strict=True)
    ]
    writer = RowWriter(columns)
    for row, note in zip(rows, notes, strict=True):
        writer.write(row)
        if note:
            writer.write_note(note)


def wants_table(json: bool) -> bool:
    """Whether a person reads this."""
    return not json and sys.stdout.isatty()


def visible(text: str) -> str:
    """Text without anything that would move the cursor or colour the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shortened(text: str, width: int) -> str:
    """Text cut to a width, with a mark where something is missing."""
    return text if len(text) <= width else text[: max(width - len(_MARK), 0)] + _MARK


def write_json(lines: Sequence[bytes], *, flush: bool = False) -> None:
    """JSON lines on stdout."""
    sys.stdout.buffer.write(b"".join([line + b"\n" for line in lines]))
    if flush:
        sys.stdout.buffer.flush()
