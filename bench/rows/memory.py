"""Commands a second in memory."""

from __future__ import annotations

from functools import partial
from typing import Final

from bench import bank, dispatching, peer_bank, peer_rates, peer_structs, structs
from bench.floor import ping_pong_rate
from bench.rows.names import PEER, REHYDRATE
from bench.rows.row import Contestant, Ratio, Row

WITH_STRUCTS: Final = "Rehydrate, Structs"
PEER_ON_ONE_CORE: Final = "eventsourcing, on one core"
PEER_WITH_STRUCTS: Final = "eventsourcing, Structs"
PING_PONG: Final = "asyncio ping-pong"


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
)
