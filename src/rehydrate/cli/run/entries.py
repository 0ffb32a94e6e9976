"""A line on its way through a run, from the moment it was read until its answer is written."""

from __future__ import annotations

from enum import Enum, auto

from rehydrate.cli.run.commands import Order
from rehydrate.cli.run.lines import Line


class Outcome(Enum):
    """What became of a line."""

    BLANK = auto()
    """Nothing was asked for; there is no answer."""
    EARLIER = auto()
    """It stored nothing in an earlier call of a named run; the answer of then is given."""
    ACCEPTED = auto()
    REJECTED = auto()
    FAILED = auto()
    """It cannot be run as it is: the fault lies in the line or in the code that decides."""
    UNSENT = auto()
    """The run stopped before its turn came; there is no answer."""
    UNFINISHED = auto()
    """It was sent, and the store gave no answer that settles it."""


class Entry:
    """A line, what it asks for, and what became of it."""

    __slots__ = ("answer", "digest", "line", "order", "outcome", "size")

    def __init__(self, line: Line) -> None:
        self.line = line.number
        self.digest = line.digest
        self.size = len(line.text)
        self.order: Order | None = None
        self.outcome: Outcome | None = None
        """None until it is settled."""
        self.answer = b""
