"""What `eventsourcing` reaches where it projects: its events, one after the other, each tracked with its change of a view.

Its projection runner needs a recorder that can be subscribed to, which that of PostgreSQL is. On SQLite the same is done
by hand: notifications are selected in pages, and processed as the runner would.
"""

from __future__ import annotations

import gc
from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from eventsourcing.sqlite import SQLiteDatastore, SQLiteTrackingRecorder
from psycopg.sql import SQL

from bench.peer_bank import Bank
from bench.peer_rates import FASTEST, postgres_settings, sqlite_settings
from bench.sample import Sample, Size, require
from bench.servers import Server

_PAGE: Final = 1_000
_TABLE: Final = "CREATE TABLE IF NOT EXISTS balances (id text PRIMARY KEY, amount bigint, changes bigint)"
_ADD: Final = (
    "INSERT INTO balances VALUES ({0}, {0}, 1) ON CONFLICT (id) DO UPDATE "
    "SET amount = balances.amount + {0}, changes = balances.changes + 1"
)
_WHAT: Final = "the views of eventsourcing"
_CHANGES: Final = "SELECT sum(changes) AS changes FROM balances"


class _PostgresBalances(PostgresTrackingRecorder):
    def __init__(self, datastore: Any, **settings: Any) -> None:
        super().__init__(datastore, **settings)
        self.sql_create_statements.append(SQL(_TABLE).format())

    def add(self, id: str, amount: int, tracking: Tracking) -> None:
        with self.datastore.transaction(commit=True) as cursor:
            cursor.execute(_ADD.format("%s"), (id, amount, amount), prepare=True)
            self._insert_tracking(cursor, tracking)

    def changes(self) -> int:
        with self.datastore.transaction(commit=False) as cursor:
            cursor.execute(_CHANGES)
            return sum(int(row["changes"]) for row in cursor.fetchall())


class _SqliteBalances(SQLiteTrackingRecorder):
    def construct_create_table_statements(self) -> list[str]:
        return [*super().construct_create_table_statements(), _TABLE]

    def add(self, id: str, amount: int, tracking: Tracking) -> None:
        with self.datastore.transaction(commit=True) as cursor:
            cursor.execute(_ADD.format("?"), (id, amount, amount))
            self._insert_tracking(cursor, tracking)

    def changes(self) -> int:
        with self.datastore.transaction(commit=False) as cursor:
            cursor.execute(_CHANGES)
            return int(cursor.fetchone()["changes"])


class _Balances(Projection[Any]):
    def process_event(self, domain_event: Any, tracking: Tracking) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self.view.add(str(domain_event.originator_id), getattr(domain_event, "amount", 0), tracking)


def _fill(app: Bank, size: Size) -> int:
    """A smaller log: it is far slower, and as fast at the beginning as at the end."""
    accounts = max(1, size.accounts // 10)
    each = max(2, size.log // 100 // accounts)
    for _ in range(accounts):
        app.open_account(each)
    gc.collect()
    return accounts * each


def postgres_rate(size: Size, _: Path) -> Sample:
    """Its projection runner."""
    with Server.POSTGRES.database() as url:
        settings = {**FASTEST, **postgres_settings(url, 4)}
        with closing(Bank(env=settings)) as app:
            events = _fill(app, size)
            last = app.recorder.max_notification_id()
            began = perf_counter()
            with ProjectionRunner(
                application_class=Bank, projection_class=_Balances, view_class=_PostgresBalances, env=settings
            ) as runner:
                runner.wait(last, timeout=600)
                seconds = perf_counter() - began
                require(stored=runner.projection.view.changes(), expected=events, what=_WHAT)
            return Sample(events / seconds, {"events": events, "seconds": seconds})


def sqlite_rate(size: Size, folder: Path) -> Sample:
    """What its projection runner does, in a loop."""
    with closing(Bank(env={**FASTEST, **sqlite_settings(folder)})) as app:
        events = _fill(app, size)
        view = _SqliteBalances(SQLiteDatastore(db_name=str(folder / "views.db")))
        view.create_table()
        projection = _Balances(view)
        done, after = 0, 0
        began = perf_counter()
        while page := app.recorder.select_notifications(start=after + 1, limit=_PAGE):
            for notification in page:
                event: Any = app.mapper.to_domain_event(notification)
                projection.process_event(event, Tracking(app.name, notification.id))
                done += 1
            after = page[-1].id
        seconds = perf_counter() - began
        require(stored=done, expected=events, what=_WHAT)
        require(stored=view.changes(), expected=events, what=_WHAT)
        return Sample(events / seconds, {"events": events, "seconds": seconds})
