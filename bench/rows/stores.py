"""Stores without actors: appends of one event, and the log from its beginning to its end, each beside its driver."""

from __future__ import annotations

from functools import partial
from typing import Final

from bench import appending_in_memory, nats, reading
from bench.places import Place
from bench.rows.names import BARE_STORE, DRIVER
from bench.rows.row import Contestant, Ratio, Row
from bench.servers import Server
from bench.stock import Stock

_STORE: Final = "the store"
_PLAIN: Final = "dict and list"

ROWS: Final = (
    Row(
        name="memory-append",
        title="In memory, appends without actors",
        unit="events/s",
        contestants=(
            Contestant(BARE_STORE, appending_in_memory.store_rate),
            Contestant(_PLAIN, appending_in_memory.plain_rate),
        ),
        ratios=(Ratio(BARE_STORE, _PLAIN),),
    ),
    Row(
        name="memory-read",
        title="In memory, reading the log",
        unit="events/s",
        contestants=(Contestant(_STORE, reading.memory_rate),),
    ),
    Row(
        name="sqlite-read",
        title="SQLite, reading the log",
        unit="events/s",
        contestants=(
            Contestant(_STORE, reading.store_rate),
            Contestant(DRIVER, reading.sqlite_driver_rate),
        ),
        ratios=(Ratio(_STORE, DRIVER),),
        stock=Stock(Place.SQLITE, reading.fill_sqlite),
    ),
    Row(
        name="nats-read",
        title="NATS, three nodes, reading a log of single events",
        unit="events/s",
        contestants=(
            Contestant(_STORE, partial(reading.single_events_rate, Place.NATS)),
            Contestant(DRIVER, nats.read_rate),
        ),
        ratios=(Ratio(_STORE, DRIVER),),
        server=Server.NATS,
    ),
)
