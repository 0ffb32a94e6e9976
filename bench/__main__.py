"""`python -m bench`: measure, show a table, write JSON. A missed goal is shown and is not a failure."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console

from bench.machine import load, this_machine
from bench.report import markdown, show
from bench.rows import ROWS
from bench.running import MeasuredRow, row_named, run_rows
from bench.sample import FULL, QUICK, MeasurementError
from bench.summary import Report, summarize


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the arguments say."""
    options = _parser().parse_args(arguments)
    rows = [row_named(name) for name in options.only] if options.only else list(ROWS)
    size = QUICK if options.quick else FULL
    if options.seconds is not None:
        size = msgspec.structs.replace(size, seconds=options.seconds)
    repetitions = options.repetitions or (2 if options.quick else 5)
    with tempfile.TemporaryDirectory(prefix="rehydrate-bench-", dir=options.folder) as folder:
        machine = this_machine(Path(folder))
        measured: list[MeasuredRow] = []
        failure = ""
        try:
            measured.extend(run_rows(rows, size, repetitions, Path(folder), _progress))
        except MeasurementError as error:
            failure = str(error)
    report = Report(
        machine=machine,
        load_after=load(),
        size=size,
        repetitions=repetitions,
        rows=[summarize(row) for row in measured],
    )
    show(report, Console())
    if options.markdown is not None:
        options.markdown.write_text(markdown(report), "utf-8")
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    if failure:
        sys.exit(f"stopped at a measurement that failed: {failure}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names = [row.name for row in ROWS]
    parser.add_argument(
        "--quick", action="store_true", help="small and short: less than a minute, and noisier"
    )
    parser.add_argument(
        "--only",
        metavar="NAME",
        action="append",
        choices=names,
        help=f"one row; again for more: {', '.join(names)}",
    )
    parser.add_argument(
        "--markdown", metavar="FILE", type=Path, help="write the table as docs/performance.md has it"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything that was measured")
    parser.add_argument(
        "--repetitions", metavar="N", type=int, help="of each row (default 5, with --quick 2)"
    )
    parser.add_argument(
        "--seconds", metavar="S", type=float, help="of each measurement (default 2, with --quick 0.3)"
    )
    parser.add_argument(
        "--folder", metavar="DIR", type=Path, help="where the databases lie: their disk is measured"
    )
    return parser


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
