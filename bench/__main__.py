"""`python -m bench`: measure, show a table, write JSON and plots. A missed goal is shown and is not a failure."""

from __future__ import annotations

import signal
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Final

import msgspec
from rich.console import Console

from bench.families import ROWS, row_named
from bench.machine import load, this_machine
from bench.options import parser, refuse_what_would_fail_at_the_end
from bench.report import markdown, show
from bench.rows import Row
from bench.running import run_rows
from bench.sample import FULL, LONG, QUICK, Size
from bench.summary import Report, RowSummary, joined, summarize

_INTERRUPTED: Final = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the arguments say, or show again what was measured before."""
    options = parser(ROWS).parse_args(arguments)
    if options.list:
        for row in ROWS:
            print(
                f"{row.name:28} {row.title}{', quick' if row.is_quick else ''}{', long' if row.is_long else ''}"
            )
        return
    try:
        refuse_what_would_fail_at_the_end(options)
        if options.earlier:
            report, is_whole = joined([_read(path) for path in options.earlier]), True
        else:
            report, is_whole = _measured(options)
    except (ValueError, OSError) as error:
        sys.exit(f"python -m bench: {error}")
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    show(report, Console())
    for path in _written(report, options):
        print(path, file=sys.stderr)
    if failures := [row for row in report.rows if row.failure]:
        sys.exit(f"python -m bench: {len(failures)} of {len(report.rows)} rows failed: {failures[0].failure}")
    if not is_whole:
        sys.exit(_INTERRUPTED)


def _measured(options: Namespace) -> tuple[Report, bool]:
    """What was measured, and whether that is all: nobody stopped it."""
    rows = _rows(options)
    size = _size(options)
    repetitions = options.repetitions or (2 if options.quick else 5 if options.long else 3)
    began = perf_counter()
    with tempfile.TemporaryDirectory(prefix="rehydrate-bench-", dir=options.folder) as folder:
        machine = this_machine(Path(folder))
        done: list[RowSummary] = []

        def report() -> Report:
            return Report(
                machine=machine,
                load_after=load(),
                minutes=(perf_counter() - began) / 60,
                size=size,
                repetitions=repetitions,
                rows=done,
            )

        try:
            is_same_for_all = options.quick or options.repetitions is not None
            for measured in run_rows(
                rows, size, repetitions, Path(folder), _progress, is_same_for_all=is_same_for_all
            ):
                done.append(summarize(measured))
                # After each row, so that who stops a long run keeps what it has measured.
                _write_json(report(), options.json)
        except KeyboardInterrupt:
            _progress(f"stopped after {len(done)} of {len(rows)} rows")
            if not done:
                raise
            return report(), False
    return report(), True


def _read(path: Path) -> Report:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path} is not what --json wrote: {error}") from error


def _rows(options: Namespace) -> list[Row]:
    if options.only:
        return [row_named(name) for name in dict.fromkeys(options.only)]
    if options.quick:
        return [row for row in ROWS if row.is_quick]
    return [row for row in ROWS if options.long or not row.is_long]


def _size(options: Namespace) -> Size:
    size = QUICK if options.quick else LONG if options.long else FULL
    return size if options.seconds is None else msgspec.structs.replace(size, seconds=options.seconds)


def _written(report: Report, options: Namespace) -> list[Path]:
    """What is written at the end; the tools that draw are loaded only where something is drawn."""
    written: list[Path] = []
    if options.json is not None:
        written.append(_write_json(report, options.json))
    if options.markdown is not None:
        options.markdown.write_text(markdown(report), "utf-8")
        written.append(options.markdown)
    if options.plots is not None:
        from bench import plots

        written += [path for plot in plots.draw(report, options.plots) for path in plot.files]
    if options.docs:
        from bench import page

        written += page.write(report)
    return written


def _write_json(report: Report, path: Path | None) -> Path:
    if path is None:
        return Path()
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    return path


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    # Who ends it by `kill` keeps what was measured, as by Ctrl-C, and leaves no measurement behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main()
