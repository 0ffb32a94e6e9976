"""What a row is: contestants who are measured in turn, and the ratios that were aimed at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import msgspec

from bench.sample import Sample, Size
from bench.servers import Server
from bench.stock import Stock

Measure: TypeAlias = Callable[[Size, Path], Sample]
"""Given the size, and an empty folder of its own."""
Prepare: TypeAlias = Callable[[Callable[[str], None]], str]
"""Gets ready what no measurement should wait for, and says what it does; returns why it cannot be had here, or ""."""


class Contestant(msgspec.Struct, frozen=True):
    """One of those who stand in a row."""

    name: str
    measure: Measure
    at: float | None = None
    """Where it stands on the axis of a row in which something grows."""
    curve: str = ""
    """Which of the row's curves it is a point of, where there are several."""
    prepare: Prepare | None = None
    """Of one that not every machine has: where it cannot be had, its row is measured without it, and says so."""


class Ratio(msgspec.Struct, frozen=True):
    """One contestant's figure divided by another's, repetition by repetition."""

    of: str
    to: str
    goal: float | None = None
    """At least; None where the ratio is only reported."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What is measured in turn, again and again."""

    name: str
    title: str
    unit: str
    contestants: tuple[Contestant, ...]
    ratios: tuple[Ratio, ...] = ()
    at_most: dict[str, float] = msgspec.field(default_factory=dict[str, float])
    """Limits by contestant, in the row's unit."""
    repetitions: int | None = None
    """Of all in it, where more or fewer are called for than elsewhere; one where nothing in it depends on time."""
    axis: str = ""
    """What grows in it, from contestant to contestant: it is drawn as curves over that."""
    is_quick: bool = False
    """It belongs to the subset that stands for all the others in a quick run."""
    is_long: bool = False
    """It is measured only where somebody asks for everything, however long it takes."""
    stock: Stock | None = None
    """What its contestants read, and none of them changes."""
    server: Server | None = None
    """What has to run for it."""
    also: Server | None = None
    """What has to run beside that."""

    def is_aimed_at(self, contestant: str) -> bool:
        """Whether a goal is about it, and not only about others in the row."""
        aims = {name for ratio in self.ratios if ratio.goal is not None for name in (ratio.of, ratio.to)}
        return contestant in aims | set(self.at_most)
