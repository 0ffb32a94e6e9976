"""The matrix as people read it: a table in Markdown, and the place for it in the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.faults.cluster.history import summary
from tests.faults.cluster.scene import Result, Row

PAGE: Final = Path(__file__).parents[3] / "docs" / "cluster_faults.md"
BEGIN: Final = "<!-- written by make test-faults -->"
END: Final = "<!-- to here -->"
_NOTICED: Final = 2.0
_COLUMNS: Final = (
    "what was done",
    "answers",
    "lost",
    "doubled",
    "other",
    "longest silence",
    "worst account",
    "without a leader",
    "plain publishes",
    "without their leader",
    "a second before / after",
)


def table(results: Sequence[Result | tuple[Row, str]]) -> str:
    """One line for each row; for one that was not played, why."""
    head = f"| {' | '.join(_COLUMNS)} |"
    return "\n".join([head, "|---|" + "--:|" * (len(_COLUMNS) - 1), *map(line, results)])


def line(result: Result | tuple[Row, str]) -> str:
    """The line of one row."""
    if isinstance(result, tuple):
        row, reason = result
        return f"| {row.what} | not run: {reason} |" + " |" * (len(_COLUMNS) - 2)
    kinds = summary(result.violations)
    lost, doubled = kinds.get("lost", 0), kinds.get("doubled", 0)
    other = len(result.violations) - lost - doubled + len(result.unexpected)
    ours, plain = result.ours, result.plain
    cells = [
        result.row.what,
        f"{ours.acknowledged:,}",
        str(lost),
        str(doubled),
        str(other),
        _seconds(ours.silence),
        _seconds(ours.worst),
        _leaderless(result.leaderless),
        _seconds(plain.worst),
        _leaderless(result.plain_leaderless),
        f"{ours.before:.0f} / {ours.after:.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s"


def _leaderless(seconds: float) -> str:
    """Nothing where it was not longer than between two looks on a busy machine."""
    return _seconds(seconds) if seconds >= _NOTICED else ""


def written_into(page: str, text: str) -> str:
    """The page with this text between the marks."""
    before, _, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert end, f"the page has no place for the table, between {BEGIN} and {END}"
    return f"{before}{BEGIN}\n\n{text}\n\n{end}{after}"
