"""A run as a table on the terminal."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.table import Table

from bench.sample import Fact
from bench.summary import Comparison, Figure, Report, RowSummary, Spread

_SHOWN: Final = ("appends per commit", "worst", "aggregates", "the user's state")
"""Of the facts; the others are in the JSON only."""
_WIDTH: Final = 132
"""Where the output is no terminal."""

_Line = tuple[str, str, str, str, str, str]


def show(report: Report, console: Console | None = None) -> None:
    """Print the machine, then each row: its figures, and below them how they compare and what was aimed at."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH, file=console.file)
    machine, size = report.machine, report.size
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    console.print(f"{machine.processor}, {machine.cores} cores, {machine.system}")
    console.print(f"{machine.python} with {machine.event_loop}, SQLite {machine.sqlite}; {packages}")
    console.print(
        f"fsync of 4 KiB {machine.fsync_ms:.3f} ms; load {machine.load_before:.2f} before, {report.load_after:.2f} after"
    )
    console.print(
        f"{report.repetitions} repetitions of {size.seconds:g} s, {size.accounts:,} accounts of {size.events:,} events, "
        f"{size.stream:,} events to rehydrate"
    )
    table = Table(show_edge=False)
    table.add_column("", no_wrap=True)
    for name in ("median", "least - most", "goal"):
        table.add_column(name, justify="right")
    table.add_column("")
    table.add_column("seen besides")
    for row in report.rows:
        table.add_row(f"[bold]{row.title}[/bold], {row.unit}")
        for line in _lines(row):
            table.add_row(*line)
        table.add_section()
    console.print(table)


def _lines(row: RowSummary) -> list[_Line]:
    figures = [_figure(figure, row.unit) for figure in row.figures]
    return figures + [_comparison(comparison) for comparison in row.comparisons]


def _figure(figure: Figure, unit: str) -> _Line:
    value = figure.value
    goal = "" if figure.at_most is None else f"<= {_number(figure.at_most, unit)}"
    facts = [f"{name} {_fact(figure.facts[name])}" for name in _SHOWN if name in figure.facts]
    return (
        f"  {figure.contestant}",
        _number(value.median, unit),
        f"{_number(value.least, unit)} - {_number(value.most, unit)}",
        goal,
        _verdict(figure.is_met),
        ", ".join(facts),
    )


def _comparison(comparison: Comparison) -> _Line:
    value = comparison.value
    return (
        f"  [cyan]{comparison.of} : {comparison.to}[/cyan]",
        f"{value.median:.2f} x",
        f"{_ratios(value)}",
        "" if comparison.goal is None else f">= {comparison.goal:g} x",
        _verdict(comparison.is_met),
        "",
    )


def _ratios(value: Spread) -> str:
    return f"{value.least:.2f} - {value.most:.2f}"


def _verdict(is_met: bool | None) -> str:
    if is_met is None:
        return ""
    return "[green]met[/green]" if is_met else "[red]missed[/red]"


def _number(value: float, unit: str) -> str:
    return f"{value:.2f}" if unit == "ms" else f"{value:,.0f}"


def _fact(fact: Fact) -> str:
    if isinstance(fact, float):
        return f"{fact:,.1f}"
    return f"{fact:,}" if isinstance(fact, int) else fact
