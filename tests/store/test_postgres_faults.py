"""What the PostgreSQL store says, and keeps, when its server fails."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest

from rehydrate.errors import StoreUnavailableError, VersionConflictError
from rehydrate.store.port import Appended, NewEvent, Store
from rehydrate.store.postgres import connection
from rehydrate.store.url import open_store
from rehydrate.testing.conformance.material import (
    Follower,
    event,
    events,
    fill,
    ids,
    lot,
    sound_log,
    whole_lots,
)
from rehydrate.testing.conformance.snapshots import counts, snapshot
from rehydrate.testing.servers import PostgresServer
from tests.store.small_disks import enlarge, small_disk

StartPostgres = Callable[..., PostgresServer]


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Store]:
    store = await open_store(postgres_url)
    yield store
    await store.close()


async def unavailable(store: Store, stream: str, new: list[NewEvent], expected: int) -> StoreUnavailableError:
    with pytest.raises(StoreUnavailableError) as error:
        await store.append(stream, new, expected_version=expected)
    return error.value


async def until_answered(store: Store, stream: str, new: list[NewEvent], expected: int) -> Appended:
    """Send an append again until the store says how it ended, as an actor does."""
    while True:
        try:
            return await store.append(stream, new, expected_version=expected)
        except StoreUnavailableError:
            await asyncio.sleep(0.01)


# ---- a server that is killed, or goes back


@pytest.mark.parametrize("version", [16, 18])
async def test_what_was_acknowledged_survives_a_kill_of_the_server_under_load(
    start_postgres: StartPostgres, version: int
) -> None:
    server = start_postgres(version=version)
    store = await open_store(server.url)
    acked: dict[str, Appended] = {}
    stop = asyncio.Event()

    async def write(task: int) -> None:
        n = 0
        while not stop.is_set():
            n += 1
            name = f"{task}.{n}"
            acked[name] = await until_answered(store, f"account-{name}", lot(name, n % 3 + 1), 0)

    writing = [asyncio.create_task(write(task)) for task in range(8)]
    for n in range(3):
        reached = len(acked) + 40 + 7 * n
        while len(acked) < reached:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
    stop.set()
    await asyncio.gather(*writing)
    # In the order of the answers or not: the log knows each once, and whole.
    assert whole_lots(await sound_log(store)) == acked
    await store.close()


async def test_a_reader_goes_on_where_it_was_after_the_server_was_restarted(
    start_postgres: StartPostgres,
) -> None:
    server = start_postgres()
    store = await open_store(f"{server.url}?poll=0.02")
    await fill(store, "account-1", 3)
    async with Follower(store, pause=0.001) as reader:
        await reader.reaches(3)
        waiting = asyncio.create_task(store.wait(after=3))
        with suppress(StoreUnavailableError):
            await asyncio.to_thread(server.stop)
            await waiting
    await asyncio.to_thread(server.start)
    await until_answered(store, "account-1", lot("after", 2), 3)
    await store.wait(after=3)
    assert (await store.read_all(after=3)).position == 5
    await store.close()


async def test_a_server_that_was_set_back_is_noticed_and_nothing_is_papered_over(
    start_postgres: StartPostgres, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_postgres()
    first = await open_store(server.url)
    await fill(first, "account-1", 3)
    await first.close()
    await asyncio.to_thread(server.stop)
    saved = await asyncio.to_thread(server.save_data)
    await asyncio.to_thread(server.start)

    store = await open_store(server.url)
    await fill(store, "account-1", 4, each=2)
    last = (await store.read_stream("account-1", after=6)).events[0]
    ahead = snapshot("account-1", 7)
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.restore_data, saved)
    await asyncio.to_thread(server.start)

    assert await _versions_until_answered(store) == [3]
    with pytest.raises(VersionConflictError) as conflict:
        await store.append("account-1", events(1), expected_version=7)
    assert conflict.value.actual == 3
    assert not await counts(store, ahead)
    assert (await store.append("account-1", events(1), expected_version=3)).position == 4
    there = await store.read_all(after=3)
    assert last.id not in ids(there.events)
    await store.close()


async def _versions_until_answered(store: Store) -> list[int]:
    while True:
        try:
            return await store.versions(["account-1"])
        except StoreUnavailableError:
            await asyncio.sleep(0.01)


async def test_a_log_that_was_set_back_under_an_open_connection_is_reported(
    store: Store, stranger: "asyncpg.Connection[asyncpg.Record]", caplog: pytest.LogCaptureFixture
) -> None:
    await fill(store, "account-1", 3)
    await stranger.execute(
        "BEGIN; LOCK TABLE rehydrate.events; SET LOCAL session_replication_role = replica;"
        "DELETE FROM rehydrate.events WHERE position > 1; COMMIT"
    )
    with pytest.raises(VersionConflictError):
        await store.append("account-1", events(1), expected_version=3)
    assert "is no longer at position 3: the database was brought back to an older state" in caplog.text
    assert (await store.append("account-1", events(1), expected_version=1)).position == 2


# ---- sessions that are ended, tables that are gone


async def test_a_session_that_an_administrator_ends_is_replaced(
    store: Store, stranger: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await fill(store, "account-1", 3)
    await store.read_all()
    ended = await stranger.fetchval(
        "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
        " WHERE application_name = 'rehydrate' AND datname = current_database()"
    )
    assert ended == 2
    assert (await store.read_all()).position == 3
    done = await until_answered(store, "account-1", events(1), 3)
    assert done == Appended(4, 4)


async def test_tables_that_are_dropped_under_an_open_store_are_missed_and_made_when_it_is_opened_again(
    postgres_url: str, store: Store, stranger: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await fill(store, "account-1", 2)
    await stranger.execute("DROP SCHEMA rehydrate CASCADE")
    error = await unavailable(store, "account-1", events(1), 2)
    assert (error.stored, error.retryable) == (False, False)
    assert "its tables are gone" in str(error)
    with pytest.raises(StoreUnavailableError, match="its tables are gone"):
        await store.read_all()
    again = await open_store(postgres_url)
    assert (await again.append("account-1", events(1), expected_version=0)).position == 1
    # Whoever had the old ones open finds the new ones.
    with pytest.raises(VersionConflictError):
        await store.append("account-1", events(1), expected_version=2)
    assert (await store.append("account-1", events(1), expected_version=1)).position == 2
    await again.close()


# ---- servers that cannot write


async def test_a_standby_can_be_read_and_takes_appends_when_it_is_promoted(
    start_postgres: StartPostgres,
) -> None:
    primary = start_postgres()
    before = await open_store(primary.url)
    await fill(before, "account-1", 2)
    standby = await asyncio.to_thread(primary.start_standby)
    try:
        store = await open_store(standby.url)
        while (await store.head()).position < 2:  # noqa: ASYNC110 - another server
            await asyncio.sleep(0)
        error = await unavailable(store, "account-1", events(1), 2)
        assert (error.stored, error.retryable) == (False, False)
        assert "read-only" in str(error)
        await before.close()
        await asyncio.to_thread(primary.kill)
        await asyncio.to_thread(standby.promote)
        assert (await until_answered(store, "account-1", events(1), 2)).position == 3
        await store.close()
    finally:
        await asyncio.to_thread(standby.kill)


async def test_of_several_servers_the_one_that_takes_writes_is_found_also_after_a_fail_over(
    start_postgres: StartPostgres,
) -> None:
    primary = start_postgres()
    await (await open_store(primary.url)).close()
    standby = await asyncio.to_thread(primary.start_standby)
    try:
        url = primary.url.replace(f":{primary.port}/", f":{standby.port},127.0.0.1:{primary.port}/")
        store = await open_store(url)
        await fill(store, "account-1", 2)
        await _reaches(standby.url, 2)
        only_standby = url.replace(f"127.0.0.1:{primary.port}", f"127.0.0.1:{standby.port}")
        with pytest.raises(StoreUnavailableError, match="none of its servers takes writes"):
            await open_store(only_standby)
        await asyncio.to_thread(primary.kill)
        await asyncio.to_thread(standby.promote)
        assert (await until_answered(store, "account-1", events(1), 2)).position == 3
        assert await _versions_until_answered(store) == [3]
        await store.close()
    finally:
        await asyncio.to_thread(standby.kill)


async def _reaches(url: str, position: int) -> None:
    store = await open_store(url)
    while (await store.head()).position < position:  # noqa: ASYNC110 - another server
        await asyncio.sleep(0)
    await store.close()


async def test_where_a_commit_waits_for_a_standby_that_is_away_nothing_is_acknowledged(
    start_postgres: StartPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "GRACE", 0.2)
    server = start_postgres()
    store = await open_store(f"{server.url}?statement_timeout=0.3&lock_timeout=0.2")
    await fill(store, "account-1", 2)
    administrator = await asyncpg.connect(server.url)
    await administrator.execute("ALTER SYSTEM SET synchronous_standby_names = 'away'")
    await administrator.execute("SELECT pg_reload_conf()")
    stored, waits = 2, None
    new = events(1)
    while waits is None:  # The server tells nobody from when on it waits.
        try:
            await store.append("account-1", new, expected_version=stored)
            stored += 1
            new = events(1)
        except StoreUnavailableError as error:
            waits = error
    assert waits.stored is None
    for _ in range(3):
        await unavailable(store, "account-1", new, stored)
        assert await store.versions(["account-1"]) == [stored]
    await administrator.execute("ALTER SYSTEM RESET synchronous_standby_names")
    await administrator.execute("SELECT pg_reload_conf()")
    assert (await until_answered(store, "account-1", new, stored)).version == stored + 1
    assert len(await sound_log(store)) == stored + 1
    await administrator.close()
    await store.close()


async def test_where_no_more_connections_are_taken_the_store_waits_for_its_turn(
    start_postgres: StartPostgres,
) -> None:
    server = start_postgres(settings={"max_connections": "6", "superuser_reserved_connections": "0"})
    store = await open_store(server.url)
    await fill(store, "account-1", 1)
    others = [await asyncpg.connect(server.url) for _ in range(4)]
    reading = await asyncio.gather(*[store.read_all() for _ in range(3)], return_exceptions=True)
    refused = [error for error in reading if isinstance(error, StoreUnavailableError)]
    assert len(refused) == 2, "the connection that is there serves one of them"
    assert all(error.retryable for error in refused)
    assert (await store.append("account-1", events(1), expected_version=1)).version == 2
    for other in others:
        await other.close()
    while True:
        try:
            assert (await store.read_all()).position == 2
            break
        except StoreUnavailableError:
            await asyncio.sleep(0.01)
    await store.close()


async def test_reads_beyond_the_pool_take_turns_and_are_refused_when_it_takes_too_long(
    postgres_url: str, stranger: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    store = await open_store(f"{postgres_url}?pool=2&statement_timeout=0.5&lock_timeout=60")
    await fill(store, "account-1", 3)
    assert [page.position for page in await asyncio.gather(*[store.read_all() for _ in range(20)])] == [
        3
    ] * 20
    transaction = stranger.transaction()
    await transaction.start()
    await stranger.execute("LOCK TABLE rehydrate.events IN ACCESS EXCLUSIVE MODE")
    failed = await asyncio.gather(*[store.read_all() for _ in range(6)], return_exceptions=True)
    reasons = [str(error) for error in failed if isinstance(error, StoreUnavailableError)]
    assert len(reasons) == 6
    assert any("statement timeout" in reason for reason in reasons)
    assert any("all 2 connections (pool=) are busy" in reason for reason in reasons)
    await transaction.rollback()
    assert (await store.read_all()).position == 3
    await store.close()


# ---- locks that somebody holds


async def test_a_transaction_that_a_stranger_leaves_open_is_named_and_nothing_is_stored(
    postgres_url: str, stranger: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    store = await open_store(f"{postgres_url}?lock_timeout=0.3")
    await fill(store, "account-1", 2)
    transaction = stranger.transaction()
    await transaction.start()
    await stranger.execute("INSERT INTO rehydrate.events VALUES (3, 'account-2', 1, 'x', 'T', '', '', 0, 3)")
    pid = await stranger.fetchval("SELECT pg_backend_pid()")
    for _ in range(2):
        error = await unavailable(store, "account-1", events(1), 2)
        assert (error.stored, error.retryable) == (False, True)
        assert f"locked for more than 0.3 s by the session with process id {pid}" in str(error)
    assert (await store.read_all()).position == 2
    assert await store.versions(["account-1"]) == [2]
    await transaction.rollback()
    assert (await store.append("account-1", events(1), expected_version=2)).position == 3
    await store.close()


async def test_a_save_that_is_locked_out_changes_nothing(
    postgres_url: str, stranger: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    store = await open_store(f"{postgres_url}?lock_timeout=0.2")
    transaction = stranger.transaction()
    await transaction.start()
    await stranger.execute("LOCK TABLE rehydrate.snapshots IN EXCLUSIVE MODE")
    with pytest.raises(StoreUnavailableError) as error:
        await store.save_snapshot(snapshot("account-1", 3), keep=1)
    assert error.value.stored is False
    await transaction.rollback()
    assert await store.load_snapshot("account-1") is None
    await store.close()


# ---- a full disk


@pytest.fixture
def disk() -> Iterator[Path]:
    with small_disk(3) as folder:
        yield folder


async def test_a_full_disk_stores_nothing_and_the_store_goes_on_when_there_is_room(
    start_postgres: StartPostgres, disk: Path
) -> None:
    server = start_postgres()
    inside = disk / "space"
    inside.mkdir()
    owner = Path(f"/proc/{server.pid}").stat()
    os.chown(inside, owner.st_uid, owner.st_gid)
    disk.chmod(0o755)
    connection = await asyncpg.connect(server.url)
    await connection.execute(f"CREATE TABLESPACE small LOCATION '{inside}'")
    await connection.execute("ALTER DATABASE postgres SET default_tablespace = small")
    await connection.close()
    store = await open_store(server.url)
    acked: list[str] = []
    full: StoreUnavailableError | None = None
    while full is None:
        new = event(data=os.urandom(60_000))
        try:
            await store.append("account-1", [new], expected_version=len(acked))
            acked.append(new.id)
        except StoreUnavailableError as error:
            full = error
    assert (full.stored, full.retryable) == (False, False)
    assert "No space left on device" in str(full)
    assert acked
    assert ids(await sound_log(store)) == acked
    enlarge(disk, 30)
    await store.append("account-1", [event(id="room")], expected_version=len(acked))
    assert ids(await sound_log(store)) == [*acked, "room"]
    await store.close()
