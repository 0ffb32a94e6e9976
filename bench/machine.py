"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import Final

import msgspec

_SYNCS: Final = 200
_PACKAGES: Final = (
    "rehydrate",
    "msgspec",
    "asyncpg",
    "pymongo",
    "nats-py",
    "uvloop",
    "eventsourcing",
    "psycopg",
)


class Machine(msgspec.Struct, frozen=True):
    """Facts that the figures depend on."""

    processor: str
    cores: int
    """That this process may use."""
    system: str
    python: str
    sqlite: str
    packages: dict[str, str]
    event_loop: str
    fsync_ms: float
    """The median of writing 4 KiB to a file and waiting for the disk, where the databases lie."""
    load_before: float
    """Of the last minute; more than a few tenths means that somebody else was working."""


def this_machine(folder: Path) -> Machine:
    """Look at the machine; `folder` is where the databases will lie."""
    return Machine(
        processor=_processor(),
        cores=_cores(),
        system=platform.platform(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        sqlite=sqlite3.sqlite_version,
        packages={package: found for package in _PACKAGES if (found := _version(package))},
        event_loop="asyncio",
        fsync_ms=_fsync(folder) * 1_000,
        load_before=load(),
    )


def load() -> float:
    """How many processes wanted to run, averaged over the last minute."""
    return os.getloadavg()[0]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""  # Run from the source, without being installed.


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _fsync(folder: Path) -> float:
    page = b"\0" * 4_096
    path = folder / "fsync"
    times: list[float] = []
    with path.open("wb", buffering=0) as file:
        for _ in range(_SYNCS):
            began = perf_counter()
            file.write(page)
            os.fsync(file.fileno())
            times.append(perf_counter() - began)
    path.unlink()
    return statistics.median(times)
