"""How long something takes, rather than how much of it is done in a second."""

from __future__ import annotations

from functools import partial
from typing import Final

from bench.rows.row import Contestant, Row
from bench.ticking import ticker_delay

ROWS: Final = (
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
