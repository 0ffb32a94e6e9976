"""Several processes on one database, without and with a cluster."""

from __future__ import annotations

from functools import partial
from typing import Final

from bench import clustered, processes, routing
from bench.rows.row import Contestant, Ratio, Row
from bench.servers import Server

OWN_ACCOUNTS: Final = "accounts of their own"
SHARED_ACCOUNTS: Final = "shared accounts"
HOT_ACCOUNTS: Final = "12 shared accounts"
IN_A_CLUSTER: Final = ", in a cluster"
ROUTED: Final = "routed dispatch"
PLAIN_REQUEST: Final = "plain request, same append"


def _in_processes(server: Server, title: str) -> Row:
    return Row(
        name=f"{server.name.lower()}-processes",
        title=f"{title}, 3 processes of 64 callers, and a reader",
        unit="commands/s",
        contestants=(
            Contestant(OWN_ACCOUNTS, partial(processes.rate_on_own_accounts, server)),
            Contestant(SHARED_ACCOUNTS, partial(processes.rate_on_shared_accounts, server)),
        ),
        repetitions=2,
        server=server,
    )


def _clustered(server: Server, title: str) -> Row:
    """Each kind of use without a cluster and with one."""
    uses = {
        clustered.Use.OWN: OWN_ACCOUNTS,
        clustered.Use.SHARED: SHARED_ACCOUNTS,
        clustered.Use.HOT: HOT_ACCOUNTS,
    }
    return Row(
        name=f"{server.name.lower()}-clustered",
        title=f"{title}, 3 processes of 16 callers, without and with a cluster",
        unit="commands/s",
        contestants=tuple(
            Contestant(
                f"{name}{IN_A_CLUSTER if is_cluster else ''}",
                partial(clustered.rate, server, use, is_cluster=is_cluster),
            )
            for use, name in uses.items()
            for is_cluster in (False, True)
        ),
        ratios=tuple(Ratio(f"{name}{IN_A_CLUSTER}", name) for name in uses.values()),
        repetitions=2,
        server=server,
        also=Server.NATS,
    )


ROWS: Final = (
    _in_processes(Server.POSTGRES, "PostgreSQL"),
    _in_processes(Server.MONGODB, "MongoDB"),
    _clustered(Server.POSTGRES, "PostgreSQL"),
    _clustered(Server.NATS, "NATS, three nodes"),
    Row(
        name="cluster",
        title="A command on another node, median",
        unit="ms",
        contestants=(
            Contestant(ROUTED, routing.routed_latency),
            Contestant(PLAIN_REQUEST, routing.plain_latency),
        ),
        # The time of a plain request, in parts of that of a routed command: at most 1.5 times as much is wanted.
        ratios=(Ratio(PLAIN_REQUEST, ROUTED, 0.67),),
        server=Server.NATS,
    ),
)
