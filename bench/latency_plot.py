"""The plot of latencies: three percentiles of each contestant on one line, and the limit that was aimed at."""

# The types of matplotlib leave `**kwargs` open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench import drawing
from bench.summary import Figure as Measured
from bench.summary import RowSummary

_PERCENTILES: Final = {"p50": "o", "p99": "s", "p99.9": "D"}


def figure(family: Sequence[RowSummary]) -> Figure | None:
    """Of the rows that have all three percentiles."""
    rows = [row for row in family if row.figures and all(map(_has_percentiles, row.figures))]
    if not rows:
        return None
    heights = [len(row.figures) + 1.2 for row in rows]
    drawn = Figure(figsize=(9, 0.32 * sum(heights) + 0.7), layout="constrained")
    grid = drawn.add_gridspec(len(rows), 1, height_ratios=heights)
    first: Axes | None = None
    for number, row in enumerate(rows):
        axes = drawn.add_subplot(grid[number, 0], sharex=first)
        first = first or axes
        _latencies(axes, row)
        axes.tick_params(labelbottom=number == len(rows) - 1)
    drawn.legend(
        handles=[
            *(
                Line2D([], [], color=drawing.OURS, marker=marker, linestyle="", markersize=5, label=name)
                for name, marker in _PERCENTILES.items()
            ),
            Line2D([], [], color=drawing.MISSED, linestyle="--", linewidth=1, label="limit of p99"),
        ],
        loc="outside lower center",
        ncols=4,
    )
    return drawn


def _has_percentiles(measured: Measured) -> bool:
    return all(isinstance(measured.facts.get(name), int | float) for name in _PERCENTILES)


def _latencies(axes: Axes, row: RowSummary) -> None:
    for y, each in enumerate(row.figures):
        values = [float(each.facts[name]) for name in _PERCENTILES]
        colour = drawing.verdict_colour(each.is_met)
        axes.plot(values, [y] * len(values), color=colour, linewidth=1.5, alpha=0.5)
        for value, marker in zip(values, _PERCENTILES.values(), strict=True):
            axes.plot([value], [y], marker=marker, color=colour, markersize=5)
        says = " / ".join(f"{value:.3g}" for value in values)
        drawing.beside(axes, says, (max(values[-1], each.at_most or 0.0), y), color=drawing.QUIET)
        if each.at_most is not None:
            axes.plot(
                [each.at_most] * 2, [y - 0.4, y + 0.4], color=drawing.MISSED, linestyle="--", linewidth=1
            )
    axes.set_yticks(range(len(row.figures)), [each.contestant for each in row.figures])
    axes.set_ylim(len(row.figures) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} ms")
    axes.set_title(row.title)
    drawing.plain_axis(axes, grid="x")
