"""Commands a second on MongoDB, and its log read."""

from __future__ import annotations

from functools import partial
from typing import Final

from bench import bank, dispatching, mongodb, reading
from bench.appending import IN_FLIGHT
from bench.places import Place
from bench.rows.names import BARE_STORE, DRIVER, REHYDRATE
from bench.rows.row import Contestant, Ratio, Row
from bench.servers import Server
from bench.stock import Stock

INSERT_ONE: Final = "one insert_one a command"

IN_BATCHES: Final = "raw insert_many, in batches"


def _on_mongodb(callers: int, *, goal: float | None = None) -> Row:
    """With one caller there is nothing that could share a batch."""
    in_batches: tuple[Contestant, ...] = ()
    if callers > 1:
        in_batches = (Contestant(IN_BATCHES, partial(mongodb.batched_rate, callers)),)
    return Row(
        name=f"mongodb-{callers}",
        title=f"MongoDB, {callers:,} caller{'s' if callers > 1 else ''}",
        unit="commands/s",
        contestants=(
            Contestant(REHYDRATE, partial(dispatching.server_rate, bank.bank, Server.MONGODB, callers)),
            Contestant(INSERT_ONE, partial(mongodb.one_by_one_rate, callers)),
            Contestant(BARE_STORE, partial(mongodb.bare_store_rate, callers)),
            *in_batches,
        ),
        ratios=(
            Ratio(REHYDRATE, INSERT_ONE, goal),
            Ratio(BARE_STORE, INSERT_ONE),
            *(Ratio(REHYDRATE, contestant.name) for contestant in in_batches),
        ),
        server=Server.MONGODB,
    )


ROWS: Final = (
    _on_mongodb(1),
    _on_mongodb(IN_FLIGHT, goal=5),
    _on_mongodb(1_000),
    Row(
        name="mongodb-read",
        title="MongoDB, reading the log",
        unit="events/s",
        contestants=(
            Contestant(REHYDRATE, reading.store_rate),
            Contestant(DRIVER, reading.mongodb_driver_rate),
        ),
        ratios=(Ratio(REHYDRATE, DRIVER, 0.5),),
        stock=Stock(Place.MONGODB, reading.fill_mongodb),
        server=Server.MONGODB,
    ),
)
