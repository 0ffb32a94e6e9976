"""A store that is filled once for a row, because its contestants only read it.

Measurements find it by a variable, and each fails that does not meet all that must be in there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeAlias

import msgspec

from bench.places import Place
from bench.sample import MeasurementError, Size

Fill: TypeAlias = Callable[[str, Size], Coroutine[Any, Any, None]]
"""Given the URL of a new store, and the size."""

STOCK: Final = "REHYDRATE_BENCH_STOCK"
"""The variable that names it."""


class Stock(msgspec.Struct, frozen=True):
    """What is in a store before the first measurement, and still after the last."""

    place: Place
    fill: Fill


def stock() -> str:
    """The URL of the row's store."""
    if STOCK not in os.environ:
        raise MeasurementError(f"{STOCK} names no store")
    return os.environ[STOCK]
