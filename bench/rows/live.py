"""Bytes of an aggregate that is alive."""

from __future__ import annotations

from functools import partial
from typing import Final

from bench.living import Windows, allocated, process, resident
from bench.rows.row import Contestant, Row

_COUNTS: Final = (10_000, 100_000)
_MANY: Final = 1_000_000
_FULL: Final = 200
_IN_ALL: Final = f"{_MANY:,}, fresh"


def _allocated(count: int, windows: Windows, name: str) -> Contestant:
    return Contestant(f"allocated, {name}", partial(allocated, count, windows))


def _resident(count: int, windows: Windows, name: str) -> Contestant:
    return Contestant(f"resident, {name}", partial(resident, count, windows))


ROWS: Final = (
    Row(
        name="live",
        title="A live idle aggregate",
        unit="bytes",
        contestants=(
            *(_allocated(count, Windows.NONE, f"{count:,}, fresh") for count in _COUNTS),
            *(_resident(count, Windows.NONE, f"{count:,}, fresh") for count in _COUNTS),
            _allocated(_COUNTS[0], Windows.LOADED, f"{_COUNTS[0]:,}, loaded window"),
            _resident(_COUNTS[0], Windows.LOADED, f"{_COUNTS[0]:,}, loaded window"),
            _allocated(_FULL, Windows.FULL, f"{_FULL}, full window"),
            _resident(_FULL, Windows.FULL, f"{_FULL}, full window"),
        ),
        at_most={f"allocated, {count:,}, fresh": 1_024 for count in _COUNTS},
        repetitions=1,
    ),
    Row(
        name="live-process",
        title="A process with a million live idle aggregates",
        unit="MiB",
        contestants=(Contestant(_IN_ALL, partial(process, _MANY, Windows.NONE)),),
        at_most={_IN_ALL: 1_024},
        repetitions=1,
    ),
    Row(
        name="live-process-long",
        title="A process with a million live idle aggregates, each with a window",
        unit="MiB",
        contestants=(Contestant(f"{_MANY:,}, loaded window", partial(process, _MANY, Windows.LOADED)),),
        repetitions=1,
        is_long=True,
    ),
)
