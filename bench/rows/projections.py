"""Views: how fast they are built, and how soon they have what a command did. And how fast process managers are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from bench import peer_projecting, projecting, transferring
from bench.rows.names import PEER, REHYDRATE
from bench.rows.row import Contestant, Measure, Ratio, Row
from bench.sample import Sample, Size
from bench.servers import Server

READ_ONLY: Final = "the log, only read"


def _projecting(
    name: str, measure: Measure, read: Measure, peer: Measure | None, server: Server | None
) -> Row:
    """Views of all accounts, built from the first event on, beside a log that is only read."""
    return Row(
        name=f"project-{name.lower()}",
        title=f"Projection, {name}",
        unit="events/s",
        contestants=(
            Contestant(REHYDRATE, measure),
            Contestant(READ_ONLY, read),
            *((Contestant(PEER, peer),) if peer else ()),
        ),
        ratios=(Ratio(REHYDRATE, READ_ONLY), *((Ratio(REHYDRATE, PEER, 10),) if peer else ())),
        server=server,
    )


def _viewing(
    name: str, measure: Callable[[int, Size, Path], Sample], server: Server | None, **at_most: float
) -> Row:
    """How long a view takes to have what a command did, at 1,000 commands a second."""
    return Row(
        name=f"view-{name.lower()}",
        title=f"From answer to view at 1,000 commands/s, {name}",
        unit="ms",
        contestants=(Contestant("p50", partial(measure, 50)), Contestant("p99", partial(measure, 99))),
        at_most=at_most,
        server=server,
    )


def _transferring(name: str, measure: Measure, server: Server | None) -> Row:
    """Three appends for each transfer, one of them by the command that is answered."""
    return Row(
        name=f"transfer-{name.lower()}",
        title=f"Transfers by a process manager, {name}",
        unit="transfers/s",
        contestants=(Contestant(REHYDRATE, measure),),
        server=server,
    )


def _weighing(*, less: int, more: int) -> Row:
    """Whether what building takes grows with the log; each account has a view, and there are as many in both."""
    few, many = f"{less:,} events", f"{more:,} events"
    return Row(
        name="project-memory",
        title="Memory for building views, SQLite",
        unit="MiB",
        contestants=(
            Contestant(few, partial(projecting.build_memory, less)),
            Contestant(many, partial(projecting.build_memory, more)),
        ),
        ratios=(Ratio(few, many, 0.5),),
        repetitions=1,
    )


_PROJECTED: Final = (
    ("SQLite", projecting.sqlite_rate, projecting.sqlite_read_rate, peer_projecting.sqlite_rate, None),
    (
        "PostgreSQL",
        projecting.postgres_rate,
        projecting.postgres_read_rate,
        peer_projecting.postgres_rate,
        Server.POSTGRES,
    ),
    ("MongoDB", projecting.mongodb_rate, projecting.mongodb_read_rate, None, Server.MONGODB),
)


ROWS: Final = (
    *(_projecting(*each) for each in _PROJECTED),
    _weighing(less=100_000, more=1_000_000),
    _viewing("memory", projecting.memory_latency, None),
    _viewing("SQLite", projecting.sqlite_latency, None),
    _viewing("PostgreSQL", projecting.postgres_latency, Server.POSTGRES, p50=10, p99=50),
    _transferring("memory", transferring.memory_rate, None),
    _transferring("SQLite", transferring.sqlite_rate, None),
    _transferring("PostgreSQL", transferring.postgres_rate, Server.POSTGRES),
)
