"""Every statement of the PostgreSQL store goes along an index, on a filled table, analysed or not."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import asyncpg
import pytest
import pytest_asyncio

from rehydrate.store.postgres import sql
from rehydrate.store.postgres.address import read_address
from rehydrate.store.postgres.connection import Connection, connect
from rehydrate.store.url import open_store
from rehydrate.store_url import StoreUrl
from rehydrate.testing.servers import PostgresServer, database_on

TABLES = ("events", "snapshots", "checkpoints", "views")
FILL = """
    INSERT INTO events
    SELECT n, 'account-' || n % 500, n / 500, 'event ' || n, 'Type' || n % 5, '{}', '{}', n, 500 + n % 500
    FROM generate_series(500, 30499) AS n;
    INSERT INTO snapshots
    SELECT 'account-' || n % 100, 1 + n / 100, n, 'event ' || n, 1, '', '{}', n FROM generate_series(0, 999) AS n;
    INSERT INTO checkpoints SELECT 'consumer ' || n, n, 'event ' || n, 1, '' FROM generate_series(1, 300) AS n;
    INSERT INTO views SELECT 'consumer ' || n % 3, 'key ' || n, '' FROM generate_series(1, 3000) AS n;
"""
NAMES = json.dumps(["account-1", "account-2"])
UNWANTED = json.dumps([["account", "Type2"], ["account", "Type3"]])
READ = {
    "READ_STREAM": ("account-7", 3, 101, 1_000_000),
    "REPLAY": ('[["account-7", 3], ["account-8", 0]]', 101, 1_000_000),
    "READ_ON": ('[["account-7", 3]]', 101, 1_000_000),
    "READ_ALL": (10_000, 101, 1_000_000),
    "READ_FILTERED": (10_000, 101, 1_000_000, 20_000, NAMES, None, None, None),
    "READ_FILTERED, without types": (10_000, 101, 1_000_000, 20_000, None, '["account"]', None, UNWANTED),
    "READ_FILTERED, all filters": (
        *(10_000, 101, 1_000_000, 20_000),
        *(NAMES, '["account"]', '["Type1"]', UNWANTED),
    ),
    "HEAD": (),
    "ENDS": (NAMES,),
    "LIST_STREAMS": ("", "account-1", "account-2", 100),
    "LOAD_SNAPSHOTS": (NAMES,),
    "LOAD_CHECKPOINT": ("consumer 7",),
    "LIST_CHECKPOINTS": (),
    "LOAD_VIEW": ("consumer 1", "key 7"),
    "LOAD_VIEWS": ("consumer 1", ("key 7", "key 8")),
    "LIST_VIEWS": ("consumer 1", "", "key 1", "key 2", 100),
}
_NEW = ["account-new", 1, "new 1", "Type1", "", "", 1]
CALLED = {
    "APPEND_KNOWN": (30_499, "event 30499", json.dumps([[*_NEW, 30_500]])),
    "APPEND_EXPECTING": (
        30_499,
        "event 30499",
        '[["account-7", 60, "", 30007], ["account-8", 60, "event 30008", 30007], ["account-9", 60, "", 0]]',
        json.dumps(
            [
                [*_NEW, 30_500],
                ["account-7", 61, "new 2", "T", "", "", 1, -1],
                ["account-8", 61, "new 3", "T", "", "", 1, -2],
                ["account-9", 61, "new 4", "T", "", "", 1, -3],
            ]
        ),
    ),
    "APPEND_ONE": (30_499, "event 30499", "account-new", 1, "new 1", "Type1", b"", b"", 1, 30_500),
    "APPEND_LOCKED": (
        30_499,
        "event 30499",
        '[["account-new", 0], ["account-7", 3]]',
        json.dumps([[*_NEW, 1], ["account-7", 4, "event 2007", "T", "", "", 1, 2]]),
    ),
    "SAVE_SNAPSHOT": ("account-7", 50, 1, "event 1", 1, "", b"{}", 1, 3),
    "DELETE_SNAPSHOTS": ("account-8",),
    "SAVE_CHECKPOINT": ("consumer 7", 8, "event 8", 1, b"", 7, 1, '[["key 1", ""], ["key 2", null]]'),
    "SAVE_CHECKPOINT, the first": ("new", 8, "event 8", 1, b"", None, None, '[["key 1", ""]]'),
    "RESET_CHECKPOINT": ("consumer 8",),
    "REMOVE_CHECKPOINT": ("consumer 9",),
}
NOT_OF_THE_TABLES = {"ABOUT", "STILL_THERE", "COMMIT_SYNCHRONOUSLY", "MIGRATED_TO", "WHO_BLOCKS", "SEAL"}
"""What is asked or done once, or looks at the server's own tables."""


STATES = ("analysed", "not analysed", "planned while it was empty")


@pytest.fixture(params=STATES)
async def session(request: pytest.FixtureRequest, postgres_url: str) -> AsyncIterator[Connection]:
    """On a database that a test may change."""
    async with _filled(postgres_url, request.param) as session:
        yield session


@pytest_asyncio.fixture(params=STATES, scope="module", loop_scope="module")
async def reading_session(
    request: pytest.FixtureRequest, postgres_server: PostgresServer
) -> AsyncIterator[Connection]:
    """On a database that nobody changes: filling one takes longer than a hundred plans."""
    with database_on(postgres_server.url) as url:
        async with _filled(url, request.param) as session:
            yield session


@asynccontextmanager
async def _filled(url: str, state: str) -> AsyncGenerator[Connection]:
    """As the store opens it, with plans for any value."""
    await (await open_store(url)).close()
    session = await connect(read_address(StoreUrl(url)))
    await session.execute("SET plan_cache_mode = force_generic_plan")
    for n, name in enumerate(READ):
        await session.execute(f"PREPARE question_{n} AS {_statement(name)}")
    if state == "planned while it was empty":
        for name in READ:
            await session.execute(_execute(name))
        for name, values in CALLED.items():
            with suppress(asyncpg.PostgresError):  # What they count on is not there yet.
                await session.fetchrow(_statement(name), *values)
    await session.execute(FILL)
    if state == "analysed":
        await session.execute("ANALYZE")
    yield session
    await session.close()


def _statement(name: str) -> str:
    statement: str = getattr(sql, name.partition(",")[0])
    return statement


def _execute(name: str) -> str:
    arguments = ", ".join(map(_literal, READ[name]))
    return f"EXECUTE question_{list(READ).index(name)} {f'({arguments})' if arguments else ''}"


def test_every_statement_is_looked_at() -> None:
    known = {name.partition(",")[0] for name in (*READ, *CALLED)} | NOT_OF_THE_TABLES
    statements = {
        name
        for name, value in vars(sql).items()
        if isinstance(value, str) and value.lstrip().startswith(("SELECT", "WITH", "CALL"))
    }
    assert {name for name in statements if "pg_" not in getattr(sql, name)} <= known


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", READ)
async def test_a_question_goes_along_an_index_and_sorts_no_more_than_a_page(
    reading_session: Connection, name: str
) -> None:
    session = reading_session
    with_values = await session.fetchval(f"EXPLAIN (FORMAT JSON) {_statement(name)}", *READ[name])
    _check_plan(json.loads(with_values)[0]["Plan"])
    for_any_value = await session.fetchval(f"EXPLAIN (FORMAT JSON) {_execute(name)}")
    _check_plan(json.loads(for_any_value)[0]["Plan"])


@pytest.mark.parametrize("name", CALLED)
async def test_a_procedure_reads_a_few_rows_and_no_table_from_its_beginning_to_its_end(
    session: Connection, name: str
) -> None:
    before = await _rows_read(session)
    with suppress(asyncpg.UniqueViolationError):
        await session.fetchrow(_statement(name), *CALLED[name])
    assert await _rows_read(session) - before < 50


async def test_a_stream_is_looked_for_by_name_only_where_its_last_event_is_not_where_it_is_said_to_be(
    session: Connection,
) -> None:
    looked: list[int] = []
    for n, (said, account) in enumerate([(30_007, 7), (0, 8), (30_007, 9), (30_010, 10)]):
        before = await _looks_by_name(session)
        await session.fetchrow(
            sql.APPEND_EXPECTING,
            30_499 + n,
            f"event {30_499 + n}",
            json.dumps([[f"account-{account}", 60, f"event {30_000 + account}", said]]),
            json.dumps([[f"account-{account}", 61, f"event {30_500 + n}", "T", "", "", 1, -1]]),
        )
        looked.append(await _looks_by_name(session) - before)
    assert looked == [0, 1, 1, 0]
    numbers = await session.fetch("SELECT first FROM events WHERE position > 30499 ORDER BY position")
    assert [number for (number,) in numbers] == [507, 508, 509, 510]


async def test_a_stream_is_listed_without_a_look_at_its_other_events(session: Connection) -> None:
    before = await _rows_read(session)
    listed = await session.fetch(sql.LIST_STREAMS, "", "", "b", 100)
    assert len(listed) == 100
    assert await _rows_read(session) - before < 5 * 100


def _literal(value: object) -> str:
    if isinstance(value, tuple):
        return f"ARRAY{list(map(str, cast('tuple[object, ...]', value)))}"
    if value is None:
        return "NULL"
    return f"'{value}'" if isinstance(value, str) else str(value)


def _check_plan(plan: dict[str, Any]) -> None:
    scans = list(_scans(plan, sorted_above=False))
    assert scans
    for node, is_sorted in scans:
        assert node["Node Type"] in {"Index Scan", "Index Only Scan"}, node
        assert "Index Cond" in node or node["Relation Name"] == "checkpoints" or _is_limited(plan, node), node
        assert not is_sorted or node["Plan Rows"] == 1, f"what is read by {node} is sorted"


def _scans(plan: dict[str, Any], *, sorted_above: bool) -> Iterator[tuple[dict[str, Any], bool]]:
    """The nodes that read a table, and whether what they read is sorted before it is limited."""
    kind = plan["Node Type"]
    if kind == "Limit":
        sorted_above = False
    elif kind in {"Sort", "Incremental Sort"}:
        sorted_above = True
    if plan.get("Relation Name") in TABLES:
        yield plan, sorted_above
    for child in plan.get("Plans", ()):
        # What a SubPlan reads is not what the node above it hands on.
        is_other = child.get("Parent Relationship") in {"SubPlan", "InitPlan"}
        yield from _scans(child, sorted_above=sorted_above and not is_other)


def _is_limited(plan: dict[str, Any], node: dict[str, Any]) -> bool:
    """Whether a Limit stands right above it."""
    children = plan.get("Plans", [])
    if plan["Node Type"] == "Limit" and node in children:
        return True
    return any(_is_limited(child, node) for child in children)


async def _looks_by_name(session: Connection) -> int:
    await session.execute("SELECT pg_stat_force_next_flush()")
    count: int = await session.fetchval(
        "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'events_streams'"
    )
    return count


async def _rows_read(session: Connection) -> int:
    """How many rows of the store's tables were looked at, by way of an index or not."""
    await session.execute("SELECT pg_stat_force_next_flush()")
    count: int = await session.fetchval(
        """
        SELECT (SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE relname = ANY ($1))::bigint
             + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = ANY ($1))::bigint
        """,
        TABLES,
    )
    return count
