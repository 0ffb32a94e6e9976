"""The figures of the documentation: its tables and plots are written by the run that measured them, never by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from bench import plots
from bench.families import ROWS
from bench.report import markdown
from bench.summary import Report

PROJECT: Final = Path(__file__).parent.parent
PAGE: Final = PROJECT / "docs" / "performance.md"
FOLDER: Final = "figures"
SAMPLES: Final = "measured.json"
BEGIN: Final = "<!-- measured: begin. Written by `python -m bench --docs`, not by hand. -->"
END: Final = "<!-- measured: end -->"


def write(report: Report, page: Path = PAGE) -> list[Path]:
    """Replace what stands between the two marks of the page; plots and samples lie beside it. Returns what was written.

    Raises `ValueError` where the page lacks the marks.
    """
    before, begin, rest = page.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} lacks the marks between which figures are written: {BEGIN} and {END}")
    folder = page.parent / FOLDER
    drawn = plots.draw(report, folder)
    samples = folder / SAMPLES
    samples.write_bytes(msgspec.json.encode(report) + b"\n")
    pictures: dict[str, list[str]] = {}
    for plot in drawn:
        pictures.setdefault(plot.family, []).append(f"![{plot.says}]({FOLDER}/{plot.files[0].name})")
    section = markdown(report, pictures) + _not_measured(report)
    page.write_text(f"{before}{begin}\n\n{section}\n{end}{after}", "utf-8")
    return [page, samples, *(path for plot in drawn for path in plot.files)]


def _not_measured(report: Report) -> str:
    """A run that was stopped, or of some rows only, does not look like one of all."""
    measured = {row.name for row in report.rows}
    missing = [f"`{row.name}`" for row in ROWS if row.name not in measured and not row.is_long]
    return f"\nNot measured in this run: {', '.join(missing)}.\n" if missing else ""
