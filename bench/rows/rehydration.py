"""Events a second into an aggregate that is not in memory."""

from __future__ import annotations

from functools import partial
from typing import Final

from bench import cold_start, peer_loading, rehydrating
from bench.places import Place
from bench.rows.emmett import rehydrated
from bench.rows.names import FOLD, PEER, REHYDRATE
from bench.rows.row import Contestant, Ratio, Row

_LENGTH: Final = 10_000
_LENGTHS: Final = (10, 1_000, 100_000)
"""Beside that."""
_LENGTHS_WITH_SNAPSHOT: Final = (10, 1_000, 10_000, 100_000)


def _of_ten_thousand(place: Place, fold_goal: float) -> Row:
    beside = [rehydrated(_LENGTH)] if place is Place.POSTGRES else []
    return Row(
        name=f"rehydrate-{place.name.lower()}",
        title=f"Rehydration, {place.value}",
        unit="events/s",
        contestants=(
            Contestant(REHYDRATE, partial(rehydrating.rate, place, _LENGTH)),
            Contestant(PEER, partial(peer_loading.rehydration_rate, place, _LENGTH)),
            *beside,
            Contestant(FOLD, partial(rehydrating.fold_rate, _LENGTH)),
        ),
        ratios=(
            Ratio(REHYDRATE, PEER, 10),
            *(Ratio(REHYDRATE, each.name, 1.5) for each in beside),
            Ratio(REHYDRATE, FOLD, fold_goal),
        ),
        is_quick=place is Place.SQLITE,
        server=place.server,
    )


def _by_length(place: Place) -> Row:
    curves = {REHYDRATE: rehydrating.rate, PEER: peer_loading.rehydration_rate}
    return Row(
        name=f"lengths-{place.name.lower()}",
        title=f"Rehydration by length, {place.value}",
        unit="events/s",
        axis="events in the stream",
        contestants=tuple(
            Contestant(_named(curve, length), partial(measure, place, length), at=length, curve=curve)
            for length in _LENGTHS
            for curve, measure in curves.items()
        ),
        ratios=tuple(Ratio(_named(REHYDRATE, length), _named(PEER, length)) for length in _LENGTHS),
        repetitions=2,
        server=place.server,
    )


def _with_snapshot(place: Place) -> Row:
    curves = {REHYDRATE: rehydrating.microseconds, PEER: peer_loading.rehydration_microseconds}
    return Row(
        name=f"snapshot-{place.name.lower()}",
        title=f"Rehydration with a snapshot, {place.value}",
        unit="µs",
        axis="events in the stream",
        contestants=tuple(
            Contestant(_named(curve, length), partial(measure, place, length), at=length, curve=curve)
            for length in _LENGTHS_WITH_SNAPSHOT
            for curve, measure in curves.items()
        ),
        # How many times as long the other one takes.
        ratios=tuple(
            Ratio(_named(PEER, length), _named(REHYDRATE, length)) for length in _LENGTHS_WITH_SNAPSHOT
        ),
        repetitions=2,
        server=place.server,
    )


def _cold_start(place: Place) -> Row:
    return Row(
        name=f"cold-{place.name.lower()}",
        title=f"Cold start, {place.value}",
        unit="aggregates/s",
        contestants=(
            Contestant(REHYDRATE, partial(cold_start.rate, place)),
            Contestant(PEER, partial(peer_loading.cold_start_rate, place)),
        ),
        ratios=(Ratio(REHYDRATE, PEER),),
        server=place.server,
    )


def _named(curve: str, length: int) -> str:
    return f"{curve}, {length:,} events"


_PLACES: Final = (Place.MEMORY, Place.SQLITE, Place.POSTGRES)

ROWS: Final = (
    _of_ten_thousand(Place.MEMORY, fold_goal=0.65),
    _of_ten_thousand(Place.SQLITE, fold_goal=0.4),
    _of_ten_thousand(Place.POSTGRES, fold_goal=0.5),
    *(_by_length(place) for place in _PLACES),
    *(_with_snapshot(place) for place in _PLACES),
    _cold_start(Place.SQLITE),
    _cold_start(Place.POSTGRES),
)
