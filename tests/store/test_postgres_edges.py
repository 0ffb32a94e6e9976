"""Names and numbers at the edge of what a database takes."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from rehydrate.errors import ConfigurationError
from rehydrate.store.port import LogFilter, Store, ViewChange
from rehydrate.store.url import open_store
from rehydrate.testing.conformance.checkpoints import checkpoint
from rehydrate.testing.conformance.material import events, fill, sound_log
from rehydrate.testing.conformance.snapshots import snapshot

FAR = [2**63 - 1, 2**63, 2**100]


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Store]:
    store = await open_store(postgres_url)
    yield store
    await store.close()


@pytest.mark.parametrize("schema", ["user", "select", "table", "all", "default", "_", "a1"])
async def test_a_schema_may_have_a_name_that_means_something_in_sql(postgres_url: str, schema: str) -> None:
    url = f"{postgres_url}?schema={schema}"
    for expected in range(2):
        store = await open_store(url)
        await store.append("account-1", events(1), expected_version=expected)
        assert len(await sound_log(store)) == expected + 1
        await store.close()
    connection = await asyncpg.connect(postgres_url)
    assert await connection.fetchval(f'SELECT count(*) FROM "{schema}".events') == 2
    await connection.close()


@pytest.mark.parametrize("schema", ["pg_x", "pg_catalog", "pg_temp", "information_schema"])
async def test_a_schema_that_is_the_database_s_own_is_refused(postgres_url: str, schema: str) -> None:
    with pytest.raises(ConfigurationError, match=f"schema={schema!r} is PostgreSQL's own"):
        await open_store(f"{postgres_url}?schema={schema}")


@pytest.mark.parametrize("after", FAR)
async def test_after_the_last_position_that_there_can_be_is_nothing(store: Store, after: int) -> None:
    await fill(store, "account-1", 3)
    for where in (None, LogFilter(types=frozenset({"Deposited"}))):
        page = await store.read_all(after=after, where=where)
        assert (page.events, page.position, page.is_last) == ([], after, True)
    stream = await store.read_stream("account-1", after=after)
    assert (stream.events, stream.is_last) == ([], True)
    replayed = await store.replay("account-1", after=after)
    assert (replayed.last_id, replayed.is_last) == ("", True)


@pytest.mark.parametrize("after", [-1, -20_000, -(2**100)])
async def test_before_the_first_position_reading_begins_with_the_first(store: Store, after: int) -> None:
    await fill(store, "account-1", 3)
    for where in (None, LogFilter(aggregates=frozenset({"account"}))):
        page = await store.read_all(after=after, where=where)
        assert (len(page.events), page.position, page.is_last) == (3, 3, True)
    assert len((await store.read_stream("account-1", after=after)).events) == 3


@pytest.mark.parametrize("limit", FAR)
async def test_a_limit_may_be_as_large_as_anybody_likes(store: Store, limit: int) -> None:
    await fill(store, "account-1", 3)
    assert await store.save_checkpoint(checkpoint("one", 1), previous=None, views=[ViewChange("ada", b"1")])
    for where in (None, LogFilter(aggregates=frozenset({"account"}))):
        assert len((await store.read_all(limit=limit, where=where)).events) == 3
    assert len((await store.read_stream("account-1", limit=limit)).events) == 3
    assert len(await store.streams(limit=limit)) == 1
    assert await store.list_views("one", limit=limit) == [("ada", b"1")]


@pytest.mark.parametrize("limit", [0, -1, -5, -(2**63), -(2**100)])
async def test_a_limit_of_less_than_nothing_is_answered_with_nothing(store: Store, limit: int) -> None:
    await fill(store, "account-1", 3)
    assert await store.save_checkpoint(checkpoint("one", 1), previous=None, views=[ViewChange("ada", b"1")])
    for where in (None, LogFilter(aggregates=frozenset({"account"}))):
        page = await store.read_all(limit=limit, where=where)
        assert (page.events, page.position, page.is_last) == ([], 0, False)
    stream = await store.read_stream("account-1", limit=limit)
    assert (stream.events, stream.is_last) == ([], False)
    assert await store.streams(limit=limit) == []
    assert await store.list_views("one", limit=limit) == []


async def test_a_number_that_the_database_has_no_room_for_is_a_mistake_of_the_caller(store: Store) -> None:
    with pytest.raises(ValueError, match="cannot be asked for"):
        await store.save_snapshot(snapshot("account-1", 2**63), keep=1)
    assert await store.load_snapshot("account-1") is None
