"""How plots look: one set of colours and letters, and what all of them have in common."""

# The types of matplotlib leave `**kwargs` open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from matplotlib import rc_context  # pyright: ignore[reportUnknownVariableType]
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.summary import Spread

INK: Final = "#1f2933"
QUIET: Final = "#7b8794"
GRID: Final = "#e4e7eb"
OURS: Final = "#0f766e"
OURS_TOO: Final = "#5eb5ac"
"""Rehydrate with something else than the defaults."""
PEER: Final = "#d97706"
PEER_TOO: Final = "#f0b968"
RAW: Final = "#8896a8"
"""Drivers and bare loops: what could be reached."""
MET: Final = "#0f766e"
MISSED: Final = "#b42318"
CURVES: Final = (OURS, PEER, "#3b5b92", "#8b4a9c", RAW)

_STYLE: Final[Any] = {
    # DejaVu Sans comes with matplotlib. An SVG names its letters, and Verdana is as wide, where a browser has not the first.
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.facecolor": "white",
    "legend.frameon": False,
    # The same run gives the same file.
    "svg.hashsalt": "rehydrate",
}
_DOTS_PER_INCH: Final = 110


def styled() -> AbstractContextManager[None]:
    """While a figure is made and saved."""
    return rc_context(_STYLE)


def colour_of(contestant: str) -> str:
    """Whose bar it is, at a glance."""
    if contestant.startswith("Rehydrate"):
        return OURS if contestant == "Rehydrate" else OURS_TOO
    if contestant.startswith("eventsourcing"):
        return PEER if contestant == "eventsourcing" else PEER_TOO
    return PEER_TOO if contestant.startswith("Emmett") else RAW


def verdict_colour(is_met: bool | None) -> str:
    return MISSED if is_met is False else MET


def plain_axis(axes: Axes, *, grid: str) -> None:
    """Lines across one direction only, and no ticks."""
    axes.grid(visible=True, axis="x" if grid == "x" else "y")
    axes.tick_params(which="both", length=0)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(side == ("left" if grid == "x" else "bottom"))


def whisker(axes: Axes, value: Spread, y: float) -> None:
    """From the least to the most, over a bar."""
    axes.plot([value.least, value.most], [y, y], color=INK, linewidth=1, solid_capstyle="butt")


def beside(axes: Axes, text: str, end: tuple[float, float], *, color: str = INK, size: float = 8) -> None:
    """To the right of where a bar or a line ends."""
    axes.annotate(
        text,
        end,
        xytext=(7, 0),
        textcoords="offset points",
        va="center",
        color=color,
        fontsize=size,
        annotation_clip=False,
    )


def before(axes: Axes, text: str, y: float, *, up: float, color: str = INK, size: float = 9) -> None:
    """To the left of the axes, as a label of what is drawn at that height."""
    axes.annotate(
        text,
        (0, y),
        xytext=(-8, up),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        va="center",
        color=color,
        fontsize=size,
    )


def save(figure: Figure, folder: Path, name: str) -> tuple[Path, Path]:
    """As SVG, which documents embed, and as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    svg, png = folder / f"{name}.svg", folder / f"{name}.png"
    figure.savefig(svg, metadata={"Date": None})
    figure.savefig(png, dpi=_DOTS_PER_INCH, metadata={"Software": None})
    return svg, png
