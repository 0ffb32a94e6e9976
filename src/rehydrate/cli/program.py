"""The commands and their options, as Typer declares them; each hands over to a module of its own."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer

from rehydrate.cli.cluster_command import cluster
from rehydrate.cli.endings import perform
from rehydrate.cli.events import Selection, show_events
from rehydrate.cli.help import Command, Group
from rehydrate.cli.input import opened
from rehydrate.cli.migrate import migrate as migrate_tables
from rehydrate.cli.moving.copy import copy_store
from rehydrate.cli.moving.exporting import export_events
from rehydrate.cli.moving.importing import import_events
from rehydrate.cli.node_command import node
from rehydrate.cli.options import Debug, Json, Limit, Store, Target, check_target
from rehydrate.cli.projections import processes, projections, subscriptions
from rehydrate.cli.run.session import Options, Streams, run_lines, write_stdout
from rehydrate.cli.state import show_state
from rehydrate.cli.streams import show_streams
from rehydrate.cli.table import wants_table
from rehydrate.cli.target import load_app
from rehydrate.cli.verify import show_findings

program: Final = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
command: Final = partial(program.command, cls=Command)
program.add_typer(projections, name="projections")
program.add_typer(subscriptions, name="subscriptions")
program.add_typer(processes, name="processes")


_SRC: Final = "REHYDRATE_SRC"
_DST: Final = "REHYDRATE_DST"


def _store_and_file(given: str, file: str | None, variable: str) -> tuple[str, str]:
    """The URL and the file of a call. A file that stands alone is of the store that the variable names."""
    if file is None and "://" not in given and (named := os.environ.get(variable)):
        return named, given
    return given, "-" if file is None else file


def _source_and_destination(source: str, destination: str | None) -> tuple[str, str]:
    """The URLs of a call. A store that stands alone is where to copy to, if the variable names where from."""
    if destination is not None:
        return source, destination
    if (named := os.environ.get(_SRC)) and named != source:
        return named, source
    raise typer.BadParameter(
        f"give where to copy to as the second argument, or in {_DST}; with {_SRC} it may stand alone",
        param_hint="DST",
    )


def _check_file(file: str) -> str:
    if file != "-" and not os.access(file, os.R_OK):
        raise typer.BadParameter(f"there is no file {file!r} that can be read")
    if Path(file).is_dir():
        raise typer.BadParameter(f"{file!r} is a directory")
    return file


def _print_version(wanted: bool) -> None:
    if wanted:
        try:
            typer.echo(f"rehydrate {importlib.metadata.version('rehydrate')}")
        except importlib.metadata.PackageNotFoundError:
            typer.echo("rehydrate (run from its source, not installed)")
        raise typer.Exit


@program.callback()
def rehydrate(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    """Event-sourced actors, from the command line: run commands, look at streams, events and states.

    [bold]Examples[/bold]

    rehydrate run bank:app --store sqlite:///bank.db < commands.jsonl

    rehydrate streams --store sqlite:///bank.db

    rehydrate events bank_account-ada --store sqlite:///bank.db --follow

    rehydrate state bank:app bank_account ada --store sqlite:///bank.db

    rehydrate verify --store sqlite:///bank.db bank:app
    """


@command()
def run(
    target: Target,
    store: Store,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE|-",
            help="JSON lines; - or nothing reads stdin.",
            callback=_check_file,
            show_default=False,
        ),
    ] = "-",
    name: Annotated[
        str | None,
        typer.Option(
            "--run",
            metavar="NAME",
            help="Make the run repeatable: the same call goes on where this one ended, and stores nothing twice.",
            show_default=False,
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Stop at the first line that is malformed or fails (not at a rejection)."
        ),
    ] = False,
    concurrency: Annotated[
        int,
        typer.Option(
            "--concurrency", metavar="N", min=1, max=10_000, help="Commands under way at the same time."
        ),
    ] = 512,
    debug: Debug = False,
) -> None:
    """Run commands from JSON lines, and write one JSON line per command, in the order of the input.

    A line: {"aggregate": "account", "id": "ada", "command": "Deposit", "data": {"amount": 5}}

    "command_id" and "metadata" are optional. The lines of one aggregate run in their order.

    [bold]Examples[/bold]

    rehydrate run bank:app --store sqlite:///bank.db in.jsonl > out.jsonl

    rehydrate run bank:app --store sqlite:///bank.db --run import < in.jsonl

    zcat in.gz | rehydrate run bank:app --store sqlite:///bank.db --run import

    Exit code: 0 all lines ran (a rejection is an answer), 1 some failed or the run stopped, 2 wrong usage, 130 Ctrl-C.
    """  # fmt: skip
    options = Options(store, name, strict, concurrency)

    with opened(file, asking_for="commands") as given:
        answers = Streams(
            given.source,
            given.total_bytes,
            write_stdout,
            shares_terminal=sys.stdout.isatty(),
            is_typed=given.is_typed,
        )
        perform(lambda: run_lines(load_app(target), options, answers), debug=debug)


@command()
def streams(
    store: Store,
    prefix: Annotated[
        str,
        typer.Option(
            "--prefix", metavar="PREFIX", help="Only those whose names begin so, for example bank_account-."
        ),
    ] = "",
    limit: Limit = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """List streams with their versions, in the order of their names.

    [bold]Example[/bold]

    rehydrate streams --store sqlite:///bank.db --prefix bank_account-
    """
    perform(lambda: show_streams(store, prefix, limit, as_table=wants_table(json)), debug=debug)


@command()
def events(
    stream: Annotated[
        str, typer.Argument(metavar="STREAM", help="For example bank_account-ada.", show_default=False)
    ],
    store: Store,
    after: Annotated[
        int, typer.Option("--after", metavar="VERSION", min=0, max=2**63 - 1, help="Only later events.")
    ] = 0,
    limit: Limit = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Wait for new events, until Ctrl-C.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show the events of a stream, oldest first.

    [bold]Examples[/bold]

    rehydrate events bank_account-ada --store sqlite:///bank.db --after 10

    rehydrate events bank_account-ada --store sqlite:///bank.db -f | jq .data
    """
    selection = Selection(stream, after, limit, follow=follow)
    perform(lambda: show_events(store, selection, as_table=wants_table(json)), debug=debug)


@command()
def state(
    target: Target,
    aggregate: Annotated[
        str,
        typer.Argument(metavar="AGGREGATE", help="Its name, for example bank_account.", show_default=False),
    ],
    id: Annotated[str, typer.Argument(metavar="ID", help="For example ada.", show_default=False)],
    store: Store,
    at: Annotated[
        int | None,
        typer.Option("--at", metavar="VERSION", min=0, help="As it was at that version.", show_default=False),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show the state of an aggregate, now or as it was.

    [bold]Examples[/bold]

    rehydrate state bank:app bank_account ada --store sqlite:///bank.db

    rehydrate state bank:app bank_account ada --store sqlite:///bank.db --at 1
    """
    perform(
        lambda: show_state(load_app(target), store, aggregate, id, at, as_table=wants_table(json)),
        debug=debug,
    )


@command()
def verify(
    store: Store,
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="MODULE:APP",
            help="Then it is also checked that events decode and that snapshots equal the fold.",
            callback=check_target,
            show_default=False,
        ),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Check a store: versions, positions, streams against the log, checkpoints; with an App also what the bytes mean.

    [bold]Examples[/bold]

    rehydrate verify --store sqlite:///bank.db

    rehydrate verify --store sqlite:///bank.db bank:app

    Exit code: 0 all is well, 1 something is wrong, 2 wrong usage.
    """
    perform(
        lambda: show_findings(store, load_app(target) if target else None, as_table=wants_table(json)),
        debug=debug,
    )


command()(node)
command()(cluster)


@command()
def migrate(store: Store, debug: Debug = False) -> None:
    """Make the tables of a store, or bring those of an older version up to date.

    Opening a store does the same, unless its URL says migrate=false.

    [bold]Example[/bold]

    rehydrate migrate --store postgresql://localhost/bank

    Exit code: 0 they are up to date, 1 they cannot be brought there, 2 wrong usage.
    """
    perform(lambda: migrate_tables(store), debug=debug)


@command()
def copy(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC",
            envvar=_SRC,
            help="The URL of the store that is copied; it may be in use.",
            show_default=False,
        ),
    ],
    destination: Annotated[
        str | None,
        typer.Argument(
            metavar="DST",
            envvar=_DST,
            help="The URL of an empty store, or of one that an earlier call has begun to fill.",
            show_default=False,
        ),
    ] = None,
    seal: Annotated[
        bool,
        typer.Option(
            "--seal", help="End the source for good: it takes no more events from anybody. For moving house."
        ),
    ] = False,
    debug: Debug = False,
) -> None:
    """Copy all events, checkpoints and views into another store, and compare the two.

    However a call ends, the same call goes on where it ended, and stores nothing twice.

    [bold]Examples[/bold]

    rehydrate copy sqlite:///bank.db postgresql://localhost/bank

    rehydrate copy sqlite:///bank.db postgresql://localhost/bank --seal

    REHYDRATE_SRC=sqlite:///bank.db rehydrate copy postgresql://localhost/bank

    Exit code: 0 all is copied and the same, 1 something is not, 2 wrong usage, 130 Ctrl-C.
    """
    source, target = _source_and_destination(source, destination)
    perform(lambda: copy_store(source, target, seal=seal), debug=debug)


@command()
def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC",
            envvar=_SRC,
            help="The URL of the store; it may be in use.",
            show_default=False,
        ),
    ],
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE|-",
            help="A file that is not there yet; - or nothing writes to stdout.",
            show_default=False,
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Write all events as JSON lines, in the order of the log. Checkpoints, views and snapshots stay.

    [bold]Examples[/bold]

    rehydrate export sqlite:///bank.db bank.jsonl

    rehydrate export sqlite:///bank.db | gzip > bank.jsonl.gz

    REHYDRATE_SRC=sqlite:///bank.db rehydrate export bank.jsonl
    """
    url, target = _store_and_file(source, file, _SRC)
    perform(lambda: export_events(url, target), debug=debug)


@command(name="import")
def import_(
    destination: Annotated[
        str,
        typer.Argument(
            metavar="DST",
            envvar=_DST,
            help="The URL of an empty store, or of one that an earlier call has begun to fill.",
            show_default=False,
        ),
    ],
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE|-",
            help="What export has written; - or nothing reads stdin.",
            show_default=False,
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Store the events that export has written, under their ids, versions and times, and read them back.

    However a call ends, the same call goes on where it ended, and stores nothing twice.

    [bold]Examples[/bold]

    rehydrate import sqlite:///copy.db bank.jsonl

    zcat bank.jsonl.gz | rehydrate import sqlite:///copy.db

    REHYDRATE_DST=sqlite:///copy.db rehydrate import bank.jsonl
    """
    url, source = _store_and_file(destination, file, _DST)
    with opened(_check_file(source), asking_for="events") as given:
        perform(lambda: import_events(url, given), debug=debug)
