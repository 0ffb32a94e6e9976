"""`rehydrate projections`, `rehydrate subscriptions` and `rehydrate processes`, as Typer declares them."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Final

import typer

from rehydrate.cli import consumers
from rehydrate.cli.endings import perform
from rehydrate.cli.help import Command, Group
from rehydrate.cli.options import Debug, Json, Store, Target
from rehydrate.cli.table import wants_table
from rehydrate.cli.target import load_app

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="Of a consumer; a projection may be named with its revision: balances@2.",
        show_default=False,
    ),
]
MaybeStore = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", envvar="REHYDRATE_STORE", help="To list.", show_default=False),
]
Key = Annotated[
    str | None,
    typer.Option("--key", metavar="KEY", help="Only what is parked under this key.", show_default=False),
]


def _group(kind: str) -> typer.Typer:
    group = typer.Typer(
        cls=Group,
        invoke_without_command=True,
        rich_markup_mode="rich",
        help=f"Show the {'process managers' if kind == 'processes' else kind} of a store, and steer them.",
    )
    command = partial(group.command, cls=Command)

    @group.callback()
    def without_command(context: typer.Context, store: MaybeStore = None) -> None:
        if context.invoked_subcommand is None:
            if store is None:
                raise typer.BadParameter("say which store: --store URL", param_hint="--store")
            list_(store)

    @command("list")
    def list_(store: Store, json: Json = False, debug: Debug = False) -> None:
        """List them: place, events and seconds behind, rate, state, what is parked.

        [bold]Example[/bold]

        rehydrate projections list --store sqlite:///bank.db
        """
        perform(
            lambda: consumers.show_consumers(store, kind=kind, as_table=wants_table(json)),
            debug=debug,
        )

    @command()
    def pause(name: Name, store: Store, debug: Debug = False) -> None:
        """Stop it in whatever process it runs, until it is resumed."""
        perform(lambda: consumers.steer(store, name, "pause", kind=kind), debug=debug)

    @command()
    def resume(name: Name, store: Store, debug: Debug = False) -> None:
        """Let it run again: one that is paused, or that stopped at an event."""
        perform(lambda: consumers.steer(store, name, "resume", kind=kind), debug=debug)

    @command()
    def reset(name: Name, store: Store, debug: Debug = False) -> None:
        """Send it back to the beginning of the log, without views; whoever runs it begins anew."""
        perform(lambda: consumers.steer(store, name, "reset", kind=kind), debug=debug)

    @command()
    def remove(name: Name, store: Store, debug: Debug = False) -> None:
        """Forget it, with its place and its views: an old revision that no process declares any more."""
        perform(lambda: consumers.steer(store, name, "remove", kind=kind), debug=debug)

    @command()
    def parked(name: Name, store: Store, json: Json = False, debug: Debug = False) -> None:
        """List the events that it has set aside, and why."""
        perform(
            lambda: consumers.show_parked(store, name, kind=kind, as_table=wants_table(json)), debug=debug
        )

    @command()
    def replay(target: Target, name: Name, store: Store, key: Key = None, debug: Debug = False) -> None:
        """Handle what is parked, in order, here; what fails again stays parked.

        Exit code: 0 all were handled, 1 some are parked still, or nothing is under that key.
        """
        perform(lambda: consumers.replay(load_app(target), store, name, key), debug=debug)

    @command()
    def drop(target: Target, name: Name, store: Store, key: Key = None, debug: Debug = False) -> None:
        """Forget what is parked: these events will not be handled."""
        perform(lambda: consumers.drop(load_app(target), store, name, key), debug=debug)

    return group


projections: Final = _group("projections")
subscriptions: Final = _group("subscriptions")
processes: Final = _group("processes")


@projections.command(cls=Command)
def build(
    target: Target,
    store: Store,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...", help="Only these; by default all of the App.", show_default=False
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Build the views of the revisions that the App declares, before processes that need them are started.

    [bold]Example[/bold]

    rehydrate projections build bank:app --store sqlite:///bank.db
    """
    perform(lambda: consumers.build(load_app(target), store, names or []), debug=debug)
