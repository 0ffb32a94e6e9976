"""The laws of a store, on PostgreSQL, the newest and the oldest version that the test servers have."""

import asyncpg
import pytest

from rehydrate.testing.conformance import StoreConformance
from rehydrate.testing.conformance.appends import AppendLaws
from rehydrate.testing.conformance.checkpoints import CheckpointLaws
from rehydrate.testing.conformance.idempotency import IdempotencyLaws
from rehydrate.testing.conformance.log import LogLaws
from rehydrate.testing.conformance.ordering import OrderingLaws
from rehydrate.testing.conformance.sealing import SealingLaws
from rehydrate.testing.conformance.snapshots import SnapshotLaws

_TABLES = ("events", "snapshots", "checkpoints", "views")


class OnPostgres:
    @pytest.fixture
    def url(self, postgres_url: str) -> str:
        return postgres_url

    async def copy(self, url: str) -> str:
        """The tables, beside themselves; there is one copy at a time."""
        connection = await asyncpg.connect(url)
        try:
            async with connection.transaction():
                await connection.execute("DROP SCHEMA IF EXISTS copied CASCADE; CREATE SCHEMA copied")
                await _lock(connection)
                for table in _TABLES:
                    await connection.execute(f"CREATE TABLE copied.{table} AS TABLE rehydrate.{table}")
        finally:
            await connection.close()
        return "copied"

    async def restore(self, url: str, copied: str) -> None:
        """As a restore does that puts other data in the place of the old, under the hands of those who read and write."""
        connection = await asyncpg.connect(url)
        try:
            async with connection.transaction():
                # Without triggers, as `pg_restore --disable-triggers` does it: an event is refused every change.
                await connection.execute("SET LOCAL session_replication_role = replica")
                await _lock(connection)
                for table in _TABLES:
                    await connection.execute(f"TRUNCATE rehydrate.{table}")
                    await connection.execute(f"INSERT INTO rehydrate.{table} TABLE {copied}.{table}")
        finally:
            await connection.close()


async def _lock(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    tables = ", ".join(f"rehydrate.{table}" for table in _TABLES)
    await connection.execute(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE")


class TestPostgres(OnPostgres, StoreConformance):
    pass


class OnPostgres16(OnPostgres):
    @pytest.fixture
    def postgres_version(self) -> int:
        return 16


class TestPostgres16InShort(
    OnPostgres16,
    AppendLaws,
    IdempotencyLaws,
    OrderingLaws,
    LogLaws,
    SnapshotLaws,
    CheckpointLaws,
    SealingLaws,
):
    """The laws that every kind of statement has a part in."""


@pytest.mark.slow  # A minute, and nearly all that can differ between two versions of the server is in the short part.
class TestPostgres16(OnPostgres16, StoreConformance):
    pass
