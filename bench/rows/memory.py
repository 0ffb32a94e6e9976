"""Commands a second in memory."""

from __future__ import annotations

from functools import partial
from typing import Final

from bench import bank, dispatching, peer_bank, peer_rates, peer_structs, structs, unframed
from bench.floor import ping_pong_rate
from bench.loops import on_uvloop
from bench.rows.emmett import EMMETT, EMMETT_ON_OLDER, in_memory
from bench.rows.names import ON_UVLOOP, PEER, PEER_CACHED, PEER_PLAIN, REHYDRATE
from bench.rows.row import Contestant, Ratio, Row

WITH_STRUCTS: Final = "Rehydrate, Structs"
PEER_ON_ONE_CORE: Final = "eventsourcing, on one core"
PEER_WITH_STRUCTS: Final = "eventsourcing, Structs"
PING_PONG: Final = "asyncio ping-pong"
UNFRAMED: Final = "dict and list"

_rehydrate = dispatching.memory_rate
_peer = partial(peer_rates.memory_rate, peer_bank.Bank)

ROWS: Final = (
    Row(
        name="memory-1",
        title="In memory, 1 caller",
        unit="commands/s",
        contestants=(
            Contestant(REHYDRATE, partial(_rehydrate, bank.bank, 1)),
            Contestant(PEER, partial(_peer, 1)),
            *in_memory(1),
            Contestant(PING_PONG, partial(ping_pong_rate, 1)),
            Contestant(WITH_STRUCTS, partial(_rehydrate, structs.bank, 1)),
            Contestant(PEER_WITH_STRUCTS, partial(peer_rates.memory_rate, peer_structs.Bank, 1)),
            Contestant(PEER_CACHED, partial(_peer, 1, cache=peer_rates.CACHED)),
            Contestant(PEER_PLAIN, partial(_peer, 1, cache=peer_rates.PLAIN)),
            Contestant(UNFRAMED, unframed.rate),
        ),
        ratios=(
            Ratio(REHYDRATE, PEER, 7),
            Ratio(WITH_STRUCTS, PEER_WITH_STRUCTS, 8),
            Ratio(REHYDRATE, EMMETT, 6),
            Ratio(REHYDRATE, EMMETT_ON_OLDER),
            Ratio(REHYDRATE, PING_PONG, 1.2),
            Ratio(WITH_STRUCTS, PING_PONG, 1.6),
            Ratio(REHYDRATE, PEER_CACHED),
            Ratio(REHYDRATE, PEER_PLAIN),
            Ratio(REHYDRATE, UNFRAMED),
        ),
        is_quick=True,
    ),
    Row(
        name="memory-100",
        title="In memory, 100 callers",
        unit="commands/s",
        contestants=(
            Contestant(REHYDRATE, partial(_rehydrate, bank.bank, 100)),
            Contestant(PEER, partial(_peer, 100)),
            Contestant(PEER_ON_ONE_CORE, partial(peer_rates.memory_rate_on_one_core, peer_bank.Bank, 100)),
            *in_memory(100),
            Contestant(PING_PONG, partial(ping_pong_rate, 100)),
            Contestant(WITH_STRUCTS, partial(_rehydrate, structs.bank, 100)),
            Contestant(PEER_WITH_STRUCTS, partial(peer_rates.memory_rate, peer_structs.Bank, 100)),
            Contestant(ON_UVLOOP, on_uvloop(partial(_rehydrate, bank.bank, 100))),
        ),
        ratios=(
            Ratio(REHYDRATE, PEER, 12),
            Ratio(WITH_STRUCTS, PEER_WITH_STRUCTS, 12),
            Ratio(REHYDRATE, EMMETT, 7),
            Ratio(REHYDRATE, EMMETT_ON_OLDER),
            Ratio(REHYDRATE, PEER_ON_ONE_CORE),
            Ratio(REHYDRATE, PING_PONG),
            Ratio(WITH_STRUCTS, PING_PONG),
            Ratio(ON_UVLOOP, REHYDRATE),
        ),
        is_quick=True,
    ),
)
