"""The event loop that a measurement runs on: asyncio's own, unless the contestant is measured on uvloop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import uvloop

from bench.sample import Sample, Size

R = TypeVar("R")
Measure: TypeAlias = Callable[[Size, Path], Sample]

_IS_UVLOOP: Final = ContextVar("_IS_UVLOOP", default=False)


def run(work: Coroutine[Any, Any, R]) -> R:
    """As `asyncio.run`."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if _IS_UVLOOP.get() else None) as runner:
        return runner.run(work)


def on_uvloop(measure: Measure) -> Measure:
    """The same, where `measure` runs what it measures by `run`."""

    def measured(size: Size, folder: Path) -> Sample:
        token = _IS_UVLOOP.set(True)
        try:
            return measure(size, folder)
        finally:
            _IS_UVLOOP.reset(token)

    return measured
