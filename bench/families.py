"""All rows, by family."""

from __future__ import annotations

from types import ModuleType
from typing import Final

from bench.rows import (
    Row,
    clusters,
    collector,
    growth,
    latency,
    live,
    memory,
    mongodb,
    nats,
    postgres,
    projections,
    rehydration,
    sqlite,
    stores,
)

_MODULES: Final[dict[str, ModuleType]] = {
    "In memory": memory,
    "SQLite": sqlite,
    "PostgreSQL": postgres,
    "MongoDB": mongodb,
    "NATS": nats,
    "Stores without actors": stores,
    "Several processes": clusters,
    "Rehydration": rehydration,
    "Growth": growth,
    "Projections": projections,
    "Live aggregates": live,
    "Latency": latency,
    "Garbage collector": collector,
}

FAMILIES: Final[dict[str, tuple[Row, ...]]] = {title: module.ROWS for title, module in _MODULES.items()}
"""By title, in the order in which they are measured and shown."""
ROWS: Final = tuple(row for rows in FAMILIES.values() for row in rows)


def row_named(name: str) -> Row:
    """Raises `KeyError` where there is none."""
    return {row.name: row for row in ROWS}[name]


def module_of(row: Row) -> str:
    """The name of the module that it stands in."""
    return next(module.__name__ for module in _MODULES.values() if row in module.ROWS)
