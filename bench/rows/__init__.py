"""The rows: what is measured beside what, and which ratios were aimed at. One module for each family."""

from __future__ import annotations

from typing import Final

from bench.rows import (
    clusters,
    latency,
    live,
    memory,
    mongodb,
    nats,
    postgres,
    projections,
    rehydration,
    sqlite,
)
from bench.rows.row import Contestant, Measure, Ratio, Row

ROWS: Final[tuple[Row, ...]] = (
    *memory.ROWS,
    *sqlite.ROWS,
    *postgres.ROWS,
    *mongodb.ROWS,
    *nats.ROWS,
    *clusters.ROWS,
    *rehydration.ROWS,
    *projections.ROWS,
    *live.ROWS,
    *latency.ROWS,
)
"""In the order in which they are measured and shown."""

__all__ = ["ROWS", "Contestant", "Measure", "Ratio", "Row"]
