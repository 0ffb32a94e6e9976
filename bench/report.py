"""A run as a table: on the terminal, and as Markdown for the documentation."""

from __future__ import annotations

from typing import Final, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.sample import Fact
from bench.summary import Comparison, Figure, Report, RowSummary

_SHOWN: Final = ("cpu", "appends per commit", "worst", "aggregates", "the user's state")
"""Of the facts; the others are in the JSON only."""
_WIDTH: Final = 132
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
        console.print(fact, highlight=False)
    table = Table(show_edge=False)
    table.add_column("", no_wrap=True)
    for name in ("median", "least - most", "goal"):
        table.add_column(name, justify="right")
    table.add_column("")
    table.add_column("seen besides")
    for row in report.rows:
        table.add_row(Text(f"{row.title}, {row.unit}", style="bold"))
        for line in _lines(row):
            style = "cyan" if " : " in line.name else ""
            verdict = Text(line.verdict, style=_STYLES[line.verdict])
            table.add_row(
                Text(f"  {line.name}", style), line.median, line.spread, line.goal, verdict, line.facts
            )
        table.add_section()
    console.print(table)


def markdown(report: Report) -> str:
    """The same for a page: what it was measured on, and the table."""
    lines = [*about(report), "", "| | median | least - most | goal | |", "|---|--:|--:|--:|---|"]
    for row in report.rows:
        lines.append(f"| **{row.title}**, {row.unit} (`{row.name}`) | | | | |")
        for line in _lines(row):
            beside = ", ".join(part for part in (line.verdict, line.facts) if part)
            lines.append(f"| {line.name} | {line.median} | {line.spread} | {line.goal} | {beside} |")
    return "\n".join(lines) + "\n"


def about(report: Report) -> list[str]:
    """What the figures depend on."""
    machine, size = report.machine, report.size
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    return [
        f"{machine.processor}, {machine.cores} cores, {machine.system}",
        f"{machine.python} with {machine.event_loop}, SQLite {machine.sqlite}; {packages}",
        f"fsync of 4 KiB {machine.fsync_ms:.3f} ms; load {machine.load_before:.2f} before, {report.load_after:.2f} after",
        f"{report.repetitions} repetitions of {size.seconds:g} s; {size.accounts:,} accounts of {size.events:,} events",
    ]


def _lines(row: RowSummary) -> list[_Line]:
    figures = [_figure(figure, row.unit) for figure in row.figures]
    return figures + [_comparison(comparison) for comparison in row.comparisons]


def _figure(figure: Figure, unit: str) -> _Line:
    value = figure.value
    return _Line(
        figure.contestant,
        _number(value.median, unit),
        f"{_number(value.least, unit)} - {_number(value.most, unit)}",
        "" if figure.at_most is None else f"<= {_number(figure.at_most, unit)}",
        _verdict(figure.is_met),
        ", ".join(f"{name} {_fact(figure.facts[name])}" for name in _SHOWN if name in figure.facts),
    )


def _comparison(comparison: Comparison) -> _Line:
    value = comparison.value
    return _Line(
        f"{comparison.of} : {comparison.to}",
        f"{value.median:.2f} x",
        f"{value.least:.2f} - {value.most:.2f}",
        "" if comparison.goal is None else f">= {comparison.goal:g} x",
        _verdict(comparison.is_met),
        "",
    )


def _verdict(is_met: bool | None) -> str:
    return "" if is_met is None else "met" if is_met else "missed"


def _number(value: float, unit: str) -> str:
    return f"{value:.2f}" if unit == "ms" else f"{value:,.0f}"


def _fact(fact: Fact) -> str:
    if isinstance(fact, float):
        return f"{fact:,.2f}"
    return f"{fact:,}" if isinstance(fact, int) else fact
