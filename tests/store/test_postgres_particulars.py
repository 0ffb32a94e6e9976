"""What only the PostgreSQL store has: its URL, its schema, its settings, its hints, its seal."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from rehydrate.errors import (
    ConfigurationError,
    StoreError,
    StoreSealedError,
    StoreUnavailableError,
    VersionConflictError,
)
from rehydrate.store.port import LogFilter, Store
from rehydrate.store.postgres import migrate_postgres, migrations, reader
from rehydrate.store.postgres.address import read_address
from rehydrate.store.url import open_store
from rehydrate.store_url import StoreUrl
from rehydrate.testing.clock import settle
from rehydrate.testing.conformance.material import (
    event,
    events,
    fill,
    ids,
    log_events,
    sound_log,
    stream_events,
)
from rehydrate.testing.conformance.snapshots import snapshot
from rehydrate.testing.servers import PostgresServer

T = TypeVar("T")

SECRET = "correct-horse"


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Store]:
    store = await open_store(postgres_url)
    yield store
    await store.close()


@pytest.fixture
async def stranger(postgres_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """Somebody who uses the database without Rehydrate."""
    stranger = await asyncpg.connect(postgres_url)
    yield stranger
    await stranger.close()


async def refused(url: str) -> str:
    """The sentence with which a URL is refused."""
    with pytest.raises(ConfigurationError) as error:
        await open_store(url)
    return str(error.value)


# ---- the URL


@pytest.mark.parametrize(
    ("rest", "sentence"),
    [
        ("db?schema=Bank", "schema='Bank' must be at most 48 of the letters a-z, digits and underscores"),
        ("db?schema=a;drop", "schema='a;drop' must be"),
        (f"db?schema={'a' * 49}", "must be at most 48"),
        ("db?pool=0", "pool='0' must be a whole number of at least 1"),
        ("db?pool=1001", "pool=1001 must be at most 1000"),
        ("db?lock_timeout=0", "lock_timeout='0' must be a number of seconds above 0"),
        ("db?statement_timeout=86401", "statement_timeout=86401 must be at most 86400"),
        ("db?migrate=no", "migrate='no' must be one of true, false"),
        ("db?replica=standby:port", "'standby:port' is not HOST or HOST:PORT"),
        ("db?sslmode=on", "sslmode='on' must be one of"),
        ("db?host=/tmp", "host= is for a URL that names no host before its path"),
        ("db/events", "names no database"),
        ("db?polls=1", "there is no parameter 'polls'"),
    ],
)
async def test_a_url_that_cannot_be_meant_is_refused_with_one_sentence(rest: str, sentence: str) -> None:
    said = await refused(f"postgresql://ada:{SECRET}@127.0.0.1:1/{rest}")
    assert sentence in said
    assert SECRET not in said


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("postgresql://db/bank", [("db", 5432)]),
        ("postgresql://db:6432/bank", [("db", 6432)]),
        ("postgresql://one,two:5433/bank", [("one", 5432), ("two", 5433)]),
        ("postgresql://[::1]:5433/bank", [("::1", 5433)]),
        ("postgresql://[::1]/bank", [("::1", 5432)]),
        ("postgresql:///bank?host=/run/postgresql", [("/run/postgresql", 5432)]),
        ("postgresql:///bank?host=/run/postgresql:5433", [("/run/postgresql", 5433)]),
        ("postgresql:///bank", []),
    ],
)
def test_a_url_names_one_server_or_several_or_the_folder_of_a_socket(
    url: str, hosts: list[tuple[str, int]]
) -> None:
    assert [(host.name, host.port) for host in read_address(StoreUrl(url)).hosts] == hosts


async def test_a_wrong_user_password_or_database_is_one_sentence_without_them(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    address = read_address(StoreUrl(postgres_url))
    (host,) = address.hosts
    place = f"{host.name}:{host.port}"
    wrong = {
        f"postgresql://postgres:{SECRET}@{place}/postgres": "refuses this user, or its password",
        f"postgresql://{SECRET}:{address.password}@{place}/postgres": "refuses this user, or its password",
        f"postgresql://postgres:{address.password}@{place}/nowhere": "there is no such database",
        f"postgresql://postgres:{SECRET}@no-such-host.invalid/postgres": "there is no such host",
    }
    for url, sentence in wrong.items():
        said = await refused(url)
        assert sentence in said
        assert SECRET not in said
    assert SECRET not in caplog.text
    assert str(address.password) not in caplog.text


async def test_a_server_that_is_not_there_may_come_back(free_port: int) -> None:
    with pytest.raises(StoreUnavailableError) as error:
        await open_store(f"postgresql://postgres:{SECRET}@127.0.0.1:{free_port}/bank")
    assert (error.value.stored, error.value.retryable) == (False, True)
    assert "nothing listens there: is the server running" in str(error.value)
    assert SECRET not in repr(error.value)


@pytest.fixture
def free_port() -> int:
    from rehydrate.testing.servers.process import free_port

    return free_port()


async def test_credentials_are_in_no_name_repr_or_log(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    password = StoreUrl(postgres_url).password
    assert password
    store = await open_store(postgres_url)
    await fill(store, "account-1", 2)
    waiting = asyncio.create_task(store.wait(after=2))
    await settle()
    await store.close()
    with suppress(StoreError):
        await waiting
    shown = [store.url, repr(store), repr(read_address(StoreUrl(postgres_url))), caplog.text]
    assert password not in "".join(shown)


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
    assert await migrate_postgres(url) == "schema rehydrate was brought from version 0 to 1"
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
    monkeypatch.setattr(migrations, "VERSION", 2)
    with pytest.raises(StoreError, match="nonsense"):
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
    monkeypatch.setattr(migrations, "VERSION", 2)
    assert "is at version 1, and this program needs 2" in await refused(f"{postgres_url}?migrate=false")
    stores = await asyncio.gather(*[open_store(postgres_url) for _ in range(5)])
    assert await stranger.fetchval(
        "SELECT array_agg(version ORDER BY version) FROM rehydrate.migrations"
    ) == [1, 2]
    assert len(await sound_log(stores[0])) == 2
    for store in (old, *stores):
        await store.close()


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
        await stranger.execute("INSERT INTO rehydrate.events VALUES (5, 'account-2', 1, 'x', 'T', '', '', 0)")
    await store.seal()
    assert len(await sound_log(store)) == 4
    await other.close()


async def test_sealing_waits_for_what_is_under_way_and_then_nothing_comes_behind_it(
    store: Store, stranger: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await fill(store, "account-1", 1)
    transaction = stranger.transaction()
    await transaction.start()
    await stranger.execute("INSERT INTO rehydrate.events VALUES (2, 'account-2', 1, 'x', 'T', '', '', 0)")
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


# ---- the two ways of a group


async def test_a_group_takes_the_lock_at_first_and_for_a_while_after_somebody_else_has_written(
    postgres_url: str, store: Store
) -> None:
    writer = vars(store)["_writer"]
    ways: list[str] = []
    for name in ("_append_next", "_append_locked"):
        setattr(writer, name, _noted(ways, name, getattr(writer, name)))
    await fill(store, "account-1", 3)
    assert ways == ["_append_locked", "_append_next", "_append_next"]
    other = await open_store(postgres_url)
    await fill(other, "account-2", 1)
    ways.clear()
    await fill(store, "account-1", 25)
    assert ways == ["_append_next", *["_append_locked"] * 21, *["_append_next"] * 4]
    ways.clear()
    # A conflict or a repeat is no sign of others.
    with pytest.raises(VersionConflictError):
        await store.append("account-1", events(1), expected_version=0)
    await fill(store, "account-1", 2)
    assert ways == ["_append_next", "_append_locked", "_append_next", "_append_next"]
    await other.close()


def _noted(ways: list[str], name: str, way: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
    async def noted(*arguments: object) -> T:
        ways.append(name)
        return await way(*arguments)

    return noted


async def test_streams_that_a_process_has_not_written_itself_go_without_a_lock_too(
    postgres_url: str, store: Store
) -> None:
    for n in range(3):
        await fill(store, f"account-{n}", n + 1)
    other = await open_store(postgres_url)
    writer = vars(other)["_writer"]
    await fill(other, "mine", 1)
    ways: list[str] = []
    writer._append_locked = _noted(ways, "_append_locked", writer._append_locked)
    outcomes = await asyncio.gather(
        *[other.append(f"account-{n}", events(1), expected_version=n + 1) for n in range(3)]
    )
    assert [done.version for done in outcomes] == [2, 3, 4]
    assert ways == []
    with pytest.raises(VersionConflictError):
        await other.append("account-4", events(1), expected_version=1)
    assert ways == ["_append_locked"]
    await other.close()


# ---- pages


async def test_a_page_is_bounded_in_events_and_bytes_whatever_was_asked_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.append("account-1", [event(data=bytes(1_000)) for _ in range(25)], expected_version=0)
    whole = (await store.read_all(limit=1_000)).events
    for name, bound, size in (("MAX_PAGE", 10, 10), ("MAX_PAGE_BYTES", 5_000, 5)):
        monkeypatch.setattr(reader, name, bound)
        for where in (None, LogFilter(aggregates=frozenset({"account"}))):
            page = await store.read_all(limit=2**70, where=where)
            assert (page.events, page.is_last) == (whole[:size], False)
            assert (page.position, page.event_id) == (size, whole[size - 1].id)
            assert await log_events(store, where=where) == whole
        stream = await store.read_stream("account-1", limit=2**70)
        assert (stream.events, stream.is_last) == (whole[:size], False)
        assert await stream_events(store, "account-1") == whole
        monkeypatch.undo()
    monkeypatch.setattr(reader, "MAX_PAGE_BYTES", 5_000)
    replayed = await store.replay("account-1")
    assert (len(replayed.rows), replayed.last_id, replayed.is_last) == (5, whole[4].id, False)


# ---- settings


async def test_what_durability_and_order_rest_on_is_set_whatever_the_server_was_told(
    start_postgres: Callable[..., PostgresServer], caplog: pytest.LogCaptureFixture
) -> None:
    careless = start_postgres(
        settings={
            "synchronous_commit": "off",
            "fsync": "off",
            "default_transaction_isolation": "serializable",
            "client_min_messages": "error",
            "lock_timeout": "0",
        }
    )
    store = await open_store(careless.url)
    await fill(store, "account-1", 1)
    session = vars(store)["_writer"]._connection
    shown = {
        name: await session.fetchval(f"SHOW {name}")
        for name in (
            "synchronous_commit",
            "transaction_isolation",
            "lock_timeout",
            "search_path",
            "client_min_messages",
        )
    }
    assert shown == {
        "synchronous_commit": "on",
        "transaction_isolation": "read committed",
        "lock_timeout": "5s",
        "search_path": "rehydrate, pg_temp",
        "client_min_messages": "warning",
    }
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "the server runs with fsync off" in warning
    await store.close()


# ---- hints


async def test_whoever_waits_is_woken_by_an_append_of_another_process_without_looking_for_it(
    postgres_url: str, store: Store, stranger: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    waiter = await open_store(f"{postgres_url}?poll=80000")
    for n in range(3):
        waiting = asyncio.create_task(waiter.wait(after=n))
        await _until_somebody_listens(stranger)
        await fill(store, "account-1", 1)
        await waiting
        await _end_listening(stranger)  # And it listens again.
    await waiter.close()


async def test_whoever_waits_finds_an_append_also_where_nobody_notifies(
    postgres_url: str, stranger: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    waiter = await open_store(f"{postgres_url}?poll=0.02")
    waiting = asyncio.create_task(waiter.wait(after=0))
    await settle()
    await stranger.execute("INSERT INTO rehydrate.events VALUES (1, 'account-2', 1, 'x', 'T', '', '', 0)")
    await waiting
    await waiter.close()


async def _until_somebody_listens(stranger: "asyncpg.Connection[asyncpg.Record]") -> None:
    while not await stranger.fetchval(_LISTENING):  # noqa: ASYNC110 - the server tells nobody
        await asyncio.sleep(0)


async def _end_listening(stranger: "asyncpg.Connection[asyncpg.Record]") -> None:
    await stranger.fetchval(f"SELECT pg_terminate_backend(pid, 5000) FROM ({_LISTENING}) AS listening")


_LISTENING = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'rehydrate' AND query LIKE 'LISTEN%'
"""


# ---- snapshots somewhere else


async def test_snapshots_may_lie_in_a_database_of_their_own(postgres_url: str, store: Store) -> None:
    snapshots = await open_store(f"{postgres_url}?schema=only_snapshots")
    await fill(store, "account-1", 3)
    await snapshots.save_snapshot(snapshot("account-1", 3), keep=1)
    assert await store.load_snapshot("account-1") is None
    assert await snapshots.load_snapshot("account-1") == snapshot("account-1", 3)
    assert ids((await snapshots.read_all()).events) == []
    await snapshots.close()
