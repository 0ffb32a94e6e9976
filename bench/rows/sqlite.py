"""Commands a second on SQLite."""

from __future__ import annotations

from functools import partial
from typing import Final

from bench import bank, dispatching, peer_bank, peer_rates, raw_inserts
from bench.appending import IN_FLIGHT, bare_store_rate
from bench.rows.names import BARE_STORE, ONE_BY_ONE, PEER, PEER_CACHED, PEER_PLAIN, REHYDRATE
from bench.rows.row import Contestant, Ratio, Row

RAW_INSERTS: Final = "raw inserts"
RAW_STORE_TABLES: Final = "raw inserts, the store's tables"

_rehydrate = partial(dispatching.sqlite_rate, bank.bank)
_peer = partial(peer_rates.sqlite_rate, peer_bank.Bank)

ROWS: Final = (
    Row(
        name="sqlite-1",
        title="SQLite, 1 caller",
        unit="commands/s",
        contestants=(
            Contestant(REHYDRATE, partial(_rehydrate, 1)),
            Contestant(PEER, partial(_peer, 1)),
            Contestant(ONE_BY_ONE, partial(raw_inserts.plain_table_rate, 1)),
        ),
        ratios=(Ratio(REHYDRATE, PEER), Ratio(REHYDRATE, ONE_BY_ONE)),
    ),
    Row(
        name="sqlite-64",
        title="SQLite, 64 callers",
        unit="commands/s",
        contestants=(
            Contestant(REHYDRATE, partial(_rehydrate, IN_FLIGHT)),
            Contestant(PEER, partial(_peer, IN_FLIGHT)),
            Contestant(BARE_STORE, bare_store_rate),
            Contestant(RAW_INSERTS, partial(raw_inserts.plain_table_rate, IN_FLIGHT)),
            Contestant(RAW_STORE_TABLES, partial(raw_inserts.store_tables_rate, IN_FLIGHT)),
            Contestant(PEER_CACHED, partial(_peer, IN_FLIGHT, cache=peer_rates.CACHED)),
            Contestant(PEER_PLAIN, partial(_peer, IN_FLIGHT, cache=peer_rates.PLAIN)),
        ),
        ratios=(
            Ratio(REHYDRATE, PEER, 15),
            Ratio(REHYDRATE, RAW_INSERTS, 0.35),
            Ratio(BARE_STORE, RAW_INSERTS, 0.6),
            Ratio(REHYDRATE, RAW_STORE_TABLES),
            Ratio(BARE_STORE, RAW_STORE_TABLES),
            Ratio(REHYDRATE, PEER_CACHED),
            Ratio(REHYDRATE, PEER_PLAIN),
        ),
        is_quick=True,
    ),
)
