"""`rehydrate copy` where it cannot or must not go on: what is no copy, one store under two names, trouble, bad input."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rehydrate import (
    ConfigurationError,
    RehydrateError,
    StoreError,
    StoreSealedError,
    StoreUnavailableError,
    SystemClock,
    open_store,
)
from rehydrate.cli.moving.appending import OutOfPlaceError
from rehydrate.cli.moving.comparison import NotACopyError
from rehydrate.cli.moving.copy import copy_store
from rehydrate.cli.moving.copying import EventCopy
from rehydrate.store.port import (
    PAGE_SIZE,
    Appended,
    AppendWaiter,
    Head,
    LogFilter,
    LogPage,
    NewEvent,
    Store,
    StoredEvent,
)
from rehydrate.testing.conformance.material import log_events
from rehydrate.testing.faults import FaultyStore, LoseAnswer, RandomFaults, Refuse, Script
from tests.cli.conftest import NewUrl
from tests.cli.moving import (
    by_command,
    contents,
    fill,
    opened,
)
from tests.cli.terminal import typed
from tests.stand_ins import Exchangeable


@pytest.fixture
async def stores(new_url: NewUrl) -> AsyncIterator[tuple[Store, Store]]:
    """Two stores in memory, with nothing in them."""
    async with opened(new_url("memory"), new_url("memory")) as (source, destination):
        yield source, destination


async def copied(source: Store, destination: Store) -> EventCopy:
    """Copy the events, without the command around it."""
    copy = EventCopy(source, destination)
    await copy.begin()
    await copy.catch_up()
    return copy


# ---- what is no copy


async def test_a_destination_that_went_on_by_itself_is_refused(stores: tuple[Store, Store]) -> None:
    source, destination = stores
    await fill(source, 5)
    await copied(source, destination)
    await destination.append("shop-1", by_command("open", 1), expected_version=0)
    with pytest.raises(
        NotACopyError, match=r"holds version 1 of shop-1 at position .*, and it did not come from"
    ):
        await copied(source, destination)


async def test_a_destination_that_went_on_and_a_source_that_did_too_are_no_copy(
    stores: tuple[Store, Store],
) -> None:
    source, destination = stores
    await fill(source, 5)
    await copied(source, destination)
    await destination.append("shop-1", by_command("here", 1), expected_version=0)
    await source.append("shop-1", by_command("there", 1), expected_version=0)
    with pytest.raises(NotACopyError, match=r"version 1 of shop-1 .*ids there\.0 and here\.0"):
        await copied(source, destination)


class Liar(Exchangeable):
    """A store that changes one event on its way in."""

    def __init__(self, behind: Store, lie: dict[str, Any]) -> None:
        super().__init__(behind)
        self._lie = lie

    def submit(
        self, stream: str, events: Sequence[NewEvent], expected_version: int, waiter: AppendWaiter
    ) -> Appended | StoreError | None:
        changed = [
            msgspec.structs.replace(event, **self._lie) if event.id == "c1.7.0" else event for event in events
        ]
        return self.behind.submit(stream, changed, expected_version, waiter)


LIES: dict[str, tuple[dict[str, Any], str]] = {
    "data": ({"data": b"?"}, "differs in its data between"),
    "metadata": ({"metadata": b"?"}, "differs in its metadata between"),
    "type": ({"type": "?"}, "differs in its type between"),
    "recorded time": ({"recorded_at": 1}, "differs in its recorded time between"),
    "two": ({"data": b"?", "recorded_at": 1}, "differs in its data and recorded time between"),
    "id": ({"id": "?"}, r"\(ids c1.7.0 and \?\)"),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_store_that_changes_an_event_is_found_out_with_stream_and_version(
    stores: tuple[Store, Store], lie: str
) -> None:
    source, destination = stores
    await fill(source, 20)
    (event,) = [event for event in await log_events(source) if event.id == "c1.7.0"]
    change, sentence = LIES[lie]
    with pytest.raises(NotACopyError, match=f"version {event.version} of {event.stream}.*{sentence}"):
        await copied(source, Liar(destination, change).as_store)


class Shuffler(Exchangeable):
    """A store that takes what is submitted together in another order."""

    def __init__(self, behind: Store) -> None:
        super().__init__(behind)
        self._kept: list[tuple[str, Sequence[NewEvent], int, AppendWaiter]] = []

    def submit(
        self, stream: str, events: Sequence[NewEvent], expected_version: int, waiter: AppendWaiter
    ) -> Appended | StoreError | None:
        if not self._kept:
            asyncio.get_running_loop().call_soon(self._submit_backwards)
        self._kept.append((stream, events, expected_version, waiter))
        return None

    def _submit_backwards(self) -> None:
        for stream, events, version, waiter in reversed(self._kept):
            outcome = self.behind.submit(stream, events, version, waiter)
            assert outcome is not None
            waiter.append_done(outcome)


@pytest.mark.parametrize("refusal", [Refuse(at_once=True), Refuse(), None])
async def test_a_store_that_changes_the_order_is_found_out_at_once(
    stores: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch, refusal: Refuse | None
) -> None:
    monkeypatch.setattr("rehydrate.cli.moving.appending.PAUSES", (0.0,))
    source, destination = stores
    for stream in ("a-1", "a-2", "a-3"):
        await source.append(stream, by_command(stream, 1), expected_version=0)
    await source.append("a-1", by_command("later", 1), expected_version=1)
    script = Script()
    script.add("submit", None, refusal)
    faulty = FaultyStore(destination, script, SystemClock())
    with pytest.raises(
        OutOfPlaceError, match=r"stored an append to a-3 before one to a-2|to a-2 before one to a-1"
    ):
        await copied(source, faulty if refusal else Shuffler(destination).as_store)
    assert len(await contents(destination)) == 3, "nothing was stored behind it"
    with pytest.raises(NotACopyError):
        await copied(source, destination)


async def test_a_source_with_a_gap_in_its_versions_is_copied_up_to_the_gap(
    stores: tuple[Store, Store],
) -> None:
    source, destination = stores
    await source.append("a-1", by_command("1", 2), expected_version=0)
    await source.append("a-2", by_command("2", 1), expected_version=0)
    await source.append("a-1", by_command("3", 1), expected_version=2)
    await source.append("a-3", by_command("4", 1), expected_version=0)
    with pytest.raises(
        OutOfPlaceError, match=r"a-1 at version 2, .* goes on with version 4 .* are missing in"
    ):
        await copied(Gap(source).as_store, destination)
    assert [event.id for event in await log_events(destination)] == ["1.0", "1.1", "2.0"]


class Gap(Exchangeable):
    """A store that has lost a version."""

    async def read_all(
        self, *, after: int = 0, limit: int = PAGE_SIZE, where: LogFilter | None = None
    ) -> LogPage:
        page = await self.behind.read_all(after=after, limit=limit, where=where)
        return msgspec.structs.replace(page, events=[_without_third(event) for event in page.events])


def _without_third(event: StoredEvent) -> StoredEvent:
    return msgspec.structs.replace(event, version=4) if event.id == "3.0" else event


async def test_a_writer_in_the_destination_is_noticed_before_anything_is_stored_behind_it(
    stores: tuple[Store, Store],
) -> None:
    source, destination = stores
    await source.append("a-1", by_command("1", 1), expected_version=0)
    copy = EventCopy(source, destination)
    await copy.begin()
    await destination.append("a-1", by_command("stranger", 1), expected_version=0)
    with pytest.raises(OutOfPlaceError, match="something else writes to the destination"):
        await copy.catch_up()
    assert [event.id for event in await log_events(destination)] == ["stranger.0"]


# ---- one store under two names


async def test_a_store_is_not_copied_into_itself(new_url: NewUrl, tmp_path: Path) -> None:
    url = new_url("sqlite")
    path = Path(url.removeprefix("sqlite:///"))
    async with opened(url) as (store,):
        await fill(store, 3)
        link = tmp_path / "link.db"
        link.symlink_to(path)
        relative = os.path.relpath(path)
        for other in (url, f"{url}?readers=1", f"sqlite:///{link}", f"sqlite:///{relative}"):
            with pytest.raises(ConfigurationError, match="name another store"):
                await copy_store(url, other, seal=True)
        await store.append("bank_account-x", by_command("still open", 1), expected_version=0)


@pytest.mark.parametrize(("kind", "parameter"), [("postgresql", "schema"), ("mongodb", "prefix")])
async def test_two_stores_in_one_database_are_two_and_one_store_under_two_urls_is_one(
    new_url: NewUrl, kind: str, parameter: str
) -> None:
    database = new_url(kind)
    and_ = "&" if "?" in database else "?"
    urls = f"{database}{and_}{parameter}=one", f"{database}{and_}{parameter}=two"
    async with opened(*urls) as (source, destination):
        await fill(source, 20)
        assert await copy_store(*urls, seal=False) == 0
        assert await contents(destination) == await contents(source)
        with pytest.raises(ConfigurationError, match="are the same store"):
            await copy_store(urls[0], f"{urls[0]}&poll=0.5", seal=True)
        await source.append("late-1", by_command("still open", 1), expected_version=0)


async def test_a_store_under_two_names_is_found_out_by_a_mark(new_url: NewUrl) -> None:
    url = new_url("memory")
    async with opened(url, url, new_url("memory")) as (one, same, other):
        await fill(one, 3)
        with pytest.raises(ConfigurationError, match="are the same store"):
            await EventCopy(one, same).refuse_itself()
        await EventCopy(one, other).refuse_itself()
        assert await one.list_checkpoints() == await other.list_checkpoints() == []


# ---- trouble on the way


async def test_answers_that_are_lost_make_nothing_twice(
    stores: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rehydrate.cli.moving.appending.PAUSES", (0.0,) * 50)
    monkeypatch.setattr("rehydrate.cli.asking.PAUSES", (0.0,) * 50)
    source, destination = stores
    await fill(source, 400)
    reading = RandomFaults(1, rate=0.3, faults=[Refuse(), LoseAnswer()])
    writing = RandomFaults(2, rate=0.02, faults=[LoseAnswer()], methods=["submit"])
    plain = FaultyStore(await open_store("memory://"), Script(), SystemClock())
    await copied(source, plain)
    faulty = FaultyStore(destination, writing, SystemClock())
    await copied(FaultyStore(source, reading, SystemClock()), faulty)
    assert await contents(destination) == await contents(source)
    assert faulty.calls["submit"] > plain.calls["submit"], "some were sent again"


async def test_a_store_that_stays_away_ends_the_call_and_says_how_to_go_on(
    new_url: NewUrl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rehydrate.cli.moving.appending.PAUSES", (0.0,) * 3)
    urls = new_url("memory"), new_url("memory")
    async with opened(*urls) as (source, destination):
        await fill(source, 100)
        script = Script()
        script.add("submit", *[None] * 20, *[Refuse()] * 10_000)

        async def open_faulty(url: str) -> Store:
            return FaultyStore(await open_store(url), script, SystemClock())

        with monkeypatch.context() as patched:
            patched.setattr("rehydrate.cli.moving.copy.open_store", open_faulty)
            with pytest.raises(
                RehydrateError, match="what was copied stays, and the same call goes on there"
            ):
                await copy_store(*urls, seal=False)
        assert await copy_store(*urls, seal=False) == 0
        assert await contents(destination) == await contents(source)


class GoneAfterSeal(Exchangeable):
    """A store that is sealed, and cannot be reached from then on; its answer may be lost as well."""

    def __init__(self, behind: Store, *, answers: bool) -> None:
        super().__init__(behind)
        self._answers = answers
        self._is_gone = False

    async def seal(self) -> None:
        await self.behind.seal()
        self._is_gone = True
        if not self._answers:
            raise StoreUnavailableError("it is gone", stored=None)

    async def head(self) -> Head:
        if self._is_gone:
            raise StoreUnavailableError("it is gone")
        return await self.behind.head()


@pytest.mark.parametrize(("answers", "sentence"), [(True, "is sealed, "), (False, "may be sealed by now, ")])
async def test_a_call_that_ends_between_seal_and_tail_says_so_and_is_finished_by_the_same_call(
    new_url: NewUrl, monkeypatch: pytest.MonkeyPatch, answers: bool, sentence: str
) -> None:
    monkeypatch.setattr("rehydrate.cli.asking.PAUSES", (0.0,) * 3)
    urls = new_url("memory"), new_url("memory")
    async with opened(*urls) as (source, destination):
        await fill(source, 30)

        async def open_leaving(url: str) -> Store:
            return GoneAfterSeal(await open_store(url), answers=answers).as_store

        with monkeypatch.context() as patched:
            patched.setattr("rehydrate.cli.existing.open_store", open_leaving)
            with pytest.raises(
                RehydrateError, match=f"it is gone; {urls[0]} {sentence}what was copied stays"
            ):
                await copy_store(*urls, seal=True)
        with pytest.raises(StoreSealedError):
            await source.append("late-1", by_command("late", 1), expected_version=0)
        assert await copy_store(*urls, seal=True) == 0
        assert await contents(destination) == await contents(source)


def make_small(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA max_page_count = 300")


async def test_a_full_disk_ends_the_call_in_one_sentence_and_the_same_call_goes_on(
    new_url: NewUrl, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = new_url("memory"), new_url("sqlite")
    async with opened(*urls) as (source, destination):
        for number in range(100):
            event = NewEvent(f"{number}", "T", b"x" * 20_000)
            await source.append("a-1", [event], expected_version=number)

        async def open_small(url: str) -> Store:
            store = await open_store(url)
            inside: Any = store
            await inside._writer.change(make_small)
            return store

        with monkeypatch.context() as patched:
            patched.setattr("rehydrate.cli.moving.copy.open_store", open_small)
            patched.setattr("rehydrate.cli.moving.packing.MAX_BATCH_BYTES", 100_000)
            with pytest.raises(
                RehydrateError, match=r"disk is full; what was copied stays, and the same call goes on"
            ):
                await copy_store(*urls, seal=False)
        stored = await contents(destination)
        assert 0 < len(stored) < 100
        assert stored == (await contents(source))[: len(stored)]
        assert await copy_store(*urls, seal=False) == 0
        assert await contents(destination) == await contents(source)


class Lagging(Exchangeable):
    """A store whose log is read from a replica that shows what is new only when it was asked so many times."""

    def __init__(self, behind: Store, lags: int) -> None:
        super().__init__(behind)
        self.lags = lags

    async def read_all(
        self, *, after: int = 0, limit: int = PAGE_SIZE, where: LogFilter | None = None
    ) -> LogPage:
        page = await self.behind.read_all(after=after, limit=limit, where=where)
        half = (await self.behind.head()).position // 2
        if self.lags <= 0 or page.position <= half:
            return page
        self.lags -= 1
        shown = [event for event in page.events if event.position <= half]
        return LogPage(shown, max(after, half), shown[-1].id if shown else "", is_last=True)


async def test_a_replica_that_lags_behind_is_waited_for(
    stores: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rehydrate.cli.asking.PAUSES", (0.0,) * 6)
    source, destination = stores
    await fill(source, 40)
    await copied(Lagging(source, 4).as_store, Lagging(destination, 4).as_store)
    assert await contents(destination) == await contents(source)
    await fill(source, 40, seed=2)
    with pytest.raises(StoreUnavailableError, match="if a replica answers, it lags behind; try again"):
        await copied(Lagging(source, 1_000).as_store, destination)
    await copied(source, destination)
    assert await contents(destination) == await contents(source)


async def test_a_sealed_destination_is_said_to_be_one(new_url: NewUrl) -> None:
    urls = new_url("memory"), new_url("memory")
    async with opened(*urls) as (source, destination):
        await fill(source, 3)
        await destination.seal()
        with pytest.raises(ConfigurationError, match="is sealed itself"):
            await copy_store(*urls, seal=False)


# ---- bad input


@pytest.mark.parametrize(
    ("source", "destination", "sentence"),
    [
        ("sqlite:///{there}", "oracle://scott:tiger@host/db", "no store is known by oracle://"),
        ("oracle://scott:tiger@host/db", "sqlite:///{folder}/new.db", "no store is known by oracle://"),
        ("sqlite:///{folder}/none.db", "sqlite:///{folder}/new.db", "there is no database"),
        ("sqlite:///{there}", "sqlite:///{folder}/no/new.db", "there is no directory"),
        ("sqlite:///{there}", "sqlite:///{folder}/text.db", "text.db"),
        ("sqlite:///{there}", "sqlite:///{folder}/newer.db", "was written by a newer Rehydrate"),
        ("sqlite:///{there}", "postgresql://scott:tiger@127.0.0.1:1/bank", "127.0.0.1"),
        ("sqlite:///{there}", "mongodb://scott:tiger@127.0.0.1:1/bank?timeout=0.5", "127.0.0.1"),
        ("sqlite:///{there}", "bank.db", "no URL of a store"),
        ("sqlite:///{there}", "sqlite:///{folder}/new.db?cache=1", "there is no parameter 'cache'"),
        ("sqlite:///{there}", "sqlite:///{there}", "name another store"),
    ],
)
async def test_bad_input_is_one_sentence_without_credentials(
    new_url: NewUrl, tmp_path: Path, source: str, destination: str, sentence: str
) -> None:
    url, newer = new_url("sqlite"), tmp_path / "newer.db"
    async with opened(url, f"sqlite:///{newer}") as (store, _):
        await fill(store, 3)
    with sqlite3.connect(newer) as connection:
        connection.execute("UPDATE meta SET value = '999'")
    connection.close()
    (tmp_path / "text.db").write_text("This is no database, but a text that is long enough to be read. " * 20)
    names = {"there": url.removeprefix("sqlite:///"), "folder": tmp_path}
    ended = await asyncio.to_thread(typed, "copy", source.format(**names), destination.format(**names))
    assert ended.code == 1
    assert sentence in ended.stderr
    assert "tiger" not in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / "none.db").exists()


async def test_a_store_that_stands_alone_is_where_to_copy_to_if_the_variable_names_where_from(
    new_url: NewUrl, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(new_url("sqlite"), new_url("sqlite"), new_url("sqlite")) as (source, store, third):
        await fill(source, 3)
        monkeypatch.setenv("REHYDRATE_SRC", source.url)
        assert (await asyncio.to_thread(typed, "copy", store.url)).code == 0
        assert await contents(store) == await contents(source)
        # With both variables an argument is the source, as it always is where nothing is missing.
        monkeypatch.setenv("REHYDRATE_DST", third.url)
        monkeypatch.setenv("REHYDRATE_SRC", "sqlite:///none.db")
        assert (await asyncio.to_thread(typed, "copy", store.url)).code == 0
        assert await contents(third) == await contents(source)


@pytest.mark.parametrize("is_set", [False, True])
async def test_a_copy_without_a_destination_says_where_to_give_it(
    new_url: NewUrl, monkeypatch: pytest.MonkeyPatch, is_set: bool
) -> None:
    source = new_url("sqlite")
    if is_set:
        monkeypatch.setenv("REHYDRATE_SRC", source)
    ended = await asyncio.to_thread(typed, "copy", *([] if is_set else [source]))
    assert ended.code == 2
    assert "Invalid value for DST" in ended.stderr
    assert "REHYDRATE_DST" in ended.stderr
