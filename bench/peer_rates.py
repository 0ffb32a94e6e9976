"""What `eventsourcing` reaches: commands per second, and events per second into an aggregate."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import cycle
from pathlib import Path
from time import perf_counter
from typing import Final
from uuid import UUID

from eventsourcing.sqlite import SQLiteFactory

from bench import peer_bank, peer_structs
from bench.sample import MeasurementError, Sample, Size, require

FASTEST: Final = {
    "AGGREGATE_CACHE_MAXSIZE": "0",
    "AGGREGATE_CACHE_FASTFORWARD": "n",
    "DEEPCOPY_FROM_AGGREGATE_CACHE": "n",
}
"""Every aggregate stays in memory and is trusted as it is: right only for one process, one thread per aggregate."""

_STREAMS = 3

AnyBank = peer_bank.Bank | peer_structs.Bank


def sqlite_settings(folder: Path) -> dict[str, str]:
    """Of an application that keeps its events in a file."""
    return {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": str(folder / "peer.db")}


def memory_rate(bank: type[AnyBank], callers: int, size: Size, _: Path) -> Sample:
    """On its recorder of plain Python objects."""
    return _dispatch_rate(bank, FASTEST, callers, size)


def memory_rate_on_one_core(bank: type[AnyBank], callers: int, size: Size, folder: Path) -> Sample:
    """The same, where the system can keep a process on one core: threads that cannot fight for the lock."""
    if sys.platform != "linux":
        return memory_rate(bank, callers, size, folder)
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        return memory_rate(bank, callers, size, folder)
    finally:
        os.sched_setaffinity(0, allowed)


def sqlite_rate(bank: type[AnyBank], callers: int, size: Size, folder: Path) -> Sample:
    """On its SQLite recorder: WAL, and synchronous=FULL, which is checked."""
    return _dispatch_rate(bank, {**FASTEST, **sqlite_settings(folder)}, callers, size)


def _dispatch_rate(bank: type[AnyBank], settings: Mapping[str, str], callers: int, size: Size) -> Sample:
    """Each caller is a thread (one caller is the main thread) with accounts of its own: deposits and withdraws."""
    with closing(bank(env=settings)) as app:
        require_durable(app)
        ids = [app.open_account(size.events) for _ in range(size.accounts)]
        versions = dict.fromkeys(ids, size.events)
        gc.collect()
        began = perf_counter()
        until = began + size.seconds
        if callers == 1:
            caller(app, ids, until, versions)
        else:
            with ThreadPoolExecutor(callers) as threads:
                shares = [ids[number::callers] for number in range(callers)]
                for ended in [threads.submit(caller, app, share, until, versions) for share in shares]:
                    ended.result()
        seconds = perf_counter() - began
        stored = app.recorder.max_notification_id() or 0
        require(stored=stored, expected=sum(versions.values()), what=f"eventsourcing with {callers} callers")
        commands = stored - size.accounts * size.events
        return Sample(commands / seconds, {"commands": commands, "seconds": seconds, "stored": stored})


def caller(app: AnyBank, ids: Sequence[UUID], until: float, versions: dict[UUID, int]) -> None:
    """One caller's loop; it notes the version that it was last told of each of its accounts."""
    deposit, withdraw = app.deposit, app.withdraw
    for id in cycle(ids):
        deposit(id, 10)
        versions[id] = withdraw(id, 1)
        if perf_counter() >= until:
            break


def rehydration_from_memory(size: Size, _: Path) -> Sample:
    """From its recorder of plain Python objects."""
    return _rehydration_rate({}, size)


def rehydration_from_sqlite(size: Size, folder: Path) -> Sample:
    """From its SQLite recorder."""
    return _rehydration_rate(sqlite_settings(folder), size)


def _rehydration_rate(settings: Mapping[str, str], size: Size) -> Sample:
    """The repository, without a cache, is asked for an account."""
    with closing(peer_bank.Bank(env=settings)) as app:
        ids = [app.open_account(size.stream) for _ in range(_STREAMS)]
        events, seconds = 0, 0.0
        gc.collect()
        while seconds < size.seconds:
            for id in ids:
                began = perf_counter()
                changes = app.changes(id)
                seconds += perf_counter() - began
                if changes != size.stream - 1:  # The first event is its creation.
                    raise MeasurementError(f"eventsourcing: {changes} changes from {size.stream} events")
                events += size.stream
        return Sample(events / seconds, {"events": events, "seconds": seconds})


def require_durable(app: AnyBank) -> None:
    """On a file: raise `MeasurementError` unless a commit waits for the disk, as Rehydrate's does."""
    if not isinstance(app.factory, SQLiteFactory):
        return
    with app.factory.datastore.transaction(commit=False) as cursor:
        settings: list[object] = []
        for pragma in ("journal_mode", "synchronous"):
            cursor.execute(f"PRAGMA {pragma}")
            settings.append(cursor.fetchone()[0])
    if settings != ["wal", 2]:
        raise MeasurementError(
            f"eventsourcing on SQLite: journal_mode and synchronous are {settings}, not wal and FULL"
        )
