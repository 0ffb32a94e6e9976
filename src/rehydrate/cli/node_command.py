"""`rehydrate node` and its options, as Typer declares them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rehydrate.cli.endings import perform

if TYPE_CHECKING:
    from rehydrate.nats.configuration import TlsFiles


def node(
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Its name among its peers.", show_default=False)
    ],
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Its folder, made at the first start; of this node alone.",
            show_default=False,
        ),
    ],
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen",
            metavar="HOST:PORT",
            help="By default where its peers reach it, or 127.0.0.1:4222.",
            show_default=False,
        ),
    ] = None,
    peers: Annotated[
        str,
        typer.Option(
            "--peers",
            metavar="NAME=HOST:PORT,...",
            help="All 3 or 5 nodes, itself among them, the same for all; without them it stands alone.",
            show_default=False,
        ),
    ] = "",
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            metavar="TOKEN",
            envvar="REHYDRATE_NODE_TOKEN",
            help="What clients and peers must know; safer in the variable than on the command line.",
            show_default=False,
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", metavar="FILE", help="Its certificate.", show_default=False)
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option("--tls-key", metavar="FILE", help="The certificate's key.", show_default=False),
    ] = None,
    tls_ca: Annotated[
        Path | None,
        typer.Option(
            "--tls-ca",
            metavar="FILE",
            help="The authority that signed those of all peers.",
            show_default=False,
        ),
    ] = None,
    cluster: Annotated[
        str, typer.Option("--cluster", metavar="NAME", help="The cluster's name.")
    ] = "rehydrate",
    max_bytes: Annotated[
        int | None,
        typer.Option(
            "--max-bytes",
            metavar="N",
            min=1,
            help="The most that it stores; by default most of what the disk has free.",
            show_default=False,
        ),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Run a node, until Ctrl-C: a NATS server that keeps events, alone or as one of 3 or 5 that keep the same.

    Nodes talk to each other at the port 2,000 above: 6222 for 4222.

    [bold]Examples[/bold]

    rehydrate node --name a --data /srv/rehydrate

    rehydrate node --name a --data a --peers a=127.0.0.1:4222,b=127.0.0.1:4223,c=127.0.0.1:4224

    Exit code: 0 ended by Ctrl-C or SIGTERM, 1 it cannot be started, 2 wrong usage.
    """

    async def run() -> int:
        from rehydrate.cli.node import run_node
        from rehydrate.cluster.node import Node

        return await run_node(
            Node(
                name=name,
                data=data,
                listen=listen,
                peers=peers,
                token=token,
                tls=_tls(tls_cert, tls_key, tls_ca),
                cluster=cluster,
                max_bytes=max_bytes,
            )
        )

    perform(run, debug=debug)


def _tls(certificate: Path | None, key: Path | None, authority: Path | None) -> TlsFiles | None:
    from rehydrate.nats.configuration import TlsFiles

    if certificate is None and key is None and authority is None:
        return None
    if certificate is None or key is None or authority is None:
        raise typer.BadParameter("TLS needs all three of --tls-cert, --tls-key and --tls-ca")
    return TlsFiles(certificate=certificate.absolute(), key=key.absolute(), authority=authority.absolute())
