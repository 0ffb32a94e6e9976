"""What `eventsourcing` reaches: commands per second."""

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
from urllib.parse import urlsplit
from uuid import UUID

from eventsourcing.persistence import IntegrityError
from eventsourcing.sqlite import SQLiteFactory

from bench import peer_bank, peer_structs
from bench.sample import MeasurementError, Sample, Size, require
from bench.servers import Server

PLAIN: Final[Mapping[str, str]] = {}
"""As it comes: no cache, each command reads its aggregate's events."""
CACHED: Final[Mapping[str, str]] = {"AGGREGATE_CACHE_MAXSIZE": "0"}
"""Every aggregate stays in memory, follows what others store, and is copied: right for any number of processes."""
FASTEST: Final[Mapping[str, str]] = {
    **CACHED,
    "AGGREGATE_CACHE_FASTFORWARD": "n",
    "DEEPCOPY_FROM_AGGREGATE_CACHE": "n",
}
"""And is trusted as it is: right only for one process, one thread per aggregate."""

AnyBank = peer_bank.Bank | peer_structs.Bank


def sqlite_settings(folder: Path) -> dict[str, str]:
    """Of an application that keeps its events in a file."""
    return {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": str(folder / "peer.db")}


def memory_rate(
    bank: type[AnyBank], callers: int, size: Size, _: Path, *, cache: Mapping[str, str] = FASTEST
) -> Sample:
    """On its recorder of plain Python objects."""
    return _dispatch_rate(bank, cache, callers, size)


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


def sqlite_rate(
    bank: type[AnyBank], callers: int, size: Size, folder: Path, *, cache: Mapping[str, str] = FASTEST
) -> Sample:
    """On its SQLite recorder: WAL, and synchronous=FULL, which is checked."""
    return _dispatch_rate(bank, {**cache, **sqlite_settings(folder)}, callers, size)


def postgres_rate(
    bank: type[AnyBank], callers: int, size: Size, _: Path, *, cache: Mapping[str, str] = FASTEST
) -> Sample:
    """On its PostgreSQL recorder, with a connection for each caller."""
    with Server.POSTGRES.database() as url:
        return _dispatch_rate(bank, {**cache, **postgres_settings(url, callers)}, callers, size)


def hot_postgres_rate(bank: type[AnyBank], callers: int, size: Size, _: Path) -> Sample:
    """The same with one account for all callers, who try again when another was faster.

    Its cache has to follow what the others store, so it is fast-forwarded and copied, as is its default.
    """
    with Server.POSTGRES.database() as url:
        settings = {**CACHED, **postgres_settings(url, callers)}
        return _dispatch_rate(bank, settings, callers, size, hot=True)


def postgres_settings(url: str, callers: int) -> dict[str, str]:
    """Of an application that keeps its events in a database."""
    parts = urlsplit(url)
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": parts.path.strip("/"),
        "POSTGRES_HOST": str(parts.hostname),
        "POSTGRES_PORT": str(parts.port),
        "POSTGRES_USER": str(parts.username),
        "POSTGRES_PASSWORD": str(parts.password),
        "POSTGRES_POOL_SIZE": str(callers),
        "POSTGRES_MAX_OVERFLOW": "0",
        # It keeps order by a lock on the table for each insert, for which many have to wait longer than by default.
        "POSTGRES_LOCK_TIMEOUT": "30",
    }


def _dispatch_rate(
    bank: type[AnyBank], settings: Mapping[str, str], callers: int, size: Size, *, hot: bool = False
) -> Sample:
    """Each caller is a thread (one caller is the main thread) with accounts of its own, or all share one."""
    with closing(bank(env=settings)) as app:
        require_durable(app)
        ids = [app.open_account(size.events) for _ in range(1 if hot else size.accounts)]
        gc.collect()
        began = perf_counter()
        until = began + size.seconds
        if callers == 1:
            commands = caller(app, ids, until)
        else:
            with ThreadPoolExecutor(callers) as threads:
                shares = [ids if hot else ids[number::callers] for number in range(callers)]
                calls = [threads.submit(caller, app, share, until) for share in shares]
                commands = sum(call.result() for call in calls)
        seconds = perf_counter() - began
        # Not by the numbers of its notifications, which have gaps where an insert failed.
        stored = sum(len(app.recorder.select_events(id)) for id in ids)
        expected = len(ids) * size.events + commands
        require(stored=stored, expected=expected, what=f"eventsourcing with {callers} callers")
        return Sample(commands / seconds, {"commands": commands, "seconds": seconds, "stored": stored})


def caller(app: AnyBank, ids: Sequence[UUID], until: float) -> int:
    """One caller's loop; how many commands were done, each of which stored one event."""
    commands = 0
    for id in cycle(ids):
        for command, amount in ((app.deposit, 10), (app.withdraw, 1)):
            while True:
                try:
                    command(id, amount)
                except IntegrityError:
                    continue  # Another caller was faster, on an account that they share.
                commands += 1
                break
        if perf_counter() >= until:
            break
    return commands


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
