"""Commands a second on PostgreSQL, and its log read."""

from __future__ import annotations

from functools import partial
from typing import Final

from bench import bank, dispatching, peer_bank, peer_rates, postgres, reading
from bench.appending import IN_FLIGHT
from bench.rows.names import BARE_STORE, DRIVER, PEER, REHYDRATE
from bench.rows.row import Contestant, Ratio, Row
from bench.servers import Server

ONE_BY_ONE: Final = "one INSERT a commit"
IN_BATCHES: Final = "raw unnest, in batches"


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


ROWS: Final = (
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
)
