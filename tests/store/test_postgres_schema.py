"""The schema of a PostgreSQL store: how it is made and kept, and what it refuses."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from rehydrate.errors import (
    ConfigurationError,
    StoreSealedError,
)
from rehydrate.store.port import Store
from rehydrate.store.postgres import migrate_postgres, migrations
from rehydrate.store.url import open_store
from rehydrate.store_url import StoreUrl
from rehydrate.testing.clock import settle
from rehydrate.testing.conformance.material import (
    events,
    fill,
    ids,
    sound_log,
)
from rehydrate.testing.conformance.snapshots import snapshot
from tests.store.refusals import refused


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Store]:
    store = await open_store(postgres_url)
    yield store
    await store.close()


# ---- the schema


async def test_stores_of_different_schemas_in_one_database_know_nothing_of_each_other(
    postgres_url: str, store: Store
) -> None:
    other = await open_store(f"{postgres_url}?schema=other_bank")
    await fill(store, "account-1", 3)
    assert await other.versions(["account-1"]) == [0]
    assert (await other.append("account-1", events(1), expected_version=0)).position == 1
    waiting = asyncio.create_task(other.wait(after=1))
    await settle()
    await fill(store, "account-1", 1)
    await fill(other, "account-1", 1)
    await waiting
    assert len(await sound_log(store)) == 4
    assert len(await sound_log(other)) == 2
    await other.close()


async def test_without_migration_a_schema_that_is_not_there_is_refused_until_it_is_made(
    postgres_url: str, stranger: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    said = await refused(f"{postgres_url}?migrate=false")
    assert "there is no store in this schema" in said
    assert "rehydrate migrate --store URL" in said
    assert not await stranger.fetchval("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'rehydrate')")
    url = StoreUrl(postgres_url)
    assert (
        await migrate_postgres(url) == f"schema rehydrate was brought from version 0 to {migrations.VERSION}"
    )
    assert "as it should be" in await migrate_postgres(StoreUrl(postgres_url))
    store = await open_store(f"{postgres_url}?migrate=false")
    await fill(store, "account-1", 1)
    await store.close()


async def test_a_schema_of_a_newer_version_is_left_alone(
    postgres_url: str, stranger: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await (await open_store(postgres_url)).close()
    await stranger.execute(f"INSERT INTO rehydrate.migrations VALUES ({migrations.VERSION + 1})")
    for url in (postgres_url, f"{postgres_url}?migrate=false"):
        assert "was written by a newer Rehydrate" in await refused(url)
    with pytest.raises(ConfigurationError, match="upgrade Rehydrate"):
        await migrate_postgres(StoreUrl(postgres_url))


async def test_a_schema_with_events_of_another_program_is_left_alone(
    postgres_url: str, stranger: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await stranger.execute("CREATE SCHEMA rehydrate; CREATE TABLE rehydrate.events (day date)")
    assert "holds tables of another program" in await refused(postgres_url)
    assert await stranger.fetchval("SELECT count(*) FROM pg_class WHERE relname = 'checkpoints'") == 0


async def test_a_migration_that_fails_leaves_nothing_behind(
    postgres_url: str, stranger: "asyncpg.Connection[asyncpg.Record]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, "CREATE TABLE more (n nonsense)"))
    monkeypatch.setattr(migrations, "VERSION", len(migrations.MIGRATIONS))
    with pytest.raises(
        ConfigurationError, match=r"cannot be brought up to date .*nonsense.*; nothing was changed"
    ):
        await open_store(postgres_url)
    assert not await stranger.fetchval("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'rehydrate')")
    monkeypatch.undo()
    await (await open_store(postgres_url)).close()


@pytest.mark.parametrize("rights", ["nothing", "GRANT USAGE ON SCHEMA rehydrate TO visitor"])
@pytest.mark.parametrize("migrate", ["true", "false"])
async def test_a_role_without_its_rights_is_told_of_them_in_one_sentence(
    postgres_url: str, stranger: "asyncpg.Connection[asyncpg.Record]", rights: str, migrate: str
) -> None:
    await migrate_postgres(StoreUrl(postgres_url))
    await stranger.execute("DROP ROLE IF EXISTS visitor; CREATE ROLE visitor LOGIN PASSWORD 'let me in'")
    if rights != "nothing":
        await stranger.execute(rights)
    parts = urlsplit(postgres_url)
    host = parts.netloc.rpartition("@")[2]
    url = urlunsplit(parts._replace(netloc=f"visitor:let%20me%20in@{host}", query=f"migrate={migrate}"))
    said = await refused(url)
    assert "GRANT USAGE ON SCHEMA rehydrate" in said or "the role lacks a right that it needs" in said
    assert "let me in" not in said
    await stranger.execute("DROP OWNED BY visitor; DROP ROLE visitor")


async def test_an_older_schema_is_brought_up_to_date_by_whoever_opens_it_first(
    postgres_url: str, stranger: "asyncpg.Connection[asyncpg.Record]", monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await open_store(postgres_url)
    await fill(old, "account-1", 2)
    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, "CREATE TABLE more (n int)"))
    before = migrations.VERSION
    monkeypatch.setattr(migrations, "VERSION", before + 1)
    assert f"is at version {before}, and this program needs {before + 1}" in await refused(
        f"{postgres_url}?migrate=false"
    )
    stores = await asyncio.gather(*[open_store(postgres_url) for _ in range(5)])
    assert await stranger.fetchval(
        "SELECT array_agg(version ORDER BY version) FROM rehydrate.migrations"
    ) == list(range(1, before + 2))
    assert len(await sound_log(stores[0])) == 2
    for store in (old, *stores):
        await store.close()


# ---- snapshots somewhere else


async def test_snapshots_may_lie_in_a_database_of_their_own(postgres_url: str, store: Store) -> None:
    snapshots = await open_store(f"{postgres_url}?schema=only_snapshots")
    await fill(store, "account-1", 3)
    await snapshots.save_snapshot(snapshot("account-1", 3), keep=1)
    assert await store.load_snapshot("account-1") is None
    assert await snapshots.load_snapshot("account-1") == snapshot("account-1", 3)
    assert ids((await snapshots.read_all()).events) == []
    await snapshots.close()


# ---- what the database refuses


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE rehydrate.events SET type = 'Other' WHERE position = 1",
        "UPDATE rehydrate.events SET type = 'Other' WHERE false",
        "DELETE FROM rehydrate.events",
        "TRUNCATE rehydrate.events",
    ],
)
async def test_an_event_is_never_changed_and_never_deleted_by_anybody(
    store: Store, stranger: "asyncpg.Connection[asyncpg.Record]", change: str
) -> None:
    await fill(store, "account-1", 2)
    before = await sound_log(store)
    with pytest.raises(asyncpg.PostgresError, match="an event is never changed and never deleted"):
        await stranger.execute(change)
    assert await sound_log(store) == before


async def test_a_sealed_store_refuses_inserts_of_any_program(
    postgres_url: str, store: Store, stranger: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    other = await open_store(postgres_url)
    first = events(2)
    done = await other.append("account-1", first, expected_version=0)
    await fill(other, "account-1", 2)  # By now it takes no lock.
    await store.seal()
    for writer in (store, other, other):
        with pytest.raises(StoreSealedError):
            await writer.append("account-1", events(1), expected_version=4)
        with pytest.raises(StoreSealedError):
            await writer.append("account-2", events(1), expected_version=7)
        assert await writer.append("account-1", first, expected_version=0) == done
    with pytest.raises(asyncpg.PostgresError, match="sealed"):
        await stranger.execute(
            "INSERT INTO rehydrate.events VALUES (5, 'account-2', 1, 'x', 'T', '', '', 0, 5)"
        )
    await store.seal()
    assert len(await sound_log(store)) == 4
    await other.close()


async def test_sealing_waits_for_what_is_under_way_and_then_nothing_comes_behind_it(
    store: Store, stranger: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await fill(store, "account-1", 1)
    transaction = stranger.transaction()
    await transaction.start()
    await stranger.execute("INSERT INTO rehydrate.events VALUES (2, 'account-2', 1, 'x', 'T', '', '', 0, 2)")
    sealing = asyncio.create_task(store.seal())
    appending = asyncio.create_task(store.append("account-1", events(1), expected_version=1))
    await settle()
    assert not sealing.done()
    await transaction.commit()
    await sealing
    # It may have been first, or second; then it is not there.
    with suppress(StoreSealedError):
        await appending
    log = await sound_log(store)
    assert len(log) == (2 if appending.exception() else 3)
    assert log[1].id == "x"
