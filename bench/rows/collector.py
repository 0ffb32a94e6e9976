"""What the garbage collector costs beside many live aggregates."""

from __future__ import annotations

from functools import partial
from typing import Final

from bench.collecting import Advice, full_collection
from bench.rows.row import Contestant, Ratio, Row

ROWS: Final = (
    Row(
        name="collector",
        title="A full garbage collection beside 100,000 live aggregates",
        unit="ms",
        contestants=tuple(Contestant(advice.value, partial(full_collection, advice)) for advice in Advice),
        ratios=(Ratio(Advice.NOTHING.value, Advice.FREEZE.value),),
    ),
)
