"""The rows: what is measured beside what, and which ratios were aimed at."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from bench import (
    bank,
    clustered,
    dispatching,
    mongodb,
    nats,
    peer_bank,
    peer_projecting,
    peer_rates,
    peer_structs,
    postgres,
    processes,
    projecting,
    reading,
    rehydrating,
    routing,
    structs,
)
from bench.appending import IN_FLIGHT, bare_store_rate, raw_insert_rate
from bench.floor import fold_rate, ping_pong_rate
from bench.living import allocated, resident
from bench.sample import Sample, Size
from bench.servers import Server
from bench.ticking import ticker_delay

Measure: TypeAlias = Callable[[Size, Path], Sample]
"""Given the size, and an empty folder of its own."""


class Contestant(msgspec.Struct, frozen=True):
    """One of those who stand in a row."""

    name: str
    measure: Measure


class Ratio(msgspec.Struct, frozen=True):
    """One contestant's figure divided by another's, repetition by repetition."""

    of: str
    to: str
    goal: float | None = None
    """At least; None where the ratio is only reported."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What is measured in turn, again and again."""

    name: str
    title: str
    unit: str
    contestants: tuple[Contestant, ...]
    ratios: tuple[Ratio, ...] = ()
    at_most: dict[str, float] = msgspec.field(default_factory=dict[str, float])
    """Limits by contestant, in the row's unit."""
    repetitions: int | None = None
    """Where one is enough, because nothing in it depends on time."""
    server: Server | None = None
    """What has to run for it."""
    also: Server | None = None
    """What has to run beside that."""


REHYDRATE: Final = "Rehydrate"
WITH_STRUCTS: Final = "Rehydrate, Structs"
PEER: Final = "eventsourcing"
PEER_ON_ONE_CORE: Final = "eventsourcing, on one core"
PEER_WITH_STRUCTS: Final = "eventsourcing, Structs"
PING_PONG: Final = "asyncio ping-pong"
BARE_STORE: Final = "bare store"
RAW_INSERTS: Final = "raw inserts"
ONE_BY_ONE: Final = "one INSERT a commit"
IN_BATCHES: Final = "raw unnest, in batches"
INSERT_ONE: Final = "one insert_one a command"
DRIVER: Final = "the driver"
ROUTED: Final = "routed dispatch"
PLAIN_REQUEST: Final = "plain request, same append"
PLAIN_PUBLISH: Final = "one js.publish a command"
READ_ONLY: Final = "the log, only read"
OWN_ACCOUNTS: Final = "accounts of their own"
SHARED_ACCOUNTS: Final = "shared accounts"
HOT_ACCOUNTS: Final = "12 shared accounts"
IN_A_CLUSTER: Final = ", in a cluster"
FOLD: Final = "fold, decoded events"
FRESH: Final = "allocated, fresh"
FRESH_RESIDENT: Final = "resident, fresh"
WINDOW: Final = "allocated, full window"
WINDOW_RESIDENT: Final = "resident, full window"


def _in_memory(callers: int, title: str, goal: float) -> Row:
    on_one_core: tuple[Contestant, ...] = ()
    if callers > 1:
        measure = partial(peer_rates.memory_rate_on_one_core, peer_bank.Bank, callers)
        on_one_core = (Contestant(PEER_ON_ONE_CORE, measure),)
    return Row(
        name=f"memory-{callers}",
        title=title,
        unit="commands/s",
        contestants=(
            Contestant(REHYDRATE, partial(dispatching.memory_rate, bank.bank, callers)),
            Contestant(PEER, partial(peer_rates.memory_rate, peer_bank.Bank, callers)),
            *on_one_core,
            Contestant(PING_PONG, partial(ping_pong_rate, callers)),
            Contestant(WITH_STRUCTS, partial(dispatching.memory_rate, structs.bank, callers)),
            Contestant(PEER_WITH_STRUCTS, partial(peer_rates.memory_rate, peer_structs.Bank, callers)),
        ),
        ratios=(
            Ratio(REHYDRATE, PEER, goal),
            *[Ratio(REHYDRATE, contestant.name) for contestant in on_one_core],
            Ratio(WITH_STRUCTS, PEER_WITH_STRUCTS),
            Ratio(REHYDRATE, PING_PONG),
            Ratio(WITH_STRUCTS, PING_PONG),
        ),
    )


def _on_postgres(callers: int, *, peer_goal: float | None, raw_goal: float | None) -> Row:
    """On as many accounts as the size has."""
    connections = min(callers, postgres.CONNECTIONS)
    contestants = [
        Contestant(REHYDRATE, partial(dispatching.server_rate, bank.bank, Server.POSTGRES, callers)),
        Contestant(ONE_BY_ONE, partial(postgres.one_by_one_rate, connections)),
    ]
    ratios = [Ratio(REHYDRATE, ONE_BY_ONE, 3 if callers == IN_FLIGHT else None)]
    if callers <= IN_FLIGHT:
        contestants.append(Contestant(PEER, partial(peer_rates.postgres_rate, peer_bank.Bank, callers)))
        ratios.append(Ratio(REHYDRATE, PEER, peer_goal))
    if callers > 1:
        contestants.append(Contestant(IN_BATCHES, partial(postgres.batched_rate, callers)))
        ratios.append(Ratio(REHYDRATE, IN_BATCHES, raw_goal))
    if callers == IN_FLIGHT:
        contestants.append(Contestant(BARE_STORE, postgres.bare_store_rate))
        ratios.append(Ratio(BARE_STORE, IN_BATCHES))
    return Row(
        name=f"postgres-{callers}",
        title=f"PostgreSQL, {callers:,} caller{'s' if callers > 1 else ''}",
        unit="commands/s",
        contestants=tuple(contestants),
        ratios=tuple(ratios),
        server=Server.POSTGRES,
    )


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
        title=f"From a command's answer to its view, {name}, 1,000 commands/s",
        unit="ms",
        contestants=(Contestant("p50", partial(measure, 50)), Contestant("p99", partial(measure, 99))),
        at_most=at_most,
        server=server,
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


def _in_processes(server: Server, title: str) -> Row:
    return Row(
        name=f"{server.name.lower()}-processes",
        title=f"{title}, 3 processes of 64 callers, and a reader",
        unit="commands/s",
        contestants=(
            Contestant(OWN_ACCOUNTS, partial(processes.rate_on_own_accounts, server)),
            Contestant(SHARED_ACCOUNTS, partial(processes.rate_on_shared_accounts, server)),
        ),
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
        server=server,
        also=Server.NATS,
    )


def _on_nats(callers: int, goal: float) -> Row:
    """On three nodes."""
    return Row(
        name=f"nats-{callers}",
        title=f"NATS, three nodes, {callers} caller{'s' if callers > 1 else ''}",
        unit="commands/s",
        contestants=(
            Contestant(REHYDRATE, partial(dispatching.server_rate, bank.bank, Server.NATS, callers)),
            Contestant(PLAIN_PUBLISH, partial(nats.plain_rate, callers)),
            Contestant(BARE_STORE, partial(nats.bare_store_rate, callers)),
        ),
        ratios=(Ratio(BARE_STORE, PLAIN_PUBLISH, goal), Ratio(REHYDRATE, PLAIN_PUBLISH)),
        server=Server.NATS,
    )


ROWS: Final = (
    _in_memory(1, "In memory, 1 caller", goal=5),
    _in_memory(100, "In memory, 100 callers", goal=8),
    Row(
        name="sqlite-1",
        title="SQLite, 1 caller",
        unit="commands/s",
        contestants=(
            Contestant(REHYDRATE, partial(dispatching.sqlite_rate, bank.bank, 1)),
            Contestant(PEER, partial(peer_rates.sqlite_rate, peer_bank.Bank, 1)),
        ),
        ratios=(Ratio(REHYDRATE, PEER),),
    ),
    Row(
        name="sqlite-64",
        title="SQLite, 64 callers",
        unit="commands/s",
        contestants=(
            Contestant(REHYDRATE, partial(dispatching.sqlite_rate, bank.bank, IN_FLIGHT)),
            Contestant(PEER, partial(peer_rates.sqlite_rate, peer_bank.Bank, IN_FLIGHT)),
            Contestant(BARE_STORE, bare_store_rate),
            Contestant(RAW_INSERTS, raw_insert_rate),
        ),
        ratios=(
            Ratio(REHYDRATE, PEER, 10),
            Ratio(BARE_STORE, RAW_INSERTS, 0.6),
            Ratio(REHYDRATE, RAW_INSERTS),
        ),
    ),
    Row(
        name="rehydrate-memory",
        title="Rehydration, memory",
        unit="events/s",
        contestants=(
            Contestant(REHYDRATE, rehydrating.memory_rate),
            Contestant(PEER, peer_rates.rehydration_from_memory),
            Contestant(FOLD, fold_rate),
        ),
        ratios=(Ratio(REHYDRATE, PEER, 8), Ratio(REHYDRATE, FOLD)),
    ),
    Row(
        name="rehydrate-sqlite",
        title="Rehydration, SQLite",
        unit="events/s",
        contestants=(
            Contestant(REHYDRATE, rehydrating.sqlite_rate),
            Contestant(PEER, peer_rates.rehydration_from_sqlite),
            Contestant(FOLD, fold_rate),
        ),
        ratios=(Ratio(REHYDRATE, PEER, 8), Ratio(REHYDRATE, FOLD)),
    ),
    *(_projecting(*each) for each in _PROJECTED),
    _viewing("memory", projecting.memory_latency, None),
    _viewing("SQLite", projecting.sqlite_latency, None),
    _viewing("PostgreSQL", projecting.postgres_latency, Server.POSTGRES, p50=10, p99=50),
    _on_postgres(1, peer_goal=1, raw_goal=None),
    _on_postgres(64, peer_goal=10, raw_goal=0.4),
    _on_postgres(1_000, peer_goal=None, raw_goal=0.4),
    Row(
        name="postgres-hot",
        title="PostgreSQL, 64 callers on one account",
        unit="commands/s",
        contestants=(
            Contestant(
                REHYDRATE, partial(dispatching.hot_server_rate, bank.bank, Server.POSTGRES, IN_FLIGHT)
            ),
            Contestant(PEER, partial(peer_rates.hot_postgres_rate, peer_bank.Bank, IN_FLIGHT)),
        ),
        ratios=(Ratio(REHYDRATE, PEER, 10),),
        server=Server.POSTGRES,
    ),
    _in_processes(Server.POSTGRES, "PostgreSQL"),
    _clustered(Server.POSTGRES, "PostgreSQL"),
    Row(
        name="postgres-read",
        title="PostgreSQL, the log from its beginning to its end",
        unit="events/s",
        contestants=(
            Contestant(REHYDRATE, reading.postgres_rate),
            Contestant(DRIVER, reading.postgres_driver_rate),
        ),
        ratios=(Ratio(REHYDRATE, DRIVER, 0.5),),
        server=Server.POSTGRES,
    ),
    Row(
        name="mongodb-64",
        title="MongoDB, 64 callers",
        unit="commands/s",
        contestants=(
            Contestant(REHYDRATE, partial(dispatching.server_rate, bank.bank, Server.MONGODB, IN_FLIGHT)),
            Contestant(INSERT_ONE, partial(mongodb.one_by_one_rate, IN_FLIGHT)),
            Contestant(BARE_STORE, mongodb.bare_store_rate),
        ),
        ratios=(Ratio(REHYDRATE, INSERT_ONE, 5), Ratio(BARE_STORE, INSERT_ONE)),
        server=Server.MONGODB,
    ),
    _in_processes(Server.MONGODB, "MongoDB"),
    Row(
        name="mongodb-read",
        title="MongoDB, the log from its beginning to its end",
        unit="events/s",
        contestants=(
            Contestant(REHYDRATE, reading.mongodb_rate),
            Contestant(DRIVER, reading.mongodb_driver_rate),
        ),
        ratios=(Ratio(REHYDRATE, DRIVER, 0.5),),
        server=Server.MONGODB,
    ),
    _on_nats(1, goal=0.8),
    _on_nats(IN_FLIGHT, goal=0.6),
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
    Row(
        name="live",
        title="A live idle aggregate",
        unit="bytes",
        contestants=(
            Contestant(FRESH, partial(allocated, window=False)),
            Contestant(FRESH_RESIDENT, partial(resident, window=False)),
            Contestant(WINDOW, partial(allocated, window=True)),
            Contestant(WINDOW_RESIDENT, partial(resident, window=True)),
        ),
        at_most={FRESH: 1_024},
        repetitions=1,
    ),
    Row(
        name="ticker",
        title="Delay of a 10 ms ticker, p99",
        unit="ms",
        contestants=(
            Contestant("beside an idle loop", partial(ticker_delay, 0)),
            Contestant("beside 1 caller in memory", partial(ticker_delay, 1)),
            Contestant("beside 100 callers in memory", partial(ticker_delay, 100)),
        ),
    ),
)
