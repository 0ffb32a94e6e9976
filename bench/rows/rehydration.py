"""Events a second into an aggregate."""

from __future__ import annotations

from typing import Final

from bench import peer_rates, rehydrating
from bench.floor import fold_rate
from bench.rows.names import FOLD, PEER, REHYDRATE
from bench.rows.row import Contestant, Ratio, Row

ROWS: Final = (
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
)
