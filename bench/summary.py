"""Medians, spreads and ratios: from samples to what is shown. Nothing in here measures."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

import msgspec

from bench.families import FAMILIES, ROWS
from bench.machine import Machine
from bench.rows import Contestant, Row
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
    at: float | None
    curve: str
    value: Spread
    at_most: float | None
    is_met: bool | None
    """None where nothing was aimed at; never where a repetition failed."""
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


class Missing(msgspec.Struct, frozen=True):
    """A contestant that the machine has not, or what was aimed at beside it."""

    name: str
    why: str
    goal: float | None = None


class RowSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A row, ready to be shown."""

    family: str
    name: str
    title: str
    unit: str
    axis: str
    failure: str
    """Why it was not measured to its end; "" where it was."""
    repetitions: int
    """That were complete."""
    figures: list[Figure]
    comparisons: list[Comparison]
    missing: list[Missing] = msgspec.field(default_factory=list[Missing])


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run: what `--json` writes."""

    machine: Machine
    load_after: float
    minutes: float
    """That it took."""
    size: Size
    repetitions: int
    rows: list[RowSummary]
    seconds: tuple[float, float] | None = None
    """The least and the most of what rates were measured for, where runs that were joined differ in it."""


def spread(values: Sequence[float]) -> Spread:
    """Median, least and most."""
    return Spread(statistics.median(values), min(values), max(values))


def summarize(measured: MeasuredRow) -> RowSummary:
    """The figures of a row, and how they compare."""
    row, samples = measured.row, measured.samples
    return RowSummary(
        family=next((title for title, rows in FAMILIES.items() if row in rows), ""),
        name=row.name,
        title=row.title,
        unit=row.unit,
        axis=row.axis,
        failure=measured.failure,
        repetitions=max(map(len, samples.values()), default=0),
        figures=[
            _figure(row, each, samples[each.name], has_failed=bool(measured.failure))
            for each in row.contestants
            if each.name in samples
        ],
        comparisons=_comparisons(row, samples, has_failed=bool(measured.failure)) if samples else [],
        missing=list(_missing(row, measured.missing)),
    )


def _missing(row: Row, missing: dict[str, str]) -> Iterator[Missing]:
    """The contestants, and then each goal that stands on one of them."""
    for name, why in missing.items():
        yield Missing(name, why)
    for ratio in row.ratios:
        whys = [missing[name] for name in (ratio.of, ratio.to) if name in missing]
        if whys and ratio.goal is not None:
            yield Missing(f"{ratio.of} : {ratio.to}", whys[0], ratio.goal)


def _figure(row: Row, contestant: Contestant, samples: list[Sample], *, has_failed: bool) -> Figure:
    value = spread([sample.value for sample in samples])
    limit = row.at_most.get(contestant.name)
    middle = sorted(samples, key=lambda sample: sample.value)[len(samples) // 2]
    return Figure(
        contestant=contestant.name,
        at=contestant.at,
        curve=contestant.curve,
        value=value,
        at_most=limit,
        is_met=None if limit is None else value.median <= limit and not has_failed,
        facts=middle.facts,
        samples=samples,
    )


def _comparisons(row: Row, samples: Samples, *, has_failed: bool) -> list[Comparison]:
    comparisons: list[Comparison] = []
    for ratio in row.ratios:
        if ratio.of not in samples or ratio.to not in samples:
            continue
        # Who is measured in fewer rounds is so in the first ones.
        pairs = zip(samples[ratio.of], samples[ratio.to], strict=False)
        value = spread([of.value / to.value for of, to in pairs])
        comparisons.append(
            Comparison(
                of=ratio.of,
                to=ratio.to,
                value=value,
                goal=ratio.goal,
                is_met=None if ratio.goal is None else value.median >= ratio.goal and not has_failed,
            )
        )
    return comparisons


def joined(reports: Sequence[Report]) -> Report:
    """Several runs on one machine as one: of a row that was measured twice, the last counts.

    Raises `ValueError` where machines or sizes differ, because then the rows cannot stand in one table. For how long a rate
    was measured may differ: its spread shows what that costs.
    """
    first = reports[0]
    for report in reports[1:]:
        if _compared(report) != _compared(first):
            raise ValueError(
                "these were not measured on the same machine, with the same versions, at the same size"
            )
    seconds = sorted({each for report in reports for each in report.seconds or (report.size.seconds,)})
    rows = {row.name: row for report in reports for row in report.rows}
    order = {row.name: number for number, row in enumerate(ROWS)}
    return msgspec.structs.replace(
        first,
        load_after=max(report.load_after for report in reports),
        minutes=sum(report.minutes for report in reports),
        seconds=(seconds[0], seconds[-1]) if len(seconds) > 1 else None,
        rows=sorted(rows.values(), key=lambda row: order.get(row.name, len(order))),
    )


def _compared(report: Report) -> tuple[object, ...]:
    machine = report.machine
    size = msgspec.structs.replace(report.size, seconds=0.0)
    versions = machine.python, machine.sqlite, machine.packages
    return machine.processor, machine.cores, machine.system, versions, size
