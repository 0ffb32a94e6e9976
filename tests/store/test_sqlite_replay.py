"""Rehydration from SQLite reads a page in one step, and reads on by itself: whatever is stored, the rows are the same."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from rehydrate import App
from rehydrate.errors import InvalidIdError, StoreClosedError, StreamQuarantinedError
from rehydrate.store.port import PAGE_SIZE, NewEvent, ReplayPage
from rehydrate.store.replays import MAX_PAGES
from rehydrate.store.sqlite import SqliteStore, replay
from rehydrate.store.url import open_store
from tests.bank import Deposit, bank_account

_Row = tuple[int, str, bytes]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bank.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = await open_store(f"sqlite:///{path}")
    assert isinstance(store, SqliteStore)
    yield store
    await store.close()


async def filled(store: SqliteStore, data: Sequence[bytes], types: Sequence[str] = ("Deposited",)) -> None:
    new = [NewEvent(f"{n}", types[n % len(types)], each) for n, each in enumerate(data)]
    for start in range(0, len(new), 4_000):
        await store.append("account-1", new[start : start + 4_000], expected_version=start)


async def asked(store: SqliteStore) -> list[ReplayPage]:
    """All pages, each by a question of its own."""
    pages = [await store.replay("account-1")]
    while not pages[-1].is_last:
        pages.append(await store.replay("account-1", after=pages[-1].rows[-1][0]))
    return pages


async def read_on(page: ReplayPage) -> list[ReplayPage]:
    """A page, and those behind it that the store has read by itself."""
    pages = [page]
    while pages[-1].rest is not None and (rest := await pages[-1].rest) is not None:
        pages.append(rest)
    return pages


def rows_of(pages: Sequence[ReplayPage]) -> list[_Row]:
    return [row for page in pages for row in page.rows]


def ends_of(pages: Sequence[ReplayPage]) -> list[tuple[str, str, int, bool]]:
    return [(page.first_id, page.last_id, page.last_position, page.is_last) for page in pages]


@pytest.mark.parametrize("count", [1, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 2 * PAGE_SIZE, 2_500])
async def test_what_is_read_on_is_what_would_be_asked_for(store: SqliteStore, count: int) -> None:
    await filled(store, [b"%d" % n for n in range(count)], ("Deposited", "Withdrawn", "Closed"))
    pages = await read_on(await store.replay("account-1"))
    each = await asked(store)
    assert ends_of(pages) == ends_of(each)
    assert rows_of(pages) == rows_of(each)
    assert [(version, int(data) + 1) for version, _, data in rows_of(pages)] == [
        (version, version) for version in range(1, count + 1)
    ]


async def test_it_is_not_read_on_for_ever(store: SqliteStore) -> None:
    count = (MAX_PAGES + 1) * PAGE_SIZE
    await filled(store, [b"{}"] * count)
    pages = await read_on(await store.replay("account-1"))
    assert len(rows_of(pages)) == MAX_PAGES * PAGE_SIZE
    assert not pages[-1].is_last


async def test_what_is_read_on_is_bounded_in_bytes(store: SqliteStore) -> None:
    await filled(store, [b"x" * 3_500] * 4_000)
    pages = await read_on(await store.replay("account-1"))
    assert [len(page.rows) for page in pages] == [PAGE_SIZE, PAGE_SIZE]
    assert [len(page.rows) for page in await asked(store)] == [PAGE_SIZE] * 4 + [0]


@pytest.mark.parametrize(
    ("data", "types"),
    [
        ([b"", b"", b""], ("Deposited",)),
        ([b"a\x00b", b"\x00", b"a\x00"], ("Deposited",)),
        ([b"\n", b"\xff", b"\x0b", b"\n\xff", b"\xff\x0b\n"], ("Deposited",)),
        ([b"a\n\xff\x0bb", b"c"], ("Deposited",)),
        ([b"\n\xff\x0b"], ("Deposited",)),
        ([b"{}", b"{}"], ("De\npo\nsited", "Withdrawn")),
        ([b"{}", b"\x80\xfe"], ("Überwiesen", "送金")),
    ],
)
async def test_any_bytes_come_apart_as_they_were_stored(
    store: SqliteStore, data: list[bytes], types: tuple[str, ...]
) -> None:
    await filled(store, data, types)
    page = await store.replay("account-1")
    stored = await store.read_stream("account-1")
    assert page.rows == [(event.version, event.type, event.data) for event in stored.events]
    assert page.last_id == stored.events[-1].id


async def test_a_gap_in_the_versions_is_seen(path: Path, store: SqliteStore) -> None:
    account = bank_account()
    stream = account.stream("ada")
    await store.append(stream, [NewEvent("a", "Deposited", b'{"amount":1}')], expected_version=0)
    with closing(sqlite3.connect(path)) as stranger:
        stranger.execute("DROP TRIGGER events_follow_each_other")
        stranger.execute(
            "INSERT INTO events SELECT 2, stream, 3, 1, 'b', type, data, metadata, recorded_at FROM events"
        )
        stranger.execute("UPDATE stream_heads SET version = 3, position = 2")
        stranger.commit()
    assert [version for version, _, _ in (await store.replay(stream)).rows] == [1, 3]
    async with App(aggregates=[account]).open(store) as bank:
        with pytest.raises(StreamQuarantinedError, match="gap"):
            await bank.dispatch(account, "ada", Deposit(1))


async def test_pages_that_nobody_waits_for_are_let_go(store: SqliteStore) -> None:
    await filled(store, [b"{}"] * 5_000)
    reading = [asyncio.create_task(store.replay("account-1")) for _ in range(8)]
    await asyncio.sleep(0)
    for task in reading[::2]:
        task.cancel()
    pages = await asyncio.gather(*reading, return_exceptions=True)
    assert [type(page) for page in pages] == [asyncio.CancelledError, ReplayPage] * 4
    assert (await store.replay("account-1", after=4_999)).last_id == "4999"


async def test_where_reading_on_fails_the_page_is_asked_for(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(store, [b"{}"] * 2_500)
    joined, calls = vars(replay)["_joined"], iter([False, True, False, False])

    def fails_once(connection: sqlite3.Connection, stream: str, after: int, room: int) -> object:
        if next(calls):
            raise sqlite3.OperationalError("disk I/O error")
        return joined(connection, stream, after, room)

    monkeypatch.setattr(replay, "_joined", fails_once)
    pages = await read_on(await store.replay("account-1"))
    assert len(rows_of(pages)) == PAGE_SIZE
    assert [len(page.rows) for page in await read_on(await store.replay("account-1", after=PAGE_SIZE))] == [
        1_000,
        500,
    ]


async def test_many_who_ask_together_each_get_their_own(store: SqliteStore) -> None:
    for n in range(100):
        data = [b"%d" % n] * (n * 10 or 1_500)
        await store.append(
            f"account-{n}",
            [NewEvent(f"{n}.{k}", "Deposited", d) for k, d in enumerate(data)],
            expected_version=0,
        )
    pages = await asyncio.gather(*[store.replay(f"account-{n}") for n in range(101)])
    assert [(page.first_id, page.last_id) for page in pages] == [
        ("0.0", "0.999"),
        *[(f"{n}.0", f"{n}.{n * 10 - 1}") for n in range(1, 100)],
        ("", ""),
    ]
    assert [{data for _, _, data in page.rows} for page in pages] == [
        *[{b"%d" % n} for n in range(100)],
        set(),
    ]


async def test_a_question_that_cannot_be_asked_fails_by_itself(store: SqliteStore) -> None:
    await filled(store, [b"{}"] * 3)
    names = ["account-1", "account-\ud800", "account-1", "account-2"]
    answers = await asyncio.gather(*[store.replay(name) for name in names], return_exceptions=True)
    assert [type(answer) for answer in answers] == [ReplayPage, InvalidIdError, ReplayPage, ReplayPage]
    with pytest.raises(ValueError, match="after="):
        await store.replay("account-1", after=2**63)


async def test_who_has_asked_is_answered_also_by_a_store_that_is_being_closed(store: SqliteStore) -> None:
    await filled(store, [b"{}"] * 1_500)
    asking = [asyncio.create_task(store.replay("account-1")) for _ in range(100)]
    await asyncio.sleep(0)
    closing_it = asyncio.create_task(store.close())
    pages = await asyncio.gather(*asking)
    await closing_it
    assert [page.last_id for page in pages] == ["999"] * 100
    with pytest.raises(StoreClosedError):
        await store.replay("account-1")
