"""`rehydrate cluster` and its options, as Typer declares them."""

from __future__ import annotations

from typing import Annotated

import typer

from rehydrate.cli.endings import perform
from rehydrate.cli.options import Debug, Json
from rehydrate.cli.table import wants_table
from rehydrate.errors import ConfigurationError


def cluster(
    url: Annotated[
        str,
        typer.Option(
            "--cluster",
            metavar="URL",
            envvar="REHYDRATE_CLUSTER",
            help="As in app.open(cluster=), for example nats://10.0.0.1/bank; a token is safer in the variable.",
            show_default=False,
        ),
    ],
    aggregate: Annotated[
        str | None,
        typer.Argument(metavar="AGGREGATE", help="Its name, for example bank_account.", show_default=False),
    ] = None,
    id: Annotated[
        str | None, typer.Argument(metavar="ID", help="For example ada.", show_default=False)
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """List the nodes of a cluster with the shards that each owns, or say which of them has an aggregate.

    [bold]Examples[/bold]

    rehydrate cluster --cluster nats://10.0.0.1/bank

    rehydrate cluster --cluster nats://10.0.0.1/bank bank_account ada
    """
    if (aggregate is None) != (id is None):
        raise typer.BadParameter("an aggregate has a name and an id: AGGREGATE ID")

    async def run() -> int:
        try:
            from rehydrate.cli.cluster import show_nodes, show_owner
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"a cluster needs what is not installed ({error}): pip install 'rehydrate[nats]'"
            ) from None
        if aggregate is None or id is None:
            return await show_nodes(url, as_table=wants_table(json))
        return await show_owner(url, aggregate, id, as_table=wants_table(json))

    perform(run, debug=debug)
