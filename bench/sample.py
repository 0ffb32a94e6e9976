"""What a measurement is given, and what it hands back."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

Fact: TypeAlias = str | int | float


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How much of everything; the same for all that stand in one row."""

    seconds: float
    """For which a rate is measured, without what is prepared before."""
    accounts: int
    events: int
    """Already in the stream of each account before the clock runs."""
    live: int
    """Aggregates that are alive at once, at most."""
    windows: int
    """Aggregates that are alive at once, each with a full window."""
    log: int
    """Events in the log that is read from its beginning to its end."""
    most: int
    """Events in any other store before the clock runs: a row that wants more gets no more than that."""


FULL = Size(
    seconds=3.0,
    accounts=1_000,
    events=100,
    live=1_000_000,
    windows=200,
    log=1_000_000,
    most=10_000_000,
)
QUICK = Size(
    seconds=0.6,
    accounts=200,
    events=100,
    live=5_000,
    windows=20,
    log=100_000,
    most=100_000,
)
LONG = msgspec.structs.replace(FULL, seconds=5.0)


class Sample(msgspec.Struct, frozen=True):
    """One measurement: the figure that is compared, and what else was seen."""

    value: float
    facts: dict[str, Fact]


class MeasurementError(Exception):
    """What was measured did not do the work that it stands for."""


def require(*, stored: int, expected: int, what: str) -> None:
    """Raise `MeasurementError` unless everything that was answered is in the store."""
    if stored != expected:
        raise MeasurementError(f"{what}: the store holds {stored} events and must hold {expected}")
