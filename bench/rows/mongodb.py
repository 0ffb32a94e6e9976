"""Commands a second on MongoDB, and its log read."""

from __future__ import annotations

from functools import partial
from typing import Final

from bench import bank, dispatching, mongodb, reading
from bench.appending import IN_FLIGHT
from bench.rows.names import BARE_STORE, DRIVER, REHYDRATE
from bench.rows.row import Contestant, Ratio, Row
from bench.servers import Server

INSERT_ONE: Final = "one insert_one a command"

ROWS: Final = (
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
)
