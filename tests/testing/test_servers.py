"""Real servers: they start, stop, die and come back as they are told, and nothing of them is left behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
from pymongo import MongoClient

from rehydrate.testing.clock import until
from rehydrate.testing.servers import (
    MongoServer,
    PostgresServer,
    ServerRoom,
    drop_database,
    found,
    fresh_database,
    process,
)
from rehydrate.testing.servers.databases import ask, mongo_client
from rehydrate.testing.servers.watcher import is_running

StartPostgres = Callable[..., PostgresServer]
StartMongoDB = Callable[..., MongoServer]
BOTH = pytest.mark.parametrize("postgres_version", found.POSTGRES_VERSIONS)


# ------------------------------------------------------------------------------------------------------- PostgreSQL


@BOTH
def test_a_test_gets_an_empty_database_of_the_version_that_it_asks_for(
    postgres_url: str, postgres_version: int
) -> None:
    assert ask(postgres_url, "SHOW server_version_num").startswith(str(postgres_version))
    assert ask(postgres_url, "SELECT count(*) FROM pg_class WHERE oid >= 16384") == 0
    ask(postgres_url, "CREATE TABLE left_behind (id int)")


@BOTH
def test_what_decides_on_durability_is_on(postgres_url: str) -> None:
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        assert ask(postgres_url, f"SHOW {setting}") == "on"


@pytest.mark.parametrize("version", found.POSTGRES_VERSIONS)
def test_what_a_killed_postgresql_had_committed_is_there_after_its_start_at_the_same_place(
    start_postgres: StartPostgres, version: int
) -> None:
    server = start_postgres(version=version)
    url, pid = server.fresh_url(), server.pid
    ask(url, "CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)")
    server.kill()
    assert not is_running(pid)
    with pytest.raises(OSError, match="Connect call failed"):
        ask(url, "SELECT 1")
    server.start()
    assert ask(url, "SELECT n FROM t") == 1
    server.restart()
    assert ask(url, "SELECT n FROM t") == 1


async def test_a_paused_postgresql_answers_nobody_and_goes_on_when_it_is_resumed(
    start_postgres: StartPostgres,
) -> None:
    server = start_postgres()
    connection = await asyncpg.connect(server.url)
    server.pause()
    answer = asyncio.ensure_future(connection.fetchval("SELECT 1"))
    done, _ = await asyncio.wait({answer}, timeout=0.2)
    assert not done
    server.resume()
    assert await answer == 1
    await connection.close()


def test_data_that_was_saved_can_be_put_back(start_postgres: StartPostgres) -> None:
    server = start_postgres()
    url = server.fresh_url()
    ask(url, "CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)")
    with pytest.raises(RuntimeError, match="stop the server first"):
        server.save_data()
    server.stop()
    saved = server.save_data()
    server.start()
    ask(url, "INSERT INTO t VALUES (2)")
    server.stop()
    for _ in range(2):  # a copy can be put back more than once
        server.restore_data(saved)
        server.start()
        assert ask(url, "SELECT max(n) FROM t") == 1
        ask(url, "INSERT INTO t VALUES (3)")
        server.stop()


@pytest.mark.parametrize("version", found.POSTGRES_VERSIONS)
async def test_a_standby_follows_and_can_take_over(start_postgres: StartPostgres, version: int) -> None:
    primary = start_postgres(version=version)
    standby = primary.start_standby()
    url = primary.fresh_url()
    ask(url, "CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)")
    written = ask(primary.url, "SELECT pg_current_wal_lsn()::text")
    await until(lambda: ask(standby.url, f"SELECT pg_last_wal_replay_lsn() >= '{written}'"))
    there = url.replace(str(primary.port), str(standby.port))
    assert ask(there, "SELECT n FROM t") == 1
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        ask(there, "INSERT INTO t VALUES (2)")
    primary.kill()
    standby.promote()
    ask(there, "INSERT INTO t VALUES (2)")
    assert ask(there, "SELECT count(*) FROM t") == 2


def test_settings_are_those_that_were_asked_for(start_postgres: StartPostgres) -> None:
    server = start_postgres(settings={"max_connections": "12"})
    assert ask(server.url, "SHOW max_connections") == "12"


def test_a_port_that_somebody_else_took_is_left_to_him(
    start_postgres: StartPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = start_postgres()
    ports = iter([first.port, process.free_port()])
    monkeypatch.setattr(process, "free_port", lambda: next(ports))
    second = start_postgres()
    assert second.port != first.port
    assert ask(first.url, "SELECT 1") == ask(second.url, "SELECT 1") == 1


def test_mongodb_leaves_a_port_to_him_who_took_it_too(
    start_mongodb: StartMongoDB, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = iter([postgres_server.port, process.free_port()])
    monkeypatch.setattr(process, "free_port", lambda: next(ports))
    assert start_mongodb().primary().port != postgres_server.port


def test_a_server_that_does_not_start_shows_its_log(start_postgres: StartPostgres) -> None:
    with pytest.raises(process.ServerFailedError, match="no_such_setting"):
        start_postgres(settings={"no_such_setting": "1"})


@pytest.fixture(scope="module")
def room() -> Iterator[ServerRoom]:
    """A room of this module's own, whose spare databases nobody else takes."""
    with ServerRoom() as room:
        yield room


@pytest.mark.parametrize(
    "made",
    [
        "CREATE TABLE t (n serial PRIMARY KEY)",
        "CREATE SCHEMA other CREATE VIEW v AS SELECT 1 AS n",
        "CREATE FUNCTION one() RETURNS int LANGUAGE sql RETURN 1",
        "CREATE TYPE colour AS ENUM ('red')",
        "DROP SCHEMA public",
    ],
)
def test_a_database_that_is_lent_again_is_empty_and_has_another_name(room: ServerRoom, made: str) -> None:
    with room.postgres_database() as first:
        known = ask(first, "SELECT oid FROM pg_database WHERE datname = current_database()")
        ask(first, made)
    with room.postgres_database() as second:
        assert ask(second, "SELECT oid FROM pg_database WHERE datname = current_database()") == known
        assert second != first
        assert ask(second, "SELECT nspname FROM pg_namespace WHERE oid >= 16384") == "public"
        assert ask(second, "SELECT count(*) FROM pg_class WHERE oid >= 16384") == 0
        with pytest.raises(asyncpg.InvalidCatalogNameError):
            ask(first, "SELECT 1")


@pytest.mark.parametrize(
    "made",
    [
        "SELECT lo_create(0)",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET jit = off', current_database()); END $$",
        "CREATE PUBLICATION p",
    ],
)
def test_a_database_that_cannot_be_emptied_is_not_lent_again(room: ServerRoom, made: str) -> None:
    with room.postgres_database() as first:
        known = ask(first, "SELECT oid FROM pg_database WHERE datname = current_database()")
        ask(first, made)
    with room.postgres_database() as second:
        assert ask(second, "SELECT oid FROM pg_database WHERE datname = current_database()") != known


async def test_a_client_that_its_test_forgot_does_not_keep_a_database_from_being_lent_again(
    room: ServerRoom,
) -> None:
    with room.postgres_database() as url:
        forgotten = await asyncpg.connect(url)
        await forgotten.execute("CREATE TABLE t (n int)")
        await forgotten.execute("BEGIN; LOCK TABLE t")
    with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.AdminShutdownError)):
        await forgotten.execute("COMMIT")
    forgotten.terminate()


# ---------------------------------------------------------------------------------------------------------- MongoDB


def _count(url: str) -> int:
    with _client(url) as client:
        return client.get_default_database()["c"].count_documents({})


def _insert(url: str, number: int) -> None:
    with _client(url) as client:
        client.get_default_database()["c"].insert_one({"_id": number})


def _client(url: str) -> "MongoClient[dict[str, object]]":
    return mongo_client(f"{url}&w=majority&journal=true&readConcernLevel=majority")


def test_a_test_gets_an_empty_database_of_a_replica_set(mongodb_url: str) -> None:
    with mongo_client(mongodb_url) as client:
        assert client.get_default_database().list_collection_names() == []
        assert client.admin.command("hello")["setName"]
    _insert(mongodb_url, 1)


def test_a_database_of_mongodb_is_gone_after_the_test(mongodb_server: MongoServer) -> None:
    url = fresh_database(mongodb_server.url)
    _insert(url, 1)
    drop_database(url)
    assert _count(url) == 0


def test_what_mongodb_had_acknowledged_survives_a_kill_and_older_data_can_be_put_back(
    start_mongodb: StartMongoDB,
) -> None:
    server = start_mongodb()
    url = server.fresh_url()
    _insert(url, 1)
    server.stop()
    saved = server.save_data()
    server.start()
    _insert(url, 2)
    server.kill()
    server.start()
    assert _count(url) == 2
    server.kill()
    server.restore_data(saved)
    server.start()
    assert _count(url) == 1


@pytest.mark.slow  # three servers, and an election
def test_when_the_primary_of_three_is_killed_another_takes_its_place(start_mongodb: StartMongoDB) -> None:
    server = start_mongodb(members=3)
    url = server.fresh_url()
    first = server.primary()
    _insert(url, 1)
    first.kill()
    assert server.primary() is not first
    _insert(url, 2)
    server.start()
    assert _count(url) == 2


# ------------------------------------------------------------------------------------------------ nothing left behind


_STARTS_SERVERS = """
import json, os, signal
from rehydrate.testing.servers import ServerRoom
from rehydrate.testing.servers.watcher import children_of

room = ServerRoom()
postgres, mongodb = room.start_postgres(), room.start_mongodb()
postgres.pause()
pids = [postgres.pid, *children_of(postgres.pid), mongodb.members[0].pid]
forked = os.fork()
if not forked:
    signal.pause()
print(json.dumps({"forked": forked, "pids": pids, "folder": str(room.folder), "watcher": room.watcher}), flush=True)
input()
"""


@pytest.mark.parametrize("ending", [signal.SIGKILL, None])
async def test_no_server_and_no_data_survive_however_the_test_run_ends(
    ending: signal.Signals | None,
) -> None:
    """With None it goes by itself, without having closed anything. A process that it had forked goes on."""
    running = subprocess.Popen(
        [sys.executable, "-c", _STARTS_SERVERS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    with running:
        assert running.stdout is not None
        assert running.stdin is not None
        told = json.loads(running.stdout.readline())
        processes = [*told["pids"], told["watcher"]]
        assert len(processes) > 5
        assert all(map(is_running, processes))
        if ending:
            running.send_signal(ending)
        running.stdin.close()
        running.wait()
        try:
            await until(lambda: not any(map(is_running, processes)))
            assert not Path(told["folder"]).exists()
            assert is_running(told["forked"])
        finally:
            os.kill(told["forked"], signal.SIGKILL)


def test_a_room_that_is_closed_leaves_no_process_no_folder_and_no_shared_memory() -> None:
    with ServerRoom() as room:
        server, killed = room.start_postgres(), room.start_postgres()
        pids = [server.pid, killed.pid, room.watcher]
        assert set(pids) <= set(_pids_of_shared_memory()) | {room.watcher}
        killed.kill()
        folder = room.folder
        assert folder.is_dir()
    assert not any(map(is_running, pids))
    assert not folder.exists()
    assert not set(pids) & set(_pids_of_shared_memory())
    room.close()  # closing twice is fine


def _pids_of_shared_memory() -> list[int]:
    """Who made the segments of shared memory that there are."""
    lines = Path("/proc/sysvipc/shm").read_text("utf-8").splitlines()
    column = lines[0].split().index("cpid")
    return [int(line.split()[column]) for line in lines[1:]]
