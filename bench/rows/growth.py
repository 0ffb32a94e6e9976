"""Commands a second as the store grows, with all aggregates in memory."""

from __future__ import annotations

from functools import partial
from typing import Final

from bench import growing
from bench.places import Place
from bench.rows.row import Contestant, Ratio, Row

_EVENTS: Final = (1_000, 100_000, 1_000_000)
_STREAMS: Final = (100, 1_000, 10_000, 100_000)
_MOST_EVENTS: Final = 10_000_000
_MOST_STREAMS: Final = 1_000_000


def _over_events(place: Place, *counts: int, is_long: bool = False) -> Row:
    return Row(
        name=f"events-{place.name.lower()}{'-long' if is_long else ''}",
        title=f"{place.value}, 64 callers, by events stored{', up to 10^7' if is_long else ''}",
        unit="commands/s",
        axis="stored events",
        contestants=tuple(
            Contestant(f"{count:,} events", partial(growing.over_events, place, count), at=count)
            for count in counts
        ),
        ratios=(Ratio(f"{counts[-1]:,} events", f"{counts[0]:,} events", 0.85),),
        repetitions=2 if is_long else 5,
        is_long=is_long,
        server=place.server,
    )


def _over_streams(place: Place, *counts: int, is_long: bool = False) -> Row:
    return Row(
        name=f"streams-{place.name.lower()}{'-long' if is_long else ''}",
        title=f"{place.value}, 64 callers, by streams{', up to 10^6' if is_long else ''}",
        unit="commands/s",
        axis="streams",
        contestants=tuple(
            Contestant(f"{count:,} streams", partial(growing.over_streams, place, count), at=count)
            for count in counts
        ),
        ratios=(Ratio(f"{counts[-1]:,} streams", f"{counts[0]:,} streams", None if is_long else 0.6),),
        repetitions=2 if is_long else 5,
        is_long=is_long,
        server=place.server,
    )


_PLACES: Final = (Place.MEMORY, Place.SQLITE, Place.POSTGRES)

ROWS: Final = (
    *(_over_events(place, *_EVENTS) for place in _PLACES),
    *(_over_streams(place, *_STREAMS) for place in _PLACES),
    *(_over_events(place, _EVENTS[0], _MOST_EVENTS, is_long=True) for place in _PLACES[1:]),
    *(_over_streams(place, _STREAMS[0], _MOST_STREAMS, is_long=True) for place in _PLACES),
)
