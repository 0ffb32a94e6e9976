"""The rows: what is measured beside what, and which ratios were aimed at."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from bench import bank, dispatching, peer_bank, peer_rates, peer_structs, rehydrating, structs
from bench.appending import IN_FLIGHT, bare_store_rate, raw_insert_rate
from bench.floor import fold_rate, ping_pong_rate
from bench.living import allocated, resident
from bench.sample import Sample, Size
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


REHYDRATE: Final = "Rehydrate"
WITH_STRUCTS: Final = "Rehydrate, Structs"
PEER: Final = "eventsourcing"
PEER_ON_ONE_CORE: Final = "eventsourcing, on one core"
PEER_WITH_STRUCTS: Final = "eventsourcing, Structs"
PING_PONG: Final = "asyncio ping-pong"
BARE_STORE: Final = "bare store"
RAW_INSERTS: Final = "raw inserts"
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
