"""Rehydration from PostgreSQL reads on while a page is folded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from rehydrate.errors import StoreUnavailableError
from rehydrate.store.event_rows import BETWEEN_DATA
from rehydrate.store.port import PAGE_SIZE, NewEvent, ReplayPage, Store
from rehydrate.store.postgres import reader
from rehydrate.store.url import open_store


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Store]:
    store = await open_store(postgres_url)
    yield store
    await store.close()


async def filled(store: Store, count: int, data: bytes = b"{}") -> None:
    for start in range(0, count, 4_000):
        new = [NewEvent(f"{n}", "Deposited", data) for n in range(start, min(count, start + 4_000))]
        await store.append("account-1", new, expected_version=start)


async def read_on(page: ReplayPage) -> list[ReplayPage]:
    """A page, and those behind it that the store has read by itself."""
    pages = [page]
    while pages[-1].rest is not None and (rest := await pages[-1].rest) is not None:
        pages.append(rest)
    return pages


async def test_it_is_read_on_to_the_end(store: Store) -> None:
    await filled(store, 2_500)
    pages = await read_on(await store.replay("account-1", after=1))
    assert [len(page.rows) for page in pages] == [PAGE_SIZE, PAGE_SIZE, 499]
    assert [version for page in pages for version, _, _ in page.rows] == list(range(2, 2_501))
    assert [page.is_last for page in pages] == [False, False, True]


async def test_what_does_not_come_apart_as_it_was_joined_is_asked_for(store: Store) -> None:
    await filled(store, 2_500)
    await store.append("account-1", [NewEvent("last", "Deposited", BETWEEN_DATA)], expected_version=2_500)
    assert [page.is_last for page in await read_on(await store.replay("account-1"))] == [False, False]
    assert (await store.replay("account-1", after=2_000)).last_id == "last"


async def test_what_is_read_on_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await filled(store, 4_500)
    monkeypatch.setattr(reader, "MAX_PAGES", 3)
    assert [len(page.rows) for page in await read_on(await store.replay("account-1"))] == [PAGE_SIZE] * 3
    monkeypatch.setattr(reader, "MAX_PAGES", 9)
    monkeypatch.setattr(reader, "MAX_PAGE_BYTES", 3_000)
    assert [len(page.rows) for page in await read_on(await store.replay("account-1"))] == [PAGE_SIZE] * 2


async def test_a_gap_in_the_versions_is_seen(store: Store, postgres_url: str) -> None:
    await filled(store, 2)
    stranger = await asyncpg.connect(postgres_url)
    await stranger.execute(
        "INSERT INTO rehydrate.events SELECT 3, stream, 4, '3', type, data, metadata, recorded_at, first "
        "FROM rehydrate.events WHERE version = 1"
    )
    await stranger.close()
    page = await store.replay("account-1")
    assert [version for version, _, _ in page.rows] == [1, 2, 4]
    assert (page.first_id, page.last_id, page.last_position, page.is_last) == ("0", "3", 3, True)


async def test_where_reading_on_fails_the_page_is_asked_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(store, 2_500)
    one_page, times = vars(reader)["_read_on"], iter([True, False])

    async def fails_once(*asked: object) -> object:
        if next(times):
            raise StoreUnavailableError("the server has gone")
        return await one_page(*asked)

    monkeypatch.setattr(reader, "_read_on", fails_once)
    assert [len(page.rows) for page in await read_on(await store.replay("account-1"))] == [PAGE_SIZE]
    behind = await read_on(await store.replay("account-1", after=PAGE_SIZE))
    assert [len(page.rows) for page in behind] == [PAGE_SIZE, 500]


async def test_pages_that_nobody_waits_for_are_let_go(store: Store) -> None:
    await filled(store, 2_500)
    reading = [asyncio.create_task(store.replay("account-1")) for _ in range(12)]
    await asyncio.sleep(0)
    for task in reading[::2]:
        task.cancel()
    pages = await asyncio.gather(*reading, return_exceptions=True)
    assert [type(page) for page in pages] == [asyncio.CancelledError, ReplayPage] * 6
    assert (await store.replay("account-1", after=2_499)).last_id == "2499"


async def test_what_was_restored_between_two_pages_is_not_read_on(
    store: Store, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state is never of two histories: who asks for the page behind sees that it is of another one."""
    await filled(store, 2_500)
    read_on_once = vars(reader)["_read_on"]
    is_first = True

    async def another_history_follows(*asked: object) -> object:
        nonlocal is_first
        found = await read_on_once(*asked)
        if is_first:
            is_first = False
            stranger = await asyncpg.connect(postgres_url)
            # As `pg_restore --disable-triggers` does it.
            await stranger.execute(
                "SET session_replication_role = replica; BEGIN; CREATE TEMP TABLE kept AS TABLE rehydrate.events;"
                "TRUNCATE rehydrate.events; UPDATE kept SET id = 'another ' || id WHERE version > 1500;"
                "INSERT INTO rehydrate.events TABLE kept; COMMIT"
            )
            await stranger.close()
        return found

    monkeypatch.setattr(reader, "_read_on", another_history_follows)
    read = await read_on(await store.replay("account-1"))
    assert [page.last_id for page in read] == ["999", "1999"]
    behind = await store.replay("account-1", after=1_999)
    assert behind.first_id == "another 1999"
