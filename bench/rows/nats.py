"""Commands a second on three nodes of NATS."""

from __future__ import annotations

from functools import partial
from typing import Final

from bench import bank, dispatching, nats
from bench.appending import IN_FLIGHT
from bench.rows.names import BARE_STORE, REHYDRATE
from bench.rows.row import Contestant, Ratio, Row
from bench.servers import Server

PLAIN_PUBLISH: Final = "one js.publish a command"


def _on_nats(callers: int, *, goal: float | None = None) -> Row:
    """On three nodes."""
    return Row(
        name=f"nats-{callers}",
        title=f"NATS, three nodes, {callers:,} caller{'s' if callers > 1 else ''}",
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
    _on_nats(1, goal=0.8),
    _on_nats(IN_FLIGHT, goal=0.6),
    _on_nats(1_000),
)
