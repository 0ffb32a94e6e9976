"""In a SQLite file a stream is found by its head, by an index that is written late, and from event to event between them."""

import asyncio
import gc
import re
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rehydrate.errors import StoreError, VersionConflictError
from rehydrate.store.known_heads import KnownHeads
from rehydrate.store.port import PAGE_SIZE, NewEvent
from rehydrate.store.sqlite import SqliteStore, schema
from rehydrate.store.sqlite.log import INDEXED_AT_ONCE, Log
from rehydrate.store.sqlite.writer import Writer
from rehydrate.store.url import open_store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bank.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = await opened(path)
    yield store
    await store.close()


async def opened(path: Path) -> SqliteStore:
    store = await open_store(f"sqlite:///{path}")
    assert isinstance(store, SqliteStore)
    return store


def events(stream: str, after: int, count: int) -> list[NewEvent]:
    return [NewEvent(f"{stream}.{after + n}", "Happened", b"%d" % (after + n)) for n in range(1, count + 1)]


async def appended(store: SqliteStore, stream: str, after: int, count: int) -> None:
    await store.append(stream, events(stream, after, count), expected_version=after)


def check_the_index(path: Path) -> dict[str, int]:
    """Each event is found once, and few of them outside of the index; how many of each stream are in it."""
    with closing(sqlite3.connect(path)) as connection:
        log = {
            position: (stream, version, previous)
            for position, stream, version, previous in connection.execute(
                "SELECT position, stream, version, previous FROM events ORDER BY position"
            )
        }
        indexed = {
            (stream, version): position
            for stream, version, position in connection.execute("SELECT * FROM stream_index")
        }
        heads = connection.execute(
            "SELECT name, stream, version, position FROM stream_heads JOIN streams ON id = stream"
        )
        found = dict(indexed)
        counts: dict[str, int] = {}
        for name, stream, version, position in heads.fetchall():
            assert log[position][:2] == (stream, version)
            at, steps = position, 0
            while at and (stream, log[at][1]) not in indexed:
                found[stream, log[at][1]] = at
                at, steps = log[at][2], steps + 1
            assert steps < INDEXED_AT_ONCE
            counts[name] = version - steps
    assert found == {(stream, version): position for position, (stream, version, _) in log.items()}
    return counts


# ---- what is written


@pytest.mark.parametrize("count", [1, INDEXED_AT_ONCE - 1, INDEXED_AT_ONCE, INDEXED_AT_ONCE + 1, 100])
async def test_events_are_indexed_many_at_a_time(path: Path, store: SqliteStore, count: int) -> None:
    for n in range(count):
        await appended(store, "account-1", n, 1)
    assert check_the_index(path) == {"account-1": count - count % INDEXED_AT_ONCE}


async def test_a_large_append_is_indexed_at_once(path: Path, store: SqliteStore) -> None:
    await appended(store, "account-1", 0, 3)
    await appended(store, "account-1", 3, 1_000)
    await appended(store, "account-1", 1_003, 2)
    assert check_the_index(path) == {"account-1": 1_003}


async def test_many_appends_to_one_stream_in_one_group(path: Path, store: SqliteStore) -> None:
    """Within a group an event may lead to one that the same group puts into the index."""
    await asyncio.gather(*[appended(store, "account-1", n, 1) for n in range(200)])
    check_the_index(path)
    page = await store.read_stream("account-1")
    assert [event.version for event in page.events] == list(range(1, 201))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from(["a", "b", "c"]), st.sampled_from([1, 1, 1, 5, 16, 40])),
        max_size=60,
    )
)
def test_whoever_writes_and_however_much_each_page_is_right(
    tmp_path_factory: pytest.TempPathFactory, appends: list[tuple[int, str, int]]
) -> None:
    asyncio.run(_written_by_two(tmp_path_factory.mktemp("index") / "bank.db", appends))


async def _written_by_two(path: Path, appends: Sequence[tuple[int, str, int]]) -> None:
    stores = [await opened(path), await opened(path)]
    versions = dict.fromkeys("abc", 0)
    for who, stream, count in appends:
        await appended(stores[who], stream, versions[stream], count)
        versions[stream] += count
    check_the_index(path)
    for stream, version in versions.items():
        for after in {0, 1, 15, 16, 17, version - 1, version, version + 1}:
            for limit in (1, 16, PAGE_SIZE):
                page = await stores[0].read_stream(stream, after=max(after, 0), limit=limit)
                assert [event.id for event in page.events] == [
                    event.id for event in events(stream, max(after, 0), version - max(after, 0))[:limit]
                ]
                assert page.is_last == (version - max(after, 0) <= limit)
        rows = (await stores[1].replay(stream)).rows
        assert [(v, int(data)) for v, _, data in rows] == [(v, v) for v in range(1, version + 1)]
    heads = {head.stream: head.version for head in await stores[0].streams()}
    assert heads == {stream: version for stream, version in versions.items() if version}
    for store in stores:
        await store.close()


# ---- what the database itself refuses


async def test_a_writer_that_knows_a_wrong_head_stores_nothing(path: Path, store: SqliteStore) -> None:
    """The database compares, too: that is what is left when a writer is mistaken about what the others did."""
    await appended(store, "account-1", 0, 3)
    writer: Writer = vars(store)["_writer"]
    log: Log = vars(writer)["_log"]
    heads: KnownHeads[tuple[int, int, str, tuple[int, ...]]] = vars(log)["_heads"]
    known = heads.get("account-1")
    assert known is not None
    key, _, _, behind = known
    for wrong in ((key, 2, "account-1.2", behind[:2]), (key, 5, "account-1.5", behind), (key, 2, "", behind)):
        heads.put("account-1", wrong)
        with pytest.raises(StoreError) as refused:
            await store.append("account-1", events("x", 9, 1), expected_version=wrong[1])
        assert not isinstance(refused.value, VersionConflictError)
        assert len((await store.read_stream("account-1")).events) == 3
        with pytest.raises(VersionConflictError):
            await store.append("account-1", events("y", 9, 1), expected_version=wrong[1])
    await appended(store, "account-1", 3, 1)
    check_the_index(path)


@pytest.mark.parametrize(
    ("version", "previous", "said"),
    [
        (1, 0, "there is nothing before the first event"),
        (17, 16, "an event comes right behind the last one of its stream"),
        (18, 16, "an event comes right behind the last one of its stream"),
        (18, 0, "an event comes right behind the last one of its stream"),
        (19, 17, "an event comes right behind the last one of its stream"),
        (0, 17, "an event comes right behind the last one of its stream"),
    ],
)
async def test_whoever_inserts_an_event_that_does_not_follow_is_refused(
    path: Path, store: SqliteStore, version: int, previous: int, said: str
) -> None:
    for n in range(17):
        await appended(store, "account-1", n, 1)
    with closing(sqlite3.connect(path)) as anybody:
        statement = "INSERT INTO events VALUES (18, 1, ?, ?, 'x', 'Happened', x'', x'', 0)"
        with pytest.raises(sqlite3.IntegrityError, match=said):
            anybody.execute(statement, (version, previous))
        anybody.rollback()
        anybody.execute(statement, (18, 17))
        anybody.rollback()
        with pytest.raises(sqlite3.IntegrityError, match="nothing before the first event"):
            anybody.execute("INSERT INTO events VALUES (18, 2, 1, 17, 'x', 'Happened', x'', x'', 0)")
    await appended(store, "account-1", 17, 1)
    check_the_index(path)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO events SELECT NULL, 1, 4, 3, 'x', type, data, metadata, 0 FROM events LIMIT 1",
        "INSERT OR IGNORE INTO events VALUES (4, 1, 1, 0, 'x', 'Happened', x'', x'', 0)",
        "INSERT OR REPLACE INTO events VALUES (4, 1, 1, 0, 'x', 'Happened', x'', x'', 0)",
        "INSERT OR FAIL INTO events VALUES (3, 1, 4, 3, 'x', 'Happened', x'', x'', 0)",
        "INSERT OR IGNORE INTO events VALUES (2, 2, 1, 0, 'x', 'Happened', x'', x'', 0)",
        "INSERT OR FAIL INTO events VALUES (4, 2, 1, 3, 'x', 'Happened', x'', x'', 0)",
    ],
)
async def test_what_is_refused_leaves_nothing_behind(path: Path, store: SqliteStore, statement: str) -> None:
    await appended(store, "account-1", 0, 3)
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as anybody,
        pytest.raises(sqlite3.IntegrityError),
    ):
        anybody.execute(statement)
    check_the_index(path)
    await appended(store, "account-1", 3, 1)
    await appended(store, "account-2", 0, 1)


# ---- what it costs


@pytest.mark.parametrize("analyzed", [0, 1, 2, 100, 1_000])
async def test_a_page_of_a_stream_is_never_a_look_at_the_whole_log(path: Path, analyzed: int) -> None:
    """Whatever was found when somebody had the file analysed, which may be long ago."""
    store = await opened(path)
    for n in range(analyzed):
        await appended(store, f"account-{n % 5}", n // 5, 1)
    await store.close()
    with closing(sqlite3.connect(path)) as anybody:
        anybody.execute("ANALYZE")
        if analyzed >= 100:
            assert looked_through(anybody) == []
        else:
            anybody.execute("CREATE TABLE mine AS SELECT 1 AS one")
            anybody.execute("ANALYZE mine")
        anybody.commit()
    await (await opened(path)).close()
    with closing(sqlite3.connect(path)) as anybody:
        assert looked_through(anybody) == []
        if analyzed in {1, 2}:
            assert anybody.execute("SELECT DISTINCT tbl FROM sqlite_stat1").fetchall() == [("mine",)]


def looked_through(connection: sqlite3.Connection) -> list[str]:
    """The steps of plans that take a table from its beginning to its end."""
    asked = {"stream": "account-1", "after": 3, "limit": 10}
    statements = (schema.READ_STREAM, schema.REPLAY, schema.REPLAY_JOINED, schema.IDS_OF_STREAM)
    plans = [
        connection.execute(f"EXPLAIN QUERY PLAN {statement}", asked).fetchall() for statement in statements
    ]
    plans += [connection.execute(f"EXPLAIN QUERY PLAN {schema.FIND_STREAM}", ("account-1",)).fetchall()]
    steps = [step for plan in plans for *_, step in plan]
    return [step for step in steps if re.search(r"BLOOM|SCAN (events|stream|head|first|last)", step)]


async def test_the_garbage_collector_does_not_look_at_what_is_known_of_streams(store: SqliteStore) -> None:
    for n in range(50):
        await appended(store, f"account-{n % 3}", n // 3, 1)
    for _ in range(3):  # What is within must be known before.
        gc.collect()
    writer: Writer = vars(store)["_writer"]
    log: Log = vars(writer)["_log"]
    heads: KnownHeads[object] = vars(log)["_heads"]
    assert [gc.is_tracked(heads.get(f"account-{n}")) for n in range(3)] == [False] * 3


async def test_a_head_that_was_found_again_leads_to_all_that_is_to_be_indexed(
    path: Path, store: SqliteStore
) -> None:
    other = await opened(path)
    for n in range(0, 40, 2):
        await appended(store, "account-1", n, 1)
        await appended(other, "account-1", n + 1, 1)
    await other.close()
    assert check_the_index(path) == {"account-1": 32}
