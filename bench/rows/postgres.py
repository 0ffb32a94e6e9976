"""Commands a second on PostgreSQL, and its log read."""

from __future__ import annotations

from functools import partial
from typing import Final

from bench import bank, dispatching, peer_bank, peer_rates, postgres, reading
from bench.appending import IN_FLIGHT
from bench.loops import on_uvloop
from bench.places import Place
from bench.rows.emmett import EMMETT, on_postgres
from bench.rows.names import (
    BARE_STORE,
    DRIVER,
    ON_UVLOOP,
    ONE_BY_ONE,
    PEER,
    PEER_CACHED,
    PEER_PLAIN,
    REHYDRATE,
)
from bench.rows.row import Contestant, Ratio, Row
from bench.servers import Server
from bench.stock import Stock

IN_BATCHES: Final = "raw unnest, in batches"
COPIED: Final = "raw binary COPY, in batches"
ONE_BY_ONE_ON_UVLOOP: Final = "one INSERT a commit, uvloop"

_rehydrate = partial(dispatching.server_rate, bank.bank, Server.POSTGRES)
_peer = partial(peer_rates.postgres_rate, peer_bank.Bank)

ROWS: Final = (
    Row(
        name="postgres-1",
        title="PostgreSQL, 1 caller",
        unit="commands/s",
        contestants=(
            Contestant(REHYDRATE, partial(_rehydrate, 1)),
            Contestant(ONE_BY_ONE, partial(postgres.one_by_one_rate, 1)),
            Contestant(ON_UVLOOP, on_uvloop(partial(_rehydrate, 1))),
            Contestant(ONE_BY_ONE_ON_UVLOOP, on_uvloop(partial(postgres.one_by_one_rate, 1))),
            Contestant(PEER, partial(_peer, 1)),
        ),
        ratios=(
            Ratio(REHYDRATE, ONE_BY_ONE, 0.7),
            Ratio(ON_UVLOOP, ONE_BY_ONE_ON_UVLOOP, 0.8),
            Ratio(REHYDRATE, PEER, 1),
            Ratio(ON_UVLOOP, REHYDRATE),
        ),
        server=Server.POSTGRES,
    ),
    Row(
        name="postgres-64",
        title="PostgreSQL, 64 callers",
        unit="commands/s",
        contestants=(
            Contestant(REHYDRATE, partial(_rehydrate, IN_FLIGHT)),
            Contestant(ONE_BY_ONE, partial(postgres.one_by_one_rate, postgres.CONNECTIONS)),
            Contestant(PEER, partial(_peer, IN_FLIGHT)),
            on_postgres(IN_FLIGHT),
            Contestant(IN_BATCHES, partial(postgres.batched_rate, IN_FLIGHT)),
            Contestant(COPIED, partial(postgres.copied_rate, IN_FLIGHT)),
            Contestant(BARE_STORE, postgres.bare_store_rate),
            Contestant(ON_UVLOOP, on_uvloop(partial(_rehydrate, IN_FLIGHT))),
            Contestant(PEER_CACHED, partial(_peer, IN_FLIGHT, cache=peer_rates.CACHED)),
            Contestant(PEER_PLAIN, partial(_peer, IN_FLIGHT, cache=peer_rates.PLAIN)),
        ),
        ratios=(
            Ratio(REHYDRATE, PEER, 15),
            Ratio(REHYDRATE, EMMETT, 20),
            Ratio(REHYDRATE, IN_BATCHES, 0.5),
            Ratio(REHYDRATE, ONE_BY_ONE, 4),
            Ratio(BARE_STORE, IN_BATCHES),
            Ratio(COPIED, IN_BATCHES),
            Ratio(ON_UVLOOP, REHYDRATE),
            Ratio(REHYDRATE, PEER_CACHED),
            Ratio(REHYDRATE, PEER_PLAIN),
        ),
        server=Server.POSTGRES,
        is_quick=True,
    ),
    Row(
        name="postgres-1000",
        title="PostgreSQL, 1,000 callers",
        unit="commands/s",
        contestants=(
            Contestant(REHYDRATE, partial(_rehydrate, 1_000)),
            Contestant(ONE_BY_ONE, partial(postgres.one_by_one_rate, postgres.CONNECTIONS)),
            Contestant(IN_BATCHES, partial(postgres.batched_rate, 1_000)),
            Contestant(COPIED, partial(postgres.copied_rate, 1_000)),
            Contestant(ON_UVLOOP, on_uvloop(partial(_rehydrate, 1_000))),
        ),
        ratios=(
            Ratio(REHYDRATE, IN_BATCHES, 0.6),
            Ratio(COPIED, IN_BATCHES),
            Ratio(REHYDRATE, ONE_BY_ONE),
            Ratio(ON_UVLOOP, REHYDRATE),
        ),
        server=Server.POSTGRES,
    ),
    Row(
        name="postgres-hot",
        title="PostgreSQL, 64 callers on one account",
        unit="commands/s",
        contestants=(
            Contestant(
                REHYDRATE, partial(dispatching.hot_server_rate, bank.bank, Server.POSTGRES, IN_FLIGHT)
            ),
            Contestant(PEER_CACHED, partial(peer_rates.hot_postgres_rate, peer_bank.Bank, IN_FLIGHT)),
        ),
        ratios=(Ratio(REHYDRATE, PEER_CACHED, 20),),
        server=Server.POSTGRES,
    ),
    Row(
        name="postgres-read",
        title="PostgreSQL, reading the log",
        unit="events/s",
        contestants=(
            Contestant(REHYDRATE, reading.store_rate),
            Contestant(DRIVER, reading.postgres_driver_rate),
        ),
        ratios=(Ratio(REHYDRATE, DRIVER, 0.5),),
        stock=Stock(Place.POSTGRES, reading.fill_postgres),
        server=Server.POSTGRES,
    ),
)
