"""The plot of goals: everything that was aimed at, one bar each, with its spread and the mark that it should reach."""

from __future__ import annotations

# The types of matplotlib leave `**kwargs` open.
# pyright: reportUnknownMemberType=false
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from bench import drawing
from bench.report import number
from bench.summary import Report, Spread


class _Kind(Enum):
    """What is drawn on one scale; the value is its title."""

    TIMES = "Times as fast, at least"
    SHARES = "Part of the rate beside it, at least"
    LIMITS = "Part of a limit, at most"


class _Aim(NamedTuple):
    kind: _Kind
    title: str
    beside: str
    value: Spread
    goal: float
    is_met: bool | None
    says: str


def figure(report: Report) -> Figure | None:
    """One panel for each kind of goals."""
    aims = list(_aims(report))
    panels = {kind: [aim for aim in aims if aim.kind is kind] for kind in _Kind}
    panels = {kind: some for kind, some in panels.items() if some}
    if not panels:
        return None
    heights = [len(some) + 1.6 for some in panels.values()]
    drawn = Figure(figsize=(9, 0.36 * sum(heights) + 0.5), layout="constrained")
    grid = drawn.add_gridspec(len(panels), 1, height_ratios=heights)
    for place, (kind, some) in enumerate(panels.items()):
        _panel(drawn.add_subplot(grid[place, 0]), kind, some)
    drawn.legend(
        handles=[
            Line2D([], [], color=drawing.MET, linewidth=7, label="median, goal met"),
            Line2D([], [], color=drawing.MISSED, linewidth=7, label="median, goal missed"),
            Line2D([], [], color=drawing.INK, linewidth=1, label="least to most"),
            Line2D([], [], color=drawing.INK, marker="D", markersize=5, linestyle="", label="goal"),
        ],
        loc="outside lower center",
        ncols=4,
    )
    return drawn


def _aims(report: Report) -> Iterator[_Aim]:
    for row in report.rows:
        for ratio in row.comparisons:
            if (goal := ratio.goal) is not None:
                kind = _Kind.TIMES if goal >= 1 else _Kind.SHARES
                median = ratio.value.median
                says = f"{median:.3g} x" if goal >= 1 else f"{median:.0%}"
                yield _Aim(kind, row.title, f"{ratio.of} : {ratio.to}", ratio.value, goal, ratio.is_met, says)
        for each in row.figures:
            if (limit := each.at_most) is not None:
                value = Spread(each.value.median / limit, each.value.least / limit, each.value.most / limit)
                says = f"{number(each.value.median, row.unit)} of {number(limit, row.unit)} {row.unit}"
                yield _Aim(_Kind.LIMITS, row.title, each.contestant, value, 1.0, each.is_met, says)


def _panel(axes: Axes, kind: _Kind, aims: Sequence[_Aim]) -> None:
    beginning = 1.0 if kind is _Kind.TIMES else 0.0
    for y, aim in enumerate(aims):
        colour = drawing.verdict_colour(aim.is_met)
        axes.barh(y, aim.value.median - beginning, left=beginning, height=0.58, color=colour)
        drawing.whisker(axes, aim.value, y)
        axes.plot([aim.goal], [y], marker="D", markersize=5, color=drawing.INK, markeredgecolor="white")
        drawing.beside(axes, aim.says, (max(aim.value.most, aim.goal, beginning), y))
        drawing.before(axes, aim.title, y, up=5)
        drawing.before(axes, aim.beside, y, up=-6, color=drawing.QUIET, size=7.5)
    axes.set_yticks([])
    axes.set_ylim(len(aims) - 0.4, -0.6)
    axes.set_title(kind.value)
    _scale(axes, kind, min(aim.value.least for aim in aims), max(aim.value.most for aim in aims))
    drawing.plain_axis(axes, grid="x")


def _scale(axes: Axes, kind: _Kind, least: float, most: float) -> None:
    if kind is _Kind.TIMES:
        axes.axvline(1, color=drawing.QUIET, linewidth=0.8)
        axes.set_xscale("log")
        axes.set_xlim(min(0.5, least), most * 1.9)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} x")
    else:
        axes.set_xlim(0, max(1.0, most) * 1.12)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
