"""A run as a table: on the terminal, and as Markdown for the documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.sample import Fact
from bench.summary import Comparison, Figure, Missing, Report, RowSummary

_SHOWN: Final = (
    "cpu",
    "appends per commit",
    "rate",
    "p50",
    "p99",
    "p99.9",
    "worst",
    "longest met, ms",
    "aggregates",
    "the user's state",
    "Emmett",
    "Node.js",
    "cut to",
)
"""Of the facts; the others are in the JSON only."""
_NAMES: Final = 50
_WIDTH: Final = 150
"""Where the output is no terminal."""
_STYLES: Final = {"met": "green", "missed": "red", "": ""}


class _Line(NamedTuple):
    name: str
    median: str
    spread: str
    goal: str
    verdict: str
    facts: str


def show(report: Report, console: Console | None = None) -> None:
    """Print the machine, then each row: its figures, and below them how they compare and what was aimed at."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH, file=console.file)
    for fact in about(report):
        console.print(fact, highlight=False, soft_wrap=True)
    for row in report.rows:
        console.print()
        console.print(Text(f"{row.title}, {row.unit}", "bold"), Text(_how_often(row, report), "yellow"))
        console.print(_table(row))


def _table(row: RowSummary) -> Table:
    """Columns are as wide as in every other row, so that the eye finds them."""
    table = Table(show_edge=False, box=None, show_header=False)
    table.add_column(width=_NAMES)
    table.add_column(width=10, justify="right", no_wrap=True)
    table.add_column(width=21, justify="right", no_wrap=True)
    table.add_column(width=9, justify="right", no_wrap=True)
    table.add_column(width=6)
    table.add_column()
    for line in _lines(row):
        style = "cyan" if " : " in line.name else ""
        verdict = Text(line.verdict, style=_STYLES[line.verdict])
        table.add_row(Text(f"  {line.name}", style), line.median, line.spread, line.goal, verdict, line.facts)
    return table


def markdown(report: Report, pictures: Mapping[str, Sequence[str]] | None = None) -> str:
    """The same for a page: what it was measured on, the goals, and a table for each family.

    Pictures come by family, and those that are of no single one with the goals.
    """
    pictures = pictures or {}
    parts = [
        "\n".join(f"- {fact}" for fact in about(report)),
        "### Goals",
        *pictures.get("", ()),
        goals(report),
    ]
    for family, rows in by_family(report).items():
        parts += [f"### {family}", *pictures.get(family, ()), table(rows, report)]
    return "\n\n".join(parts) + "\n"


def by_family(report: Report) -> dict[str, list[RowSummary]]:
    """In the order of the report."""
    families: dict[str, list[RowSummary]] = {}
    for row in report.rows:
        families.setdefault(row.family, []).append(row)
    return families


def goals(report: Report) -> str:
    """Everything that was aimed at, on one screen, the missed ones among the others."""
    aims = [(row, line) for row in report.rows for line in _lines(row) if line.goal]
    failed = [row for row in report.rows if row.failure]
    missed = sum(line.verdict == "missed" for _, line in aims)
    unmeasured = sum(line.verdict == "" for _, line in aims)
    met = len(aims) - missed - unmeasured
    none_of = (
        f" {len(failed)} row{'' if len(failed) == 1 else 's'} failed, and met nothing." if failed else ""
    )
    nor = f", {unmeasured} {'was' if unmeasured == 1 else 'were'} not measured" if unmeasured else ""
    lines = [
        f"{met} of {len(aims)} were met, {missed} {'was' if missed == 1 else 'were'} missed{nor}.{none_of}",
        "",
        "| | | median | least - most | goal | |",
        "|---|---|--:|--:|--:|---|",
    ]
    lines += [
        f"| {row.title} | {line.name} | {line.median} | {line.spread} | {line.goal} | {_loud(line.verdict) or line.facts} |"
        for row, line in aims
    ]
    lines += [f"| {row.title} | failed: {row.failure} | | | | **failed** |" for row in failed]
    return "\n".join(lines)


def table(rows: Sequence[RowSummary], report: Report) -> str:
    """Every figure and every ratio of some rows."""
    lines = ["| | median | least - most | goal | |", "|---|--:|--:|--:|---|"]
    for row in rows:
        lines.append(f"| **{row.title}**, {row.unit} (`{row.name}`) | | | | {_how_often(row, report)} |")
        for line in _lines(row):
            beside = ", ".join(part for part in (_loud(line.verdict), line.facts) if part)
            lines.append(f"| {line.name} | {line.median} | {line.spread} | {line.goal} | {beside} |")
    return "\n".join(lines)


def _seconds(report: Report) -> str:
    if report.seconds is None:
        return f"{report.size.seconds:g}"
    least, most = report.seconds
    return f"{least:g} to {most:g}"


def about(report: Report) -> list[str]:
    """What the figures depend on."""
    machine, size = report.machine, report.size
    busy = "; others were working, and the figures say little" if machine.load_before > machine.cores else ""
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    return [
        f"{machine.processor}, {machine.cores} cores, {machine.system}",
        f"{machine.python} with {machine.event_loop}, SQLite {machine.sqlite}; {packages}",
        f"fsync of 4 KiB {machine.fsync_ms:.3f} ms; load {machine.load_before:.2f} before, {report.load_after:.2f} after{busy}",
        f"{report.repetitions} repetition{'' if report.repetitions == 1 else 's'} of {_seconds(report)} s, where a row says nothing else; {report.minutes:.0f} minutes",
        f"{size.accounts:,} accounts of {size.events:,} events",
    ]


def _how_often(row: RowSummary, report: Report) -> str:
    """Only what differs from the rest of the run."""
    if row.failure:
        return f"failed: {row.failure}"
    return _times(row.repetitions) if row.repetitions != report.repetitions else ""


def _times(repetitions: int) -> str:
    return "once" if repetitions == 1 else f"{repetitions} times"


def _loud(verdict: str) -> str:
    return f"**{verdict}**" if verdict == "missed" else verdict


def _lines(row: RowSummary) -> list[_Line]:
    figures = [_figure(figure, row) for figure in row.figures]
    return [
        *figures,
        *(_comparison(comparison) for comparison in row.comparisons),
        *(_not_measured(missing) for missing in row.missing),
    ]


def _figure(figure: Figure, row: RowSummary) -> _Line:
    value, unit = figure.value, row.unit
    fewer = [_times(len(figure.samples))] if len(figure.samples) < row.repetitions else []
    return _Line(
        figure.contestant,
        number(value.median, unit),
        f"{number(value.least, unit)} - {number(value.most, unit)}",
        "" if figure.at_most is None else f"<= {number(figure.at_most, unit)}",
        _verdict(figure.is_met),
        ", ".join(fewer + [f"{name} {_fact(figure.facts[name])}" for name in _SHOWN if name in figure.facts]),
    )


def _comparison(comparison: Comparison) -> _Line:
    value = comparison.value
    return _Line(
        f"{comparison.of} : {comparison.to}",
        f"{value.median:.2f} x",
        f"{value.least:.2f} - {value.most:.2f}",
        _at_least(comparison.goal),
        _verdict(comparison.is_met),
        "",
    )


def _not_measured(missing: Missing) -> _Line:
    return _Line(missing.name, "", "", _at_least(missing.goal), "", f"not measured: {missing.why}")


def _at_least(goal: float | None) -> str:
    return "" if goal is None else f">= {goal:g} x"


def _verdict(is_met: bool | None) -> str:
    return "" if is_met is None else "met" if is_met else "missed"


def number(value: float, unit: str) -> str:
    return f"{value:.2f}" if unit == "ms" else f"{value:,.0f}"


def _fact(fact: Fact) -> str:
    if isinstance(fact, float):
        return f"{fact:,.2f}"
    return f"{fact:,}" if isinstance(fact, int) else fact
