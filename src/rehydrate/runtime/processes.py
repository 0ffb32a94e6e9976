"""The process managers of one runtime: three consumers each, made from what the App declares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rehydrate.codec.process import ProcessCodecs
from rehydrate.domain.process import ProcessManager
from rehydrate.runtime.process import Process
from rehydrate.runtime.processor import Processor
from rehydrate.runtime.runtime import Runtime
from rehydrate.runtime.sending import Sender
from rehydrate.runtime.timers import Timers


def processes_of(
    declared: Mapping[str, ProcessManager[Any, Any]], codecs: Mapping[str, ProcessCodecs]
) -> list[Process]:
    """What runs of each."""
    return [Process(process, codecs[name]) for name, process in declared.items()]


def add_consumers(runtime: Runtime, processes: Iterable[Process]) -> None:
    """Have what reads events, what sends commands, and what fires timers."""
    for process in processes:
        for work in (Processor(process, runtime), Sender(process, runtime), Timers(process, runtime)):
            runtime.consumers.add(work)
