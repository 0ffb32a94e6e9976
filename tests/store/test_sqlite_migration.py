"""A SQLite file of an older version is brought up to date when it is opened, whole or not at all, and nothing in it is lost."""

import asyncio
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from rehydrate.errors import ConfigurationError, StoreError, StoreSealedError, StoreUnavailableError
from rehydrate.store.port import Checkpoint
from rehydrate.store.sqlite import migrate_sqlite, schema
from rehydrate.store.url import open_store
from rehydrate.store_url import StoreUrl
from tests.store.sqlite_schema_1 import ADD_EVENT, write_schema_1
from tests.store.test_sqlite_index import appended, check_the_index, opened

STREAMS = {"account-1": 40, "account-2": 1, "account-3": 16, "account-4": 5}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bank.db"


def made_of(path: Path) -> dict[str, str]:
    """The tables and triggers, by name."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        return {name: re.sub(r"\s+(?=[,)])|(?<=\()\s+", "", re.sub(r"\s+", " ", sql)) for name, sql in found}


def schema_in(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute(schema.READ_SCHEMA).fetchone()
    return str(version)


async def check(path: Path, streams: Mapping[str, int]) -> None:
    store = await opened(path)
    check_the_index(path)
    for key, (name, count) in enumerate(streams.items(), 1):
        page = await store.read_stream(name)
        assert [event.id for event in page.events] == [f"{key}.{n}" for n in range(1, count + 1)]
        assert [version for version, _, _ in (await store.replay(name)).rows] == list(range(1, count + 1))
    assert (await store.head()).position == sum(streams.values())
    await store.close()


async def test_an_older_file_becomes_what_a_new_one_is(path: Path, tmp_path: Path) -> None:
    write_schema_1(path, STREAMS)
    await check(path, STREAMS)
    await (await opened(tmp_path / "new.db")).close()
    older, new = made_of(path), made_of(tmp_path / "new.db")
    added = "previous INTEGER NOT NULL"
    assert older.pop("events") == new.pop("events").replace(f"{added}, ", "")[:-1] + f", {added} DEFAULT -1)"
    assert older == new
    store = await opened(path)
    for n in range(20):
        for name, count in STREAMS.items():
            await appended(store, name, count + n, 1)
    await store.close()
    assert check_the_index(path) == {"account-1": 48, "account-2": 16, "account-3": 32, "account-4": 16}


async def test_an_empty_older_file(path: Path) -> None:
    write_schema_1(path, {})
    store = await opened(path)
    await appended(store, "account-1", 0, 20)
    await store.close()
    check_the_index(path)


async def test_what_lies_beside_the_log_stays(path: Path) -> None:
    write_schema_1(path, STREAMS)
    with closing(sqlite3.connect(path)) as older:
        older.execute("INSERT INTO checkpoints VALUES ('totals', 7, '1.3', 2, x'01')")
        older.execute("INSERT INTO views VALUES ('totals', 'all', x'02')")
        older.execute("INSERT INTO snapshots VALUES ('account-1', 3, 9, '1.3', 1, 'f', x'03', 0)")
        older.execute(schema.SEAL)
        older.commit()
    store = await opened(path)
    assert await store.load_checkpoint("totals") == Checkpoint(
        name="totals", position=7, event_id="1.3", epoch=2, data=b"\x01"
    )
    assert await store.load_view("totals", "all") == b"\x02"
    snapshot = await store.load_snapshot("account-1")
    assert snapshot is not None
    assert snapshot.data == b"\x03"
    with pytest.raises(StoreSealedError):
        await appended(store, "account-2", 1, 1)
    await store.close()


async def test_many_who_open_it_at_once(path: Path) -> None:
    write_schema_1(path, STREAMS)
    code = "import asyncio, sys; from rehydrate.store.url import open_store; asyncio.run(open_store(sys.argv[1]))"
    opening = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", code, f"sqlite:///{path}")
        for _ in range(4)
    ]
    assert [await process.wait() for process in opening] == [0] * 4
    await check(path, STREAMS)


KILLED = """
import os, signal, sqlite3, sys
from pathlib import Path
from rehydrate.store.sqlite import migration
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
left = int(sys.argv[2])
def trace(statement):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
connection.set_trace_callback(trace)
migration.bring_up_to_date(connection, Path(sys.argv[1]))
"""


@pytest.mark.parametrize("statements", [1, 7, 9, 12])
async def test_a_process_that_is_killed_on_the_way_leaves_what_was_there(path: Path, statements: int) -> None:
    write_schema_1(path, STREAMS)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, str(path), str(statements))
    assert await process.wait() == -signal.SIGKILL
    assert schema_in(path) == "1"
    await check(path, STREAMS)


# ---- where it may not be done


async def test_a_url_may_say_that_nothing_is_made(path: Path) -> None:
    url = f"sqlite:///{path}?migrate=false"
    with pytest.raises(
        ConfigurationError, match="there is no store in this file; if it should be there, run"
    ):
        await open_store(url)
    assert not path.exists()
    write_schema_1(path, STREAMS)
    content = path.read_bytes()
    with pytest.raises(
        ConfigurationError, match=r"is at schema 1, and this program needs 2: run `rehydrate migrate"
    ):
        await open_store(url)
    assert path.read_bytes() == content
    assert await migrate_sqlite(StoreUrl(url)) == "it was brought from schema 1 to 2"
    assert await migrate_sqlite(StoreUrl(url)) == "it is at schema 2, as it should be"
    await (await open_store(url)).close()
    await check(path, STREAMS)


async def test_a_program_of_the_older_version_that_still_runs_stores_nothing(path: Path) -> None:
    """It knows neither heads nor what leads back."""
    write_schema_1(path, STREAMS)
    with closing(sqlite3.connect(path, isolation_level=None)) as older:
        older.execute("INSERT INTO streams VALUES (5, 'account-5')")
        store = await opened(path)
        for stream, version in ((1, 41), (5, 1)):
            with pytest.raises(
                sqlite3.IntegrityError, match=r"the last one of its stream|before the first event"
            ):
                older.execute(ADD_EVENT, (63, stream, version, "x", "Deposited", b"{}", b"{}", 0))
        check_the_index(path)
        await appended(store, "account-1", 40, 1)
        await appended(store, "account-5", 0, 1)
        await store.close()
    check_the_index(path)


async def test_where_there_is_nothing_to_migrate_nobody_is_waited_for(path: Path) -> None:
    await (await opened(path)).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as another:
        another.execute(schema.BEGIN_WRITE)
        url = StoreUrl(f"sqlite:///{path}?busy_timeout=0.01")
        assert await migrate_sqlite(url) == "it is at schema 2, as it should be"


async def test_a_table_of_somebody_else_is_not_taken_for_its_own(path: Path) -> None:
    write_schema_1(path, STREAMS)
    with closing(sqlite3.connect(path)) as older:
        older.execute("CREATE TABLE stream_heads (mine)")
    with pytest.raises(
        ConfigurationError, match="has a table or index 'stream_heads' that is not Rehydrate's"
    ):
        await opened(path)
    assert schema_in(path) == "1"


@pytest.mark.parametrize("through_sqlite", [True, False])
async def test_an_older_copy_that_is_restored_under_an_open_store(
    path: Path, tmp_path: Path, through_sqlite: bool
) -> None:
    older = tmp_path / "older.db"
    write_schema_1(older, STREAMS)
    store = await opened(path)
    await appended(store, "account-1", 0, 1)
    await store.read_stream("account-1")
    if through_sqlite:
        with closing(sqlite3.connect(older)) as source, closing(sqlite3.connect(path)) as target:
            source.backup(target)
    else:
        for beside in ("-wal", "-shm"):
            path.with_name(path.name + beside).unlink()
        shutil.copyfile(older, tmp_path / "fresh.db")
        (tmp_path / "fresh.db").replace(path)
    with pytest.raises(StoreUnavailableError, match="rehydrate migrate --store URL") as said:
        await store.read_stream("account-1")
    assert said.value.retryable
    process = subprocess.run(
        [sys.executable, "-m", "rehydrate", "migrate", "--store", f"sqlite:///{path}"],
        check=True,
        capture_output=True,
    )
    assert b"from schema 1 to 2" in process.stderr
    with pytest.raises(StoreError):
        await appended(store, "account-1", 1, 1)
    await appended(store, "account-1", 40, 1)
    assert len((await store.read_stream("account-1")).events) == 41
    await store.close()
    check_the_index(path)
