"""Plots of a run: what was aimed at, rates beside each other, what grows, and how long things take."""

# The types of matplotlib leave `**kwargs` open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from bench import drawing, latency_plot
from bench.rows.names import REHYDRATE
from bench.summary import Comparison, Report, RowSummary, Spread


class Plot(NamedTuple):
    """One that was drawn."""

    files: tuple[Path, Path]
    """SVG and PNG."""
    says: str
    """In place of the picture, for who cannot see it."""


class _Aim(NamedTuple):
    row: RowSummary
    ratio: Comparison
    goal: float


_SAYS: Final = {
    "goals": "Each ratio that was aimed at: what was measured as a bar, its spread as a line, the goal as a mark",
    "rates": "Commands a second of all contestants, one panel for each workload",
    "growth": "Rates as logs and numbers of streams grow",
    "latency": "p50, p99 and p99.9 of latencies",
}


def draw(report: Report, folder: Path) -> dict[str, Plot]:
    """Every plot that the rows of the report have something for."""
    makers: dict[str, Callable[[Report], Figure | None]] = {
        "goals": _goals,
        "rates": _rates,
        "growth": _growth,
        "latency": latency_plot.figure,
    }
    drawn: dict[str, Plot] = {}
    with drawing.styled():
        for name, make in makers.items():
            if (figure := make(report)) is not None:
                drawn[name] = Plot(drawing.save(figure, folder, name), _SAYS[name])
    return drawn


def _goals(report: Report) -> Figure | None:
    aims = [
        _Aim(row, each, each.goal) for row in report.rows for each in row.comparisons if each.goal is not None
    ]
    times = [aim for aim in aims if aim.goal >= 1]
    shares = [aim for aim in aims if aim.goal < 1]
    panels = [panel for panel in (times, shares) if panel]
    if not panels:
        return None
    heights = [len(panel) + 1.6 for panel in panels]
    figure = Figure(figsize=(9, 0.37 * sum(heights) + 0.5), layout="constrained")
    grid = figure.add_gridspec(len(panels), 1, height_ratios=heights)
    for number, panel in enumerate(panels):
        axes = figure.add_subplot(grid[number, 0])
        _aims(axes, panel, are_shares=panel is shares)
        if panel is shares:
            axes.set_title("Part of what the driver alone, or a bare loop, reaches")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        else:
            axes.set_xscale("log")
            axes.set_title("Times as fast")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} x")
    figure.legend(
        handles=[
            Line2D([], [], color=drawing.MET, linewidth=7, label="median, goal met"),
            Line2D([], [], color=drawing.MISSED, linewidth=7, label="median, goal missed"),
            Line2D([], [], color=drawing.INK, linewidth=1, label="least to most"),
            Line2D([], [], color=drawing.INK, marker="D", markersize=5, linestyle="", label="goal"),
        ],
        loc="outside lower center",
        ncols=4,
    )
    return figure


def _aims(axes: Axes, aims: Sequence[_Aim], *, are_shares: bool) -> None:
    beginning = 0.0 if are_shares else 1.0
    for y, (row, each, goal) in enumerate(aims):
        value = each.value
        colour = drawing.verdict_colour(each.is_met)
        axes.barh(y, value.median - beginning, left=beginning, height=0.58, color=colour)
        _whisker(axes, value, y)
        axes.plot([goal], [y], marker="D", markersize=5, color=drawing.INK, markeredgecolor="white")
        says = f"{value.median:.0%}" if are_shares else f"{value.median:.3g} x"
        drawing.beside(axes, says, (max(value.most, goal, beginning), y))
        drawing.before(axes, row.title, y, up=5)
        drawing.before(axes, f"{each.of} : {each.to}", y, up=-6, color=drawing.QUIET, size=7.5)
    axes.set_yticks([])
    axes.set_ylim(len(aims) - 0.4, -0.6)
    least, most = min(each.value.least for _, each, _ in aims), max(each.value.most for _, each, _ in aims)
    if are_shares:
        axes.set_xlim(0, max(1.0, most) * 1.12)
    else:
        axes.axvline(1, color=drawing.QUIET, linewidth=0.8)
        axes.set_xlim(min(0.5, least), most * 1.9)
    drawing.plain_axis(axes, grid="x")


def _whisker(axes: Axes, value: Spread, y: float) -> None:
    axes.plot([value.least, value.most], [y, y], color=drawing.INK, linewidth=1, solid_capstyle="butt")


def _rates(report: Report) -> Figure | None:
    rows = [
        row
        for row in report.rows
        if row.unit == "commands/s" and any(each.contestant == REHYDRATE for each in row.figures)
    ]
    if not rows:
        return None
    columns = 2
    lines = [rows[start : start + columns] for start in range(0, len(rows), columns)]
    heights = [max(len(row.figures) for row in line) + 1.4 for line in lines]
    figure = Figure(figsize=(10, 0.25 * sum(heights) + 0.2), layout="constrained")
    grid = figure.add_gridspec(len(lines), columns, height_ratios=heights)
    for number, line in enumerate(lines):
        for column, row in enumerate(line):
            axes = figure.add_subplot(grid[number, column])
            _rates_of(axes, row)
            # Bars are as high as those beside them.
            axes.set_ylim(heights[number] - 1.9, -0.5)
    return figure


def _rates_of(axes: Axes, row: RowSummary) -> None:
    figures = sorted(row.figures, key=lambda each: -each.value.median)
    most = max(each.value.most for each in figures)
    for y, each in enumerate(figures):
        axes.barh(y, each.value.median, height=0.66, color=drawing.colour_of(each.contestant))
        _whisker(axes, each.value, y)
        drawing.beside(axes, f"{each.value.median:,.0f}", (each.value.most, y))
    axes.set_yticks(range(len(figures)), [each.contestant for each in figures], fontsize=8)
    axes.set_xlim(0, most * 1.18)
    axes.set_xticks([])
    axes.set_title(row.title)
    drawing.plain_axis(axes, grid="x")


def _growth(report: Report) -> Figure | None:
    rows = [row for row in report.rows if row.axis and row.figures]
    if not rows:
        return None
    columns = 2
    lines = -(-len(rows) // columns)
    figure = Figure(figsize=(11, 2.7 * lines), layout="constrained")
    for number, row in enumerate(rows):
        _curves(figure.add_subplot(lines, columns, number + 1), row)
    return figure


def _curves(axes: Axes, row: RowSummary) -> None:
    names = list(dict.fromkeys(each.curve for each in row.figures if each.at is not None))
    for colour, name in zip(drawing.CURVES, names, strict=False):
        points = sorted(
            (each.at, each.value) for each in row.figures if each.at is not None and each.curve == name
        )
        at = [x for x, _ in points]
        axes.fill_between(
            at,
            [value.least for _, value in points],
            [value.most for _, value in points],
            color=colour,
            alpha=0.18,
            linewidth=0,
        )
        axes.plot(
            at, [value.median for _, value in points], color=colour, marker="o", markersize=4, label=name
        )
    if len(names) > 1:
        axes.legend(loc="lower left", ncols=len(names), fontsize=8)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel(row.axis)
    axes.set_title(f"{row.title}, {row.unit}")
    drawing.plain_axis(axes, grid="y")
