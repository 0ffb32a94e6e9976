"""How long something takes, rather than how much of it is done in a second."""

from __future__ import annotations

from functools import partial
from typing import Final

from bench.pacing import latency
from bench.places import Place
from bench.rows.row import Contestant, Row
from bench.ticking import ticker_delay

_SHARES: Final = {"at 25 % of the limit": 0.25, "at 50 % of the limit": 0.5, "at 75 % of the limit": 0.75}


def _at_fixed_rates(place: Place, at_most: dict[str, float] | None = None) -> Row:
    """Of what 64 callers reach in the same process just before."""
    return Row(
        name=f"latency-{place.name.lower()}",
        title=f"A command at a fixed rate, p99, {place.value}",
        unit="ms",
        contestants=tuple(
            Contestant(name, partial(latency, place, share)) for name, share in _SHARES.items()
        ),
        at_most=at_most or {},
        server=place.server,
    )


ROWS: Final = (
    _at_fixed_rates(Place.MEMORY),
    _at_fixed_rates(Place.SQLITE),
    _at_fixed_rates(Place.POSTGRES, {"at 50 % of the limit": 10}),
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
