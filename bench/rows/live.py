"""Bytes of an aggregate that is alive."""

from __future__ import annotations

from functools import partial
from typing import Final

from bench.living import allocated, resident
from bench.rows.row import Contestant, Row

FRESH: Final = "allocated, fresh"
FRESH_RESIDENT: Final = "resident, fresh"
WINDOW: Final = "allocated, full window"
WINDOW_RESIDENT: Final = "resident, full window"

ROWS: Final = (
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
)
