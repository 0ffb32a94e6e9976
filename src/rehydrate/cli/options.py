"""Arguments and options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

from rehydrate.cli.target import looks_like_target


def check_target(target: str | None) -> str | None:
    """Refuse what does not have the form MODULE:APP."""
    if target is not None and not looks_like_target(target):
        raise typer.BadParameter("write it as MODULE:APP, for example bank:app")
    return target


Target = Annotated[
    str,
    typer.Argument(
        metavar="MODULE:APP",
        help="Where the App is, for example bank:app; the current directory is searched first.",
        callback=check_target,
        show_default=False,
    ),
]
Store = Annotated[
    str,
    typer.Option(
        "--store",
        metavar="URL",
        envvar="REHYDRATE_STORE",
        help="For example sqlite:///bank.db; a password is safer in the variable than on the command line.",
        show_default=False,
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="JSON lines also on a terminal; elsewhere it is always JSON lines.")
]
Limit = Annotated[
    int | None, typer.Option("--limit", metavar="N", min=1, help="At most so many.", show_default=False)
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
