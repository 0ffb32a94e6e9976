"""A schema of an older version is brought up to date whole or not at all, and programs that knew it go on."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Final, TypeAlias

import asyncpg
import pytest

from rehydrate.errors import ConfigurationError, CorruptStoreError, StoreSealedError, StoreUnavailableError
from rehydrate.store.port import Store, StreamHead
from rehydrate.store.postgres import connection, migrate_postgres, migration, migrations, sql
from rehydrate.store.url import open_store
from rehydrate.store_url import StoreUrl
from rehydrate.testing.conformance.material import events, fill, ids, sound_log

Stranger: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

ROUNDS: Final = 20
STREAMS: Final = {"account-1": ROUNDS, "account-10": ROUNDS, "account-2": ROUNDS, "ä": ROUNDS}
EVENTS: Final = ROUNDS * len(STREAMS)

APPEND_1: Final = "CALL append_next($1, $2, $3, $4, NULL)"
"""As programs of the first version call it; the others are of the second."""
APPEND_2: Final = "CALL append_next($1, $2, $3, $4)"
APPEND_ONE: Final = "CALL append_one($1, $2, $3, $4, $5, $6, $7, $8, $9)"
APPEND_LOCKED: Final = "CALL append_locked($1, $2, $3, $4, NULL, NULL, NULL, NULL)"
ENDS: Final = """
    SELECT coalesce(last.version, 0), coalesce(last.id, '')
    FROM jsonb_array_elements_text($1) WITH ORDINALITY AS asked(stream, n)
    LEFT JOIN LATERAL (
        SELECT e.version, e.id FROM events AS e WHERE e.stream = asked.stream ORDER BY e.version DESC LIMIT 1
    ) AS last ON true
    ORDER BY n
"""
READ_STREAM: Final = (
    "SELECT version, id FROM events WHERE stream = $1 AND version > $2 ORDER BY version LIMIT $3"
)
WAITS: Final = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
NUMBERS: Final = """
    SELECT count(*) FROM events AS e
    WHERE first IS DISTINCT FROM (SELECT f.position FROM events AS f WHERE f.stream = e.stream AND f.version = 1)
"""


@pytest.fixture(params=[1, 2])
async def older(request: pytest.FixtureRequest, stranger: Stranger) -> Stranger:
    """A schema of that version, with streams whose events lie between each other, and a session of an older program."""
    await stranger.execute("CREATE SCHEMA rehydrate; SET search_path = rehydrate, pg_temp")
    await stranger.execute(sql.CREATE_MIGRATIONS)
    for version in range(1, request.param + 1):
        await stranger.execute(migrations.MIGRATIONS[version - 1])
        await stranger.execute("INSERT INTO migrations VALUES ($1)", version)
    await stranger.execute(
        """
        INSERT INTO events
        SELECT row_number() OVER (ORDER BY round, n), name, round, name || round, 'T', '{}', '', 0
        FROM generate_series(1, $1::int) AS round, unnest($2::text[]) WITH ORDINALITY AS stream(name, n)
        """.replace("$1", str(ROUNDS)).replace("$2", f"ARRAY{list(STREAMS)}")
    )
    return stranger


@pytest.fixture
async def store(older: Stranger, postgres_url: str) -> AsyncIterator[Store]:
    """Opened when all of that was there."""
    store = await open_store(postgres_url)
    yield store
    await store.close()


async def check(store: Store, stranger: Stranger, streams: dict[str, int]) -> None:
    assert len(await sound_log(store)) == sum(streams.values())
    assert await store.streams() == [StreamHead(name, streams[name]) for name in sorted(streams)]
    for name, count in streams.items():
        assert [event.version for event in (await store.read_stream(name)).events] == list(
            range(1, count + 1)
        )
        assert len((await store.replay(name)).rows) == count
    assert await store.versions(list(streams)) == list(streams.values())
    assert await stranger.fetchval(NUMBERS) == 0


async def test_nothing_of_an_older_log_is_lost(store: Store, older: Stranger) -> None:
    await check(store, older, STREAMS)
    page = await store.read_stream("account-10", after=3)
    assert ids(page.events) == [f"account-10{n}" for n in range(4, ROUNDS + 1)]
    assert [event.position for event in page.events] == [2 + len(STREAMS) * n for n in range(3, ROUNDS)]
    await fill(store, "account-2", 3)
    await fill(store, "account-3", 2)
    await check(store, older, STREAMS | {"account-2": ROUNDS + 3, "account-3": 2})


async def test_an_older_schema_becomes_what_a_new_one_is(
    store: Store, older: Stranger, postgres_url: str
) -> None:
    await (await open_store(f"{postgres_url}?schema=made_new")).close()
    made = """
        SELECT
            ARRAY(SELECT pg_get_indexdef(oid) FROM pg_class WHERE relnamespace = $1::regnamespace AND relkind = 'i' ORDER BY 1),
            ARRAY(SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = $1::regnamespace ORDER BY 1),
            ARRAY(SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = $1::regnamespace ORDER BY 1),
            ARRAY(
                SELECT relname || attnum || attname || atttypid FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
                WHERE relnamespace = $1::regnamespace AND relkind = 'r' AND attnum > 0 ORDER BY 1
            )
    """
    assert await older.fetchval("SELECT to_regclass('events_stream_version') IS NOT NULL"), "for a day"
    await older.execute("UPDATE migrations SET applied_at = applied_at - interval '1 day 1 second'")
    async with older.transaction():
        await older.fetch("SELECT FROM events")
        await (await open_store(postgres_url)).close()
    assert await older.fetchval("SELECT to_regclass('events_stream_version') IS NOT NULL"), "in use"
    await (await open_store(postgres_url)).close()
    await check(store, older, STREAMS)
    old, new = [str(await older.fetchrow(made, schema)) for schema in ("rehydrate", "made_new")]
    assert old.replace("rehydrate.", "made_new.") == new
    assert "events_first_version" in old
    assert "events_stream_version" not in old


async def test_whoever_knew_an_older_schema_goes_on(older: Stranger, postgres_url: str) -> None:
    """With what his session has prepared."""
    read, ends = await older.prepare(READ_STREAM), await older.prepare(ENDS)
    append_locked = await older.prepare(APPEND_LOCKED)
    append_1 = await older.prepare(APPEND_1)
    assert [*map(tuple, await read.fetch("account-2", 19, 10))] == [(20, "account-220")]
    row = ("account-2", 21, "of the first one", "T", "", "", 1)
    assert await append_1.fetchval(EVENTS, "ä20", '[["account-2", 20, ""]]', json.dumps([row])) == 1
    store = await open_store(postgres_url)
    await fill(store, "account-2", 1)
    head = EVENTS + 2, (await store.head()).event_id
    assert [*map(tuple, await read.fetch("account-2", 20, 10))] == [(21, "of the first one"), (22, head[1])]
    assert [*map(tuple, await ends.fetch('["account-2", "account-3"]'))] == [(22, head[1]), (0, "")]
    rows = [
        *(("new", version, f"new {version}", "T", "", "", 1) for version in (1, 2, 3)),
        ("account-2", 23, "23", "T", "AAA=", "", 1),
    ]
    expected = json.dumps([("account-2", 22, head[1])])
    assert await append_1.fetchval(*head, expected, json.dumps(rows)) == 4
    with pytest.raises(asyncpg.UniqueViolationError):
        await append_1.fetchval(*head, expected, json.dumps(rows))
    assert await append_1.fetchval(EVENTS + 6, "23", '[["account-2", 22, "x"]]', json.dumps(rows)) == 0
    numbered = [
        ("new", 4, "new 4", "T", "", "", 1, 1),
        ("newer", 1, "newer 1", "T", "", "", 1, 2),
        ("newer", 2, "newer 2", "T", "", "", 1, 2),
    ]
    appends = json.dumps([("new", 3, "new 3"), ("newer", 0, ""), ("account-1", 7, "")])
    taken = await append_locked.fetchrow(EVENTS + 6, "23", appends, json.dumps(numbered))
    assert taken is not None
    assert (taken["known"], taken["still_there"]) == (EVENTS + 6, True)
    assert json.loads(taken["heads"]) == [[3, "new 3"], [0, ""], [20, "account-120"]]
    streams = STREAMS | {"account-2": 23, "new": 4, "newer": 2}
    await check(store, older, streams)
    for name in ("new", "newer", "account-2", "account-1"):
        await fill(store, name, 1)
        streams[name] += 1
    await check(store, older, streams)
    await store.close()


@pytest.mark.parametrize("older", [2], indirect=True)
async def test_whoever_knew_the_second_version_goes_on(older: Stranger, postgres_url: str) -> None:
    append_one, append_2 = await older.prepare(APPEND_ONE), await older.prepare(APPEND_2)
    one = ("T", b"1", b"", 1)
    await append_one.fetch(EVENTS, "ä20", "account-2", 21, "21", *one)
    store = await open_store(postgres_url)
    await append_one.fetch(EVENTS + 1, "21", "account-2", 22, "22", *one)
    await append_one.fetch(EVENTS + 2, "22", "new", 1, "new 1", *one)
    rows = json.dumps([("new", 2, "new 2", "T", "", "", 1), ("newer", 1, "newer 1", "T", "", "", 1)])
    await append_2.fetch(EVENTS + 3, "new 1", None, rows)
    await check(store, older, STREAMS | {"account-2": 22, "new": 2, "newer": 1})
    head = EVENTS + 5, "newer 1"
    for known in ((EVENTS + 4, "new 2"), head):
        with pytest.raises(asyncpg.UniqueViolationError):
            await append_one.fetch(*known, "newer", 1, "again", *one)
        with pytest.raises(asyncpg.UniqueViolationError):
            await append_2.fetch(*known, None, rows)
    gone = EVENTS + 5, "another"
    with pytest.raises(asyncpg.PostgresError) as refused:
        await append_one.fetch(*gone, "newest", 1, "again", *one)
    assert refused.value.sqlstate == "RHY03"
    for known, expected in ((gone, None), (head, '[["new", 3, ""]]'), (head, '[["new", 2, "x"]]')):
        with pytest.raises(asyncpg.PostgresError) as refused:
            await append_2.fetch(*known, expected, rows.replace("new", "newest"))
        assert refused.value.sqlstate == "RHY03"
    await check(store, older, STREAMS | {"account-2": 22, "new": 2, "newer": 1})
    await store.close()


async def test_a_sealed_store_stays_sealed(older: Stranger, postgres_url: str) -> None:
    await older.execute("CALL seal()")
    store = await open_store(postgres_url)
    with pytest.raises(StoreSealedError):
        await store.append("account-2", events(1), expected_version=ROUNDS)
    await check(store, older, STREAMS)
    await store.close()


async def test_what_others_may_do_stays(older: Stranger, postgres_url: str) -> None:
    await older.execute(
        "DROP ROLE IF EXISTS teller; CREATE ROLE teller; GRANT SELECT, INSERT ON events TO teller"
    )
    await (await open_store(postgres_url)).close()
    assert await older.fetchval("SELECT has_table_privilege('teller', 'events', 'INSERT')")
    await older.execute("DROP OWNED BY teller; DROP ROLE teller")


async def test_while_somebody_reads_the_log_it_is_left_alone(older: Stranger, postgres_url: str) -> None:
    before = await older.fetchval("SELECT max(version) FROM migrations")
    async with older.transaction():
        await older.fetch("SELECT FROM events")
        with pytest.raises(StoreUnavailableError, match="somebody holds a lock for too long"):
            await open_store(f"{postgres_url}?lock_timeout=0.1")
    assert await older.fetchval("SELECT max(version) FROM migrations") == before
    store = await open_store(postgres_url)
    await check(store, older, STREAMS)
    await store.close()


async def test_whoever_took_his_snapshot_before_finds_all_events(older: Stranger, postgres_url: str) -> None:
    """As `pg_dump` does, which then waits for the lock."""
    async with older.transaction(isolation="repeatable_read"):
        await older.fetch("SELECT FROM pg_class")
        await (await open_store(postgres_url)).close()
        assert await older.fetchval("SELECT count(*) FROM events") == EVENTS


async def test_who_waits_for_the_log_lets_others_through(older: Stranger, postgres_url: str) -> None:
    other = await asyncpg.connect(postgres_url)
    async with older.transaction(), asyncio.timeout(30):
        await older.fetch("SELECT FROM events")
        opening = asyncio.create_task(open_store(f"{postgres_url}?lock_timeout=60"))
        while not await other.fetchval(WAITS):  # noqa: ASYNC110 - the database has no event for it
            await asyncio.sleep(0)
        assert await other.fetchval("SELECT count(*) FROM rehydrate.events") == EVENTS
        assert not opening.done()
    await (await opening).close()
    await other.close()


async def test_a_session_that_is_lost_meanwhile_is_a_server_in_trouble(
    older: Stranger, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = "SELECT pg_terminate_backend(pg_backend_pid())"
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, ended))
        patched.setattr(migrations, "VERSION", len(migrations.MIGRATIONS))
        with pytest.raises(StoreUnavailableError) as lost:
            await open_store(postgres_url)
    assert "Transaction" not in str(lost.value)
    store = await open_store(postgres_url)
    await check(store, older, STREAMS)
    await store.close()


async def test_what_stands_in_the_way_of_a_migration_is_named(older: Stranger, postgres_url: str) -> None:
    await older.execute("ALTER TABLE events ADD COLUMN first text")
    with pytest.raises(ConfigurationError, match=r'column "first" .* already exists\); nothing was changed'):
        await open_store(postgres_url)
    await older.execute("ALTER TABLE events DROP COLUMN first")
    store = await open_store(postgres_url)
    await check(store, older, STREAMS)
    await store.close()


async def test_a_stream_without_its_first_event_is_named_and_nothing_is_changed(
    older: Stranger, postgres_url: str
) -> None:
    """As an administrator can bring about, who switches triggers off."""
    before = await older.fetchval("SELECT max(version) FROM migrations")
    await older.execute(
        "SET session_replication_role = replica; DELETE FROM events WHERE stream = 'account-2' AND version = 1;"
        "SET session_replication_role = origin"
    )
    with pytest.raises(
        CorruptStoreError, match="stream account-2 has lost its first event; restore it"
    ) as told:
        await migrate_postgres(StoreUrl(postgres_url))
    assert "nothing was stored" in str(told.value)
    assert await older.fetchval("SELECT max(version) FROM migrations") == before
    assert await older.fetchval("SELECT count(*) FROM events") == EVENTS - 1
    assert await older.fetchval("SELECT to_regclass('firsts') IS NULL")


async def test_it_may_take_longer_than_a_statement(
    older: Stranger, postgres_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection, "GRACE", 2.0)
    monkeypatch.setattr(migration, "_FOR_EACH_EVENT", 1.0)
    slow = ("SELECT pg_sleep(2.5)", *["SELECT"] * 2)
    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, *slow))
    monkeypatch.setattr(migrations, "VERSION", len(migrations.MIGRATIONS))
    store = await open_store(f"{postgres_url}?statement_timeout=0.05")
    assert f"bringing {EVENTS} events to version {migrations.VERSION}" in caplog.text
    await store.close()


async def test_one_that_takes_too_long_is_a_server_that_does_not_answer_and_changes_nothing(
    older: Stranger, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await older.fetchval("SELECT max(version) FROM migrations")
    with monkeypatch.context() as patched:
        patched.setattr(connection, "GRACE", 1.0)
        patched.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, "SELECT pg_sleep(60)"))
        patched.setattr(migrations, "VERSION", len(migrations.MIGRATIONS))
        with pytest.raises(StoreUnavailableError, match="it does not answer in time"):
            await open_store(f"{postgres_url}?statement_timeout=1")
    assert await older.fetchval("SELECT max(version) FROM migrations") == before


async def test_several_programs_that_open_it_at_once(older: Stranger, postgres_url: str) -> None:
    stores = await asyncio.gather(*[open_store(postgres_url) for _ in range(4)])
    await check(stores[0], older, STREAMS)
    for store in stores:
        await store.close()
