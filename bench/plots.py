"""Plots of a run: what was aimed at, rates beside each other, what grows, and how long things take."""

# The types of matplotlib leave `**kwargs` open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Final, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench import drawing, goals_plot, latency_plot
from bench.report import by_family
from bench.rows.names import REHYDRATE
from bench.summary import Report, RowSummary

_TITLE: Final = 40
"""Letters that fit above one of three panels."""


class Plot(NamedTuple):
    """One that was drawn."""

    files: tuple[Path, Path]
    """SVG and PNG."""
    says: str
    """In place of the picture, for who cannot see it."""
    family: str = ""
    """Of the rows that it shows, where it shows those of one."""


def draw(report: Report, folder: Path) -> list[Plot]:
    """Every plot that the rows of the report have something for."""
    drawn: list[Plot] = []
    with drawing.styled():
        if (figure := goals_plot.figure(report)) is not None:
            says = "Each goal: what was measured as a bar, its spread as a line, the goal as a mark"
            drawn.append(Plot(drawing.save(figure, folder, "goals"), says))
        if (figure := _rates(report)) is not None:
            says = "Commands a second of all contestants, one panel for each workload"
            drawn.append(Plot(drawing.save(figure, folder, "rates"), says))
        for family, rows in by_family(report).items():
            name = "-".join(family.lower().split())
            if (figure := _growth(rows)) is not None:
                drawn.append(Plot(drawing.save(figure, folder, name), f"{family}, as curves", family))
            if (figure := latency_plot.figure(rows)) is not None:
                says = f"{family}: p50, p99 and p99.9"
                drawn.append(Plot(drawing.save(figure, folder, f"{name}-percentiles"), says, family))
    return drawn


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
        drawing.whisker(axes, each.value, y)
        drawing.beside(axes, f"{each.value.median:,.0f}", (each.value.most, y))
    axes.set_yticks(range(len(figures)), [each.contestant for each in figures], fontsize=8)
    axes.set_xlim(0, most * 1.18)
    axes.set_xticks([])
    axes.set_title(row.title)
    drawing.plain_axis(axes, grid="x")


def _growth(rows: Sequence[RowSummary]) -> Figure | None:
    grown = [row for row in rows if row.axis and row.figures]
    if not grown:
        return None
    columns = min(3, len(grown))
    lines = -(-len(grown) // columns)
    figure = Figure(figsize=(3.8 * columns, 2.5 * lines), layout="constrained")
    for number, row in enumerate(grown):
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
        axes.legend(loc="best", fontsize=8)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel(row.axis)
    axes.set_title(fill(row.title, _TITLE), fontsize=9)
    axes.set_ylabel(row.unit)
    drawing.plain_axis(axes, grid="y")
