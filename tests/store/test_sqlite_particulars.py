"""What only the SQLite store does: its file, its settings, its plans, its bounds."""

import asyncio
import logging
import re
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rehydrate.errors import StoreClosedError, StoreUnavailableError
from rehydrate.store.known_heads import KnownHeads
from rehydrate.store.port import Checkpoint, LogFilter, NewEvent, Store, StreamEnd, ViewChange
from rehydrate.store.sqlite import SqliteStore, reader, schema
from rehydrate.store.sqlite.database import raise_at_open
from rehydrate.store.sqlite.writer import Writer
from rehydrate.store.url import open_store


def event(id: str, type: str = "Deposited", data: bytes = b"{}") -> NewEvent:
    return NewEvent(id, type, data)


def events(count: int, start: int = 0) -> list[NewEvent]:
    return [event(f"{start + n}") for n in range(count)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bank.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = await open_sqlite(path)
    yield store
    await store.close()


async def open_sqlite(path: Path, query: str = "") -> SqliteStore:
    store = await open_store(f"sqlite:///{path}{query}")
    assert isinstance(store, SqliteStore)
    return store


async def in_writer(store: SqliteStore, sql: str) -> Any:
    """Ask on the connection that writes."""
    writer: Writer = vars(store)["_writer"]
    return await writer.change(lambda connection: connection.execute(sql).fetchone())


# ---- opening


async def test_an_empty_file_becomes_a_store(path: Path) -> None:
    path.touch()
    store = await open_sqlite(path)
    await store.append("account-1", events(1), expected_version=0)
    await store.close()


OPENED_BY_MANY = """
import asyncio, sys
from rehydrate.store.port import NewEvent
from rehydrate.store.url import open_store

async def main(url, me):
    sys.stdin.readline()
    store = await open_store(url)
    await store.append(f"account-{me}", [NewEvent(me, "Opened", b"")], expected_version=0)
    await store.close()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_processes_that_create_one_new_file_at_once_all_succeed(path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPENED_BY_MANY, f"sqlite:///{path}", f"{n}"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate()[1] for process in processes]
    assert ([process.returncode for process in processes], said) == ([0] * 4, [""] * 4)
    store = await open_sqlite(path)
    log = await store.read_all()
    assert sorted(stored.id for stored in log.events) == ["0", "1", "2", "3"]
    assert [stored.position for stored in log.events] == [1, 2, 3, 4]
    await store.close()


async def test_a_close_leaves_a_single_file(path: Path) -> None:
    store = await open_sqlite(path)
    await store.append("account-1", events(3), expected_version=0)
    await store.read_all()
    await store.close()
    assert [found.name for found in path.parent.iterdir()] == [path.name]


async def test_a_copy_by_vacuum_into_is_a_store(path: Path, store: SqliteStore) -> None:
    """It is not in WAL mode when it is opened."""
    await store.append("account-1", events(3), expected_version=0)
    copy = path.with_name("copy.db")
    with closing(sqlite3.connect(path)) as anybody:
        anybody.execute("VACUUM INTO ?", (str(copy),))
    copied = await open_sqlite(copy)
    await copied.append("account-1", events(1, 3), expected_version=3)
    assert len((await copied.read_stream("account-1")).events) == 4
    await copied.close()


# ---- settings


async def test_a_commit_is_on_the_disk_unless_the_url_says_otherwise(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for query, synchronous, warned in (("", 2, False), ("?synchronous=normal", 1, True)):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            store = await open_sqlite(path, query)
        assert await in_writer(store, "PRAGMA synchronous") == (synchronous,)
        assert await in_writer(store, "PRAGMA journal_mode") == ("wal",)
        assert ("may be lost when the power fails" in caplog.text) is warned
        await store.close()


# ---- the log is never rewritten


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE events SET data = x''", "an event is never changed"),
        ("DELETE FROM events", "an event is never deleted"),
        ("DELETE FROM events WHERE position = 1", "an event is never deleted"),
    ],
)
async def test_the_database_itself_refuses_to_change_an_event(
    path: Path, store: SqliteStore, statement: str, said: str
) -> None:
    await store.append("account-1", events(2), expected_version=0)
    with closing(sqlite3.connect(path)) as anybody, pytest.raises(sqlite3.IntegrityError, match=said):
        anybody.execute(statement)
    assert len((await store.read_stream("account-1")).events) == 2


# ---- plans


def statements() -> dict[str, str]:
    """All that read or write, by name."""
    named = {name: sql for name, sql in vars(schema).items() if re.fullmatch("[A-Z][A-Z_]+", name)}
    return {
        **{
            name: sql
            for name, sql in named.items()
            if re.match(r"\s*(WITH|SELECT|INSERT|UPDATE|DELETE)", str(sql))
        },
        "READ_ALL": schema.read_all(()),
        "READ_ALL of streams": schema.read_all(("streams",)),
        "READ_ALL of aggregates and types": schema.read_all(("aggregates", "types")),
        "READ_ALL without types": schema.read_all(("aggregates", "without")),
    }


SMALL = {"HAS_TABLES", "HAS_META", "LIST_CHECKPOINTS", "COUNT_STATISTICS", "FORGET_STATISTICS"}
"""These are about all there is, and that is little."""
ONE_STEP = {"HEAD", "LAST_POSITION", "LAST_STREAM"}
"""These look at the end of a primary key, which is a scan of one row."""
SORTS_A_FEW = {"LEADING_TO", "IDS_OF_STREAM", "READ_STREAM", "REPLAY", "REPLAY_JOINED"}
"""These sort what is not in the index yet, which is fewer than 16."""


@pytest.mark.parametrize("name", sorted(statements().keys() - SMALL))
async def test_no_statement_searches_a_whole_table_or_sorts(
    path: Path, store: SqliteStore, name: str
) -> None:
    statement = statements()[name]
    with closing(sqlite3.connect(path)) as connection:
        nothing = dict.fromkeys(re.findall(r":([a-z]+)", statement)) or (None,) * statement.count("?")
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", nothing).fetchall()
    steps = [step for *_, step in plan]
    scanned = [step for step in steps if re.match(rf"SCAN ({'|'.join(schema.TABLES)})", step)]
    assert sum("TEMP B-TREE" in step for step in steps) == (name in SORTS_A_FEW)
    assert scanned == [] or name in ONE_STEP


# ---- appending


@pytest.mark.parametrize("count", [1, 2, 31, 32, 33, 100])
async def test_rows_are_added_many_at_a_time(store: SqliteStore, count: int) -> None:
    """Each statement lets the interpreter's lock go, and has to wait for it until the event loop is done with its turn."""
    said: list[str] = []
    await store.append("account-0", [event("before")], expected_version=0)
    writer: Writer = vars(store)["_writer"]
    await writer.change(lambda connection: connection.set_trace_callback(said.append))
    appends = [store.append(f"account-{n}", events(3), expected_version=0) for n in range(1, count + 1)]
    await asyncio.gather(*appends)
    added = {sql for sql in said if "INSERT" in sql}  # It is said again for each trigger.
    assert len(added) < 2 * 2 + 4 * count / schema.MAX_ROWS
    log = await store.read_all()
    assert [stored.id for stored in log.events[1:]] == ["0", "1", "2"] * count
    assert [stored.position for stored in log.events] == list(range(1, 3 * count + 2))
    assert [stored.version for stored in log.events[1:]] == [1, 2, 3] * count


# ---- reading


async def test_a_page_is_bounded_in_bytes(store: SqliteStore) -> None:
    large = [event(f"{n}", data=b"x" * 3_000_000) for n in range(5)]
    for version, one in enumerate(large):
        await store.append("account-1", [one], expected_version=version)
    page = await store.read_stream("account-1")
    assert ([stored.id for stored in page.events], page.is_last) == (["0", "1", "2"], False)
    rest = await store.read_stream("account-1", after=3)
    assert ([stored.id for stored in rest.events], rest.is_last) == (["3", "4"], True)
    rows = await store.replay("account-1")
    assert ([version for version, _, _ in rows.rows], rows.is_last) == ([1, 2, 3], False)
    assert (rows.first_id, rows.last_id, rows.last_position) == ("0", "2", 3)
    log = await store.read_all(where=LogFilter(types=frozenset({"Deposited"})))
    assert (len(log.events), log.position, log.event_id, log.is_last) == (3, 3, "2", False)


async def test_a_page_of_the_log_looks_at_a_bounded_number_of_events(store: SqliteStore) -> None:
    for version in range(0, 12_000, 4_000):
        await store.append("account-1", events(4_000, version), expected_version=version)
    await store.append("account-1", [event("rare", "Closed")], expected_version=12_000)
    rare = LogFilter(types=frozenset({"Closed"}))
    first = await store.read_all(where=rare)
    assert (first.events, first.position, first.event_id, first.is_last) == ([], 10_000, "9999", False)
    second = await store.read_all(after=first.position, where=rare)
    assert [stored.id for stored in second.events] == ["rare"]
    assert second.is_last


@pytest.mark.parametrize("prefix", ["", "a", "a\ud7ff", "a\U0010ffff", "\U0010ffff"])
def test_a_range_of_names_holds_what_begins_with_the_prefix(prefix: str) -> None:
    names = [prefix + end for end in ("", "\0", "a", "\ud7ff", "\ue000", "\U0010ffff", "\U0010ffffb")]
    first, end = reader.name_range(prefix, "")
    for name in names[not prefix :]:
        assert first <= name
        assert isinstance(end, bytes) or name < end
    if isinstance(end, str):
        assert not end.startswith(prefix)
    for after in names[1:]:
        assert reader.name_range(prefix, after) == (after + "\0", end)


# ---- versions


async def test_many_who_ask_where_streams_end_share_one_way_to_the_writer(store: SqliteStore) -> None:
    await store.append("account-1", events(3), expected_version=0)
    questions = vars(store)["_ends"]
    asked: list[Sequence[str]] = []
    ask = questions._ask

    async def count(streams: Sequence[str]) -> list[StreamEnd]:
        asked.append(streams)
        return list(await ask(streams))

    questions._ask = count
    answers = await asyncio.gather(*[store.versions(["account-1", f"account-{n}"]) for n in range(2, 102)])
    assert answers == [[3, 0]] * 100
    assert len(asked) == 1


async def test_who_asks_for_versions_and_goes_away_takes_nobody_along(store: SqliteStore) -> None:
    gone = asyncio.create_task(store.versions(["account-1"]))
    stays = asyncio.create_task(store.versions(["account-1"]))
    await asyncio.sleep(0)
    gone.cancel()
    assert await stays == [0]


def test_the_heads_that_are_known_are_bounded_and_those_in_use_stay() -> None:
    heads = KnownHeads[tuple[int, int]](limit=100)
    for n in range(1_000):
        heads.put("in use", (1, n))
        heads.put(f"{n}", (n + 2, 1))
        assert len(heads) <= 101
    assert heads.get("in use") == (1, 999)
    assert heads.get("999") == (1_001, 1)
    assert heads.get("1") is None
    heads.clear()
    assert heads.get("in use") is None


# ---- waiting


async def test_who_waits_is_woken_by_an_append_of_another_opening(path: Path, store: SqliteStore) -> None:
    other = await open_sqlite(path, "?poll=0.001")
    waiting = [asyncio.create_task(other.wait(after=after)) for after in (0, 0, 1)]
    await other.head()
    await store.append("account-1", events(1), expected_version=0)
    async with asyncio.timeout(30):
        await asyncio.gather(*waiting[:2])
    assert not waiting[2].done()
    await store.append("account-1", events(1, 1), expected_version=1)
    async with asyncio.timeout(30):
        await waiting[2]
    await other.close()


async def test_who_waits_is_woken_by_an_append_of_the_same_opening_at_once(path: Path) -> None:
    store = await open_sqlite(path, "?poll=1000000")
    waiting = asyncio.create_task(store.wait(after=0))
    await store.head()
    await store.append("account-1", events(1), expected_version=0)
    async with asyncio.timeout(30):
        await waiting
    await store.close()


async def test_nobody_is_woken_by_a_checkpoint(path: Path, store: SqliteStore) -> None:
    other = await open_sqlite(path, "?poll=0.001")
    looks = 0
    watch = vars(other)["_watch"]
    look = watch._last_position
    looked = asyncio.Event()

    async def count() -> int:
        nonlocal looks
        looks += 1
        if looks == 5:
            looked.set()
        return int(await look())

    watch._last_position = count
    waiting = asyncio.create_task(other.wait(after=0))
    place = Checkpoint(name="balances", position=0, event_id="", epoch=1)
    assert await store.save_checkpoint(place, previous=None, views=[ViewChange("ada", b"1")])
    async with asyncio.timeout(30):
        await looked.wait()
    assert not waiting.done()
    await other.close()
    with pytest.raises(StoreClosedError):
        await waiting


# ---- closing


async def test_closing_finishes_what_was_submitted(path: Path) -> None:
    store = await open_sqlite(path)
    appending = [
        asyncio.create_task(store.append(f"account-{n % 10}", events(1, n), expected_version=n // 10))
        for n in range(100)
    ]
    await asyncio.sleep(0)
    await asyncio.gather(store.close(), store.close())
    assert [(await done).version for done in appending] == [n // 10 + 1 for n in range(100)]


async def test_a_close_that_is_cancelled_is_finished_all_the_same(path: Path) -> None:
    store = await open_sqlite(path)
    await store.append("account-1", events(1), expected_version=0)
    closing_it = asyncio.create_task(store.close())
    await asyncio.sleep(0)
    closing_it.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing_it
    await store.close()
    assert [found.name for found in path.parent.iterdir()] == [path.name]


async def test_an_opening_that_is_cancelled_leaves_no_thread_and_no_connection(path: Path) -> None:
    opening = asyncio.create_task(open_sqlite(path))
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    store: Store = await open_sqlite(path)
    await store.append("account-1", events(1), expected_version=0)
    await store.close()
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_a_store_that_was_never_closed_does_not_keep_the_program_from_ending(path: Path) -> None:
    program = f"""
import asyncio
from rehydrate.store.url import open_store
asyncio.run(open_store("sqlite:///{path}"))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")


async def test_a_locked_database_does_not_open(path: Path) -> None:
    await (await open_sqlite(path)).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as stranger:
        stranger.execute("PRAGMA locking_mode = EXCLUSIVE")
        stranger.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnavailableError, match="locked by another process") as refused:
            await open_sqlite(path, "?busy_timeout=0.01")
        assert (refused.value.stored, refused.value.retryable) == (False, True)
    await (await open_sqlite(path)).close()


class _End(BaseException):
    """As `SystemExit`, which would end the tests."""


async def test_a_change_that_would_end_the_program_is_its_owners_and_the_writer_goes_on(
    store: SqliteStore,
) -> None:
    def change(connection: sqlite3.Connection) -> None:
        raise _End

    place = Checkpoint(name="balances", position=0, event_id="", epoch=1)
    with pytest.raises(_End):
        await store.transact(place, previous=None, views=(), change=change)
    assert await store.load_checkpoint("balances") is None
    await store.append("bank_account-ada", events(1), expected_version=0)


def test_what_may_not_be_written_to_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "bank.db"
    with closing(sqlite3.connect(path)) as anybody:
        anybody.execute("PRAGMA user_version = 1")
    with (
        closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as reader,
        pytest.raises(sqlite3.OperationalError) as refused,
    ):
        reader.execute("PRAGMA user_version = 2")
    with pytest.raises(StoreUnavailableError, match="copy the file to a folder where it can") as told:
        raise_at_open(refused.value, path)
    assert not told.value.retryable
