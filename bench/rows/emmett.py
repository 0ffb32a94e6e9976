"""Emmett as a contestant, where Node.js and npm can be had; elsewhere its rows are measured without it."""

from __future__ import annotations

from functools import partial
from typing import Final

from bench.emmett import rates
from bench.emmett.installing import Choice, why_not_here
from bench.rows.row import Contestant

EMMETT: Final = "Emmett"
"""On the newest Node.js that is there."""
EMMETT_ON_OLDER: Final = "Emmett, older Node.js"
"""Beside that, where there are two."""

_NAMES: Final = {Choice.NEWEST: EMMETT, Choice.OLDER: EMMETT_ON_OLDER}
_PREPARE: Final = partial(why_not_here, Choice.NEWEST)


def in_memory(callers: int) -> tuple[Contestant, ...]:
    """Commands a second, on each Node.js: in memory they are far apart."""
    return tuple(
        Contestant(name, partial(rates.memory_rate, choice, callers), prepare=partial(why_not_here, choice))
        for choice, name in _NAMES.items()
    )


def on_postgres(callers: int) -> Contestant:
    """Commands a second."""
    return Contestant(EMMETT, partial(rates.postgres_rate, callers), prepare=_PREPARE)


def rehydrated(length: int) -> Contestant:
    """Events a second into a state, on PostgreSQL."""
    return Contestant(EMMETT, partial(rates.rehydration_rate, length), prepare=_PREPARE)
