"""Where `rehydrate` begins. It imports Typer and Rich only after it knows that they are there."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from rehydrate.cli.endings import FAILED, INTERRUPTED, abandon_stdout, say, what_the_system_says

EXTRA = ("typer", "rich")
_STANDARD: Final = (("stdin", "r", os.O_WRONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY))


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code; without `arguments`, those of the process."""
    _stand_in_for_closed()
    try:
        _run(sys.argv[1:] if arguments is None else list(arguments))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except OSError as error:
        say(what_the_system_says(error))
        abandon_stdout()
        sys.exit(FAILED)
    sys.exit(0)


def _run(arguments: list[str]) -> None:
    try:
        from rehydrate.cli.program import program
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        if package not in EXTRA:
            raise
        sys.exit(f"rehydrate: the command line needs {package}: pip install 'rehydrate[cli]'")
    program(args=arguments, prog_name="rehydrate")


def _stand_in_for_closed() -> None:
    """Where stdin or stdout is closed, put one in its place that fails as soon as it is used; for stderr, nowhere.

    Python has None there: what is for a person would be printed to stdout, and a file would get a standard descriptor.
    """
    for name, mode, flags in _STANDARD:
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), mode))
