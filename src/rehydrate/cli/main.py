"""Where `rehydrate` begins. It imports Typer and Rich only after it knows that they are there."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

EXTRA = ("typer", "rich")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code; without `arguments`, those of the process."""
    try:
        from rehydrate.cli.program import program
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        if package not in EXTRA:
            raise
        sys.exit(f"rehydrate: the command line needs {package}: pip install 'rehydrate[cli]'")
    program(args=sys.argv[1:] if arguments is None else list(arguments), prog_name="rehydrate")
    sys.exit(0)
