"""What only the PostgreSQL store has: its URL, its settings, its two ways of a group, its hints."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import asyncpg
import pytest

from rehydrate.errors import (
    StoreError,
    StoreUnavailableError,
    VersionConflictError,
)
from rehydrate.store.port import Appended, LogFilter, NewEvent, Store
from rehydrate.store.postgres import reader, sql
from rehydrate.store.postgres.address import read_address
from rehydrate.store.postgres.writer import Writer
from rehydrate.store.url import open_store
from rehydrate.store_url import StoreUrl
from rehydrate.testing.clock import settle
from rehydrate.testing.conformance.appends import HeardOnce, submitted
from rehydrate.testing.conformance.material import (
    event,
    events,
    fill,
    log_events,
    sound_log,
    stream_events,
)
from rehydrate.testing.servers import PostgresServer
from tests.store.refusals import refused

T = TypeVar("T")

SECRET = "correct-horse"


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Store]:
    store = await open_store(postgres_url)
    yield store
    await store.close()


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


async def test_what_the_database_refuses_is_told_without_data(
    store: Store, stranger: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """PostgreSQL adds the whole row."""
    await stranger.execute("ALTER TABLE rehydrate.events ADD CHECK (type <> 'Bad')")
    with pytest.raises(StoreError, match="violates check constraint") as refused:
        await store.append("account-1", [NewEvent("1", "Bad", b"secret")], expected_version=0)
    assert "Failing row" not in str(refused.value)
    assert b"secret".hex() not in str(refused.value)


async def test_the_number_of_a_stream_is_asked_for_once(
    postgres_url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one that this writer has begun it is known."""
    other = await open_store(postgres_url)
    for name in ("account-1", "account-2"):
        await fill(other, name, 1)
    asked: list[str] = []
    statement = vars(Writer)["_statement"]

    async def noted(writer: Writer, connection: object, text: str) -> object:
        asked.append(text)
        return await statement(writer, connection, text)

    monkeypatch.setattr(Writer, "_statement", noted)
    await fill(store, "account-3", 1)  # The locked way.
    for numbers in (["account-1", "account-3", "account-2"], ["account-1", "account-2"], ["account-2"]):
        await asyncio.gather(
            *(
                store.append(name, events(1), expected_version=version)
                for name, version in zip(numbers, await store.versions(numbers), strict=True)
            )
        )
    assert asked == [sql.APPEND_EXPECTING, sql.APPEND_KNOWN, sql.APPEND_ONE]
    assert len(await sound_log(store)) == 9
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


async def test_what_a_writer_has_not_written_it_finds_by_where_its_last_event_is_said_to_be(
    postgres_url: str, store: Store
) -> None:
    for n in range(4):
        await fill(store, f"account-{n}", 2)
    last = [(await stream_events(store, f"account-{n}"))[-1] for n in range(4)]
    other = await open_store(postgres_url)
    await fill(other, "mine", 1)
    ways: list[str] = []
    writer = vars(other)["_writer"]
    writer._append_locked = _noted(ways, "_append_locked", writer._append_locked)
    said = (last[0].position, last[0].position, 0, last[3].position)
    waiters = [HeardOnce() for _ in range(3)]
    for n, waiter in enumerate(waiters):
        assert other.submit(f"account-{n}", events(1), 2, waiter, last[n].id, said[n]) is None
    outcomes = [await waiter.heard() for waiter in waiters]
    assert [outcome.version for outcome in outcomes if isinstance(outcome, Appended)] == [3, 3, 3]
    assert ways == []
    conflict = await submitted(other, "account-3", events(1), 2, "another event", said[3])
    assert isinstance(conflict, VersionConflictError)
    assert conflict.is_another_history
    assert ways == ["_append_locked"]
    assert [len(await stream_events(store, f"account-{n}")) for n in range(4)] == [3, 3, 3, 2]
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
    await stranger.execute("INSERT INTO rehydrate.events VALUES (1, 'account-2', 1, 'x', 'T', '', '', 0, 1)")
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
