"""What `python -m bench` can be told; what it cannot do is one sentence, before anything is measured."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from bench.rows import Row


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def parser(rows: Sequence[Row]) -> argparse.ArgumentParser:
    """The command line."""
    options = _Parser(
        prog="python -m bench",
        description="Measure Rehydrate beside its peers: a table, and if you like JSON and plots.",
    )
    which = options.add_mutually_exclusive_group()
    which.add_argument(
        "--quick", action="store_true", help="a subset, small and short: two minutes, and noisier"
    )
    which.add_argument(
        "--long", action="store_true", help="everything for longer, and what takes too long otherwise"
    )
    options.add_argument(
        "--only", metavar="NAME", action="append", type=_name_of(rows), help="one row; again for more"
    )
    options.add_argument("--list", action="store_true", help="show the names of all rows, and end")
    options.add_argument(
        "--repetitions",
        metavar="N",
        type=_count,
        help="of each row (default 3, growth 5, without a goal one less; with --quick 2, with --long 5)",
    )
    options.add_argument(
        "--seconds",
        metavar="S",
        type=_seconds,
        help="of each measurement (default 3, with --quick 0.6, with --long 5)",
    )
    options.add_argument(
        "--folder", metavar="DIR", type=Path, help="where the databases lie: their disk is measured"
    )
    options.add_argument(
        "--from",
        metavar="FILE",
        dest="earlier",
        action="append",
        default=[],
        type=Path,
        help="measure nothing, and show what --json wrote; again to join several runs on one machine",
    )
    options.add_argument(
        "--json", metavar="FILE", type=Path, help="write everything that was measured, after each row"
    )
    options.add_argument("--markdown", metavar="FILE", type=Path, help="write the tables")
    options.add_argument("--plots", metavar="DIR", type=Path, help="draw plots, as SVG and PNG")
    options.add_argument(
        "--docs", action="store_true", help="write tables and plots into docs/performance.md and docs/figures"
    )
    return options


def refuse_what_would_fail_at_the_end(options: argparse.Namespace) -> None:
    """Raises `ValueError` for what is to be written and cannot be: nobody should learn that at the end."""
    for path in (options.json, options.markdown):
        if path is not None and (path.is_dir() or not path.resolve().parent.is_dir()):
            raise ValueError(f"{path} cannot be written: there is no such folder, or it is one itself")
    if options.plots is not None and options.plots.exists() and not options.plots.is_dir():
        raise ValueError(f"{options.plots} is no folder, and plots are to lie in it")
    if options.folder is not None and not options.folder.is_dir():
        raise ValueError(f"{options.folder} is no folder, and databases are to lie in it")
    if (options.plots is not None or options.docs) and find_spec("matplotlib") is None:
        raise ValueError("plots need matplotlib: pip install 'rehydrate[bench]'")


def _name_of(rows: Sequence[Row]) -> Callable[[str], str]:
    names = [row.name for row in rows]

    def name(text: str) -> str:
        if text not in names:
            close = get_close_matches(text, names, 3, 0.5)
            meant = f"did you mean {' or '.join(close)}?" if close else "--list shows them all"
            raise argparse.ArgumentTypeError(f"there is no row {text!r}: {meant}")
        return text

    return name


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of repetitions")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 3_600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0 and below an hour")
    return seconds
