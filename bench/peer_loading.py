"""What `eventsourcing` reaches where an aggregate is not in memory: one after the other, and many at once."""

from __future__ import annotations

import gc
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Final
from uuid import UUID, uuid4

from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder
from psycopg.sql import SQL, Identifier

from bench.cold_start import aggregates_of
from bench.peer_bank import Account, Bank
from bench.peer_rates import FASTEST, postgres_settings, require_durable, sqlite_settings
from bench.places import Place
from bench.preloading import AMOUNT
from bench.rehydrating import ENOUGH, Loads, loads_sample, snapshot_interval, streams_of, time_sample
from bench.sample import MeasurementError, Sample, Size, require

THREADS: Final = 64
_AT_ONCE: Final = 10_000
"""Events in one transaction, before the clock runs, or those of one account where that has more."""
_PATIENCE: Final = 2
"""Times the seconds of a measurement: for how long a burst may go on."""


@contextmanager
def settings_of(place: Place, folder: Path, connections: int) -> Generator[Mapping[str, str]]:
    """Of an application that keeps its events at a place; in memory it has a recorder of plain Python objects."""
    with place.url(folder) as url:
        match place:
            case Place.MEMORY:
                yield {}
            case Place.SQLITE:
                yield sqlite_settings(Path(url.removeprefix("sqlite:///")).parent)
            case Place.POSTGRES:
                yield postgres_settings(url, connections)
            case _:
                raise MeasurementError(f"eventsourcing has no recorder for {place.value}")


def preload(app: Bank, streams: int, events: int) -> list[UUID]:
    """So many accounts with so many events each: what `save` would write, in large transactions."""
    account = Account()
    for _ in range(events - 1):  # Its creation is the first one.
        account.deposit(AMOUNT)
    written = [app.mapper.to_stored_event(event) for event in account.collect_events()]
    ids = [uuid4() for _ in range(streams)]
    some = max(1, _AT_ONCE // events)
    for start in range(0, streams, some):
        new = [replace(event, originator_id=id) for id in ids[start : start + some] for event in written]
        if isinstance(app.recorder, PostgresApplicationRecorder):
            _copy(app.recorder, new)
        else:
            app.recorder.insert_events(new)
    return ids


def _copy(recorder: PostgresApplicationRecorder, events: Sequence[StoredEvent]) -> None:
    """The rows that the recorder would insert, in a fraction of the time."""
    table = Identifier(recorder.datastore.schema, recorder.events_table_name)
    rows = SQL("COPY {} (originator_id, originator_version, topic, state) FROM STDIN").format(table)
    with recorder.datastore.transaction(commit=True) as cursor, cursor.copy(rows) as copy:
        for event in events:
            copy.write_row((event.originator_id, event.originator_version, event.topic, event.state))


def rehydration_rate(place: Place, length: int, size: Size, folder: Path) -> Sample:
    """Events a second into an aggregate: the repository, without a cache, is asked for one after the other."""
    length = min(length, size.most)
    with settings_of(place, folder, 1) as settings, closing(Bank(env=settings)) as app:
        return loads_sample(_load(app, preload(app, streams_of(length, size), length), length, size), length)


def rehydration_microseconds(place: Place, length: int, size: Size, folder: Path) -> Sample:
    """For an aggregate with a snapshot as far from the end of its stream as Rehydrate's is."""
    length = min(length, size.most)
    with (
        settings_of(place, folder, 1) as settings,
        closing(Bank(env={**settings, "IS_SNAPSHOTTING_ENABLED": "y"})) as app,
    ):
        ids = preload(app, streams_of(length, size), length)
        for id in ids:
            app.take_snapshot(id, version=length - snapshot_interval(length) // 2)
        return time_sample(_load(app, ids, length, size))


def _load(app: Bank, ids: list[UUID], length: int, size: Size) -> Loads:
    states, seconds = 0, 0.0
    gc.collect()
    while seconds < min(size.seconds, ENOUGH):
        for id in ids:
            began = perf_counter()
            changes = app.changes(id)
            seconds += perf_counter() - began
            if changes != length - 1:
                raise MeasurementError(f"eventsourcing: {changes} changes from {length} events")
        states += len(ids)
    return Loads(states, seconds)


def cold_start_rate(place: Place, size: Size, folder: Path) -> Sample:
    """Aggregates a second: one command for each of many, in 64 threads; nothing is in its cache yet.

    Where that takes too long it gets no more of them than fit into the time.
    """
    count = aggregates_of(size)
    with settings_of(place, folder, THREADS) as settings:
        with closing(Bank(env=settings)) as app:
            ids = preload(app, count, size.events)
        with closing(Bank(env={**FASTEST, **settings})) as app:
            require_durable(app)
            with ThreadPoolExecutor(THREADS) as threads:
                # Connections are made before the clock runs.
                connected = [threads.submit(app.recorder.max_notification_id) for _ in range(4 * THREADS)]
                for each in connected:
                    each.result()
                gc.collect()
                began = perf_counter()
                left, until = iter(ids), began + _PATIENCE * size.seconds
                calls = [threads.submit(_deposit_in, app, left, until) for _ in range(THREADS)]
                versions = [version for call in calls for version in call.result()]
            seconds = perf_counter() - began
            new = sum(len(app.recorder.select_events(id, gt=size.events)) for id in ids)
    require(stored=new, expected=len(versions), what="eventsourcing, cold")
    require(stored=sum(versions), expected=len(versions) * (size.events + 1), what="eventsourcing, cold")
    return Sample(len(versions) / seconds, {"aggregates": len(versions), "seconds": seconds})


def _deposit_in(app: Bank, left: Iterator[UUID], until: float) -> list[int]:
    """One of the threads that share what is left; the versions that it has reached."""
    versions: list[int] = []
    for id in left:
        versions.append(app.deposit(id, AMOUNT))
        if perf_counter() >= until:
            break
    return versions
