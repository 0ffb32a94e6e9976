"""Medians, spreads and ratios: from samples to what is shown. Nothing in here measures."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec

from bench.machine import Machine
from bench.rows import Row
from bench.running import MeasuredRow, Samples
from bench.sample import Fact, Sample, Size


class Spread(msgspec.Struct, frozen=True):
    """Several measurements of one thing."""

    median: float
    least: float
    most: float


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """What one contestant reached."""

    contestant: str
    value: Spread
    at_most: float | None
    is_met: bool | None
    """None where nothing was aimed at."""
    facts: dict[str, Fact]
    """Of the repetition in the middle."""
    samples: list[Sample]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One contestant beside another. Each ratio is of two measurements of the same repetition."""

    of: str
    to: str
    value: Spread
    goal: float | None
    is_met: bool | None


class RowSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A row, ready to be shown."""

    name: str
    title: str
    unit: str
    figures: list[Figure]
    comparisons: list[Comparison]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run: what `--json` writes."""

    machine: Machine
    load_after: float
    size: Size
    repetitions: int
    rows: list[RowSummary]


def spread(values: Sequence[float]) -> Spread:
    """Median, least and most."""
    return Spread(statistics.median(values), min(values), max(values))


def summarize(measured: MeasuredRow) -> RowSummary:
    """The figures of a row, and how they compare."""
    row, samples = measured.row, measured.samples
    return RowSummary(
        name=row.name,
        title=row.title,
        unit=row.unit,
        figures=[_figure(row, name, samples[name]) for name in samples],
        comparisons=_comparisons(row, samples),
    )


def _figure(row: Row, name: str, samples: list[Sample]) -> Figure:
    value = spread([sample.value for sample in samples])
    limit = row.at_most.get(name)
    middle = sorted(samples, key=lambda sample: sample.value)[len(samples) // 2]
    return Figure(
        contestant=name,
        value=value,
        at_most=limit,
        is_met=None if limit is None else value.median <= limit,
        facts=middle.facts,
        samples=samples,
    )


def _comparisons(row: Row, samples: Samples) -> list[Comparison]:
    comparisons: list[Comparison] = []
    for ratio in row.ratios:
        pairs = zip(samples[ratio.of], samples[ratio.to], strict=True)
        value = spread([of.value / to.value for of, to in pairs])
        comparisons.append(
            Comparison(
                of=ratio.of,
                to=ratio.to,
                value=value,
                goal=ratio.goal,
                is_met=None if ratio.goal is None else value.median >= ratio.goal,
            )
        )
    return comparisons
