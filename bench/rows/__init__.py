"""The rows: what is measured beside what, and which ratios were aimed at. One module for each family."""

from __future__ import annotations

from typing import Final

from bench.rows import (
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
from bench.rows.row import Contestant, Measure, Ratio, Row

FAMILIES: Final[dict[str, tuple[Row, ...]]] = {
    "In memory": memory.ROWS,
    "SQLite": sqlite.ROWS,
    "PostgreSQL": postgres.ROWS,
    "MongoDB": mongodb.ROWS,
    "NATS": nats.ROWS,
    "Stores without actors": stores.ROWS,
    "Several processes": clusters.ROWS,
    "Rehydration": rehydration.ROWS,
    "Growth": growth.ROWS,
    "Projections": projections.ROWS,
    "Live aggregates": live.ROWS,
    "Latency": latency.ROWS,
    "Garbage collector": collector.ROWS,
}
"""By title, in the order in which they are measured and shown."""
ROWS: Final = tuple(row for rows in FAMILIES.values() for row in rows)

__all__ = ["FAMILIES", "ROWS", "Contestant", "Measure", "Ratio", "Row"]
