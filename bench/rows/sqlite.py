"""Commands a second on SQLite."""

from __future__ import annotations

from functools import partial
from typing import Final

from bench import bank, dispatching, peer_bank, peer_rates
from bench.appending import IN_FLIGHT, bare_store_rate, raw_insert_rate
from bench.rows.names import BARE_STORE, PEER, REHYDRATE
from bench.rows.row import Contestant, Ratio, Row

RAW_INSERTS: Final = "raw inserts"

ROWS: Final = (
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
)
