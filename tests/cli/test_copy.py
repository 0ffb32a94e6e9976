"""`rehydrate copy`: the events of any store in any other, the same and in the same order, however often it is called."""

from __future__ import annotations

import asyncio
import itertools
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
    LogFilter,
    LogPage,
    NewEvent,
    Store,
    StoredEvent,
)
from rehydrate.testing.conformance.material import log_events, sound_log
from rehydrate.testing.faults import FaultyStore, LoseAnswer, RandomFaults, Refuse, Script
from tests.bank import Deposit, account, app
from tests.cli.conftest import KINDS, NewUrl
from tests.cli.moving import (
    NOTHING,
    by_command,
    contents,
    event_of,
    fill,
    fill_with_oddities,
    opened,
    place,
    views_of,
)
from tests.cli.terminal import typed
from tests.stand_ins import Exchangeable

PAIRS = list(itertools.product(KINDS, KINDS))
CHAIN = list(zip(KINDS, (*KINDS[1:], KINDS[0]), strict=True))
"""Each kind once as the source, and once as the destination."""


@pytest.fixture(params=CHAIN, ids=" to ".join)
def pair(request: pytest.FixtureRequest, new_url: NewUrl) -> tuple[str, str]:
    """The URLs of two new stores."""
    source, destination = request.param
    return new_url(source), new_url(destination)


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


# ---- between any two stores


@pytest.mark.parametrize("pair", PAIRS, ids=" to ".join, indirect=True)
async def test_everything_arrives_the_same_and_in_the_same_order(
    pair: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    async with opened(*pair) as (source, destination):
        await fill(source, 60)
        await fill_with_oddities(source)
        await fill(source, 60, seed=2)
        log = await log_events(source)
        checkpoint = await place(source, "balances", log[40], epoch=3, views=[("a", b"\0"), ("b", b"2")])
        await place(source, "begun", log[0])
        assert await copy_store(*pair, seal=False) == 0
        assert await contents(destination) == await contents(source)
        await sound_log(destination)
        there = await destination.load_checkpoint("balances")
        assert there is not None
        assert (there.epoch, there.data) == (3, b"\xffdata")
        assert await event_of(destination, there) == await event_of(source, checkpoint)
        assert await views_of(destination, "balances") == {"a": b"\0", "b": b"2"}
        assert [each.name for each in await destination.list_checkpoints()] == ["balances", "begun"]
        said = capsys.readouterr().err
        assert f"{len(log):,} events copied from {source.url} to {destination.url} in" in said
        assert "2 checkpoints copied with 2 views" in said
        assert "snapshots are not copied" in said


async def test_the_same_call_copies_what_is_new_and_nothing_twice(
    pair: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    async with opened(*pair) as (source, destination):
        for seed in (1, 2, 3):
            await fill(source, 40, seed=seed)
            assert await copy_store(*pair, seal=False) == 0
            assert await contents(destination) == await contents(source)
        capsys.readouterr()
        assert await copy_store(*pair, seal=False) == 0
        assert await contents(destination) == await contents(source)
        assert "0 events copied" in capsys.readouterr().err


async def test_a_sealed_store_is_copied_whole_and_can_be_copied_again(
    pair: tuple[str, str], new_url: NewUrl, capsys: pytest.CaptureFixture[str]
) -> None:
    third = new_url("memory")
    async with opened(*pair, third) as (source, destination, other):
        await fill(source, 40)
        await place(source, "balances", (await log_events(source))[-1], views=[("a", b"1")])
        assert await copy_store(*pair, seal=True) == 0
        assert "is sealed and takes no more events: start your programs with" in capsys.readouterr().err
        with pytest.raises(StoreSealedError):
            await source.append("bank_account-x", by_command("late", 1), expected_version=0)
        async with opened(pair[0]) as (again,):
            with pytest.raises(StoreSealedError):
                await again.append("bank_account-x", by_command("later", 1), expected_version=0)
        assert await contents(destination) == await contents(source)
        assert await views_of(destination, "balances") == {"a": b"1"}
        assert await copy_store(*pair, seal=True) == 0
        assert await copy_store(pair[0], third, seal=False) == 0
        assert await contents(other) == await contents(source)
        # The destination is no copy of a seal.
        await destination.append("bank_account-x", by_command("new", 1), expected_version=0)


async def test_what_was_acknowledged_before_a_seal_arrives_once_and_what_was_refused_does_not(
    pair: tuple[str, str],
) -> None:
    async with opened(*pair) as (source, destination):
        await fill(source, 200)
        acknowledged: list[str] = []
        refused: list[str] = []
        is_over = asyncio.Event()

        async def write(stream: str) -> None:
            async with opened(pair[0]) as (own,):
                for number in itertools.count():
                    id = f"{stream}/{number}"
                    try:
                        await own.append(stream, [NewEvent(id, "T", b"{}")], expected_version=number)
                    except StoreSealedError:
                        refused.append(id)
                        return
                    acknowledged.append(id)
                    await growth_of(destination, is_over)

        async with asyncio.TaskGroup() as tasks:
            for number in range(5):
                tasks.create_task(write(f"busy-{number}"))
            assert await copy_store(*pair, seal=True) == 0
            is_over.set()
        log = await log_events(destination)
        assert sorted(e.id for e in log if e.stream.startswith("busy")) == sorted(acknowledged)
        assert len(refused) == 5
        assert await contents(destination) == await contents(source)


async def test_a_source_that_is_written_to_is_copied_up_to_the_head_that_was_seen(
    pair: tuple[str, str],
) -> None:
    async with opened(*pair) as (source, destination):
        await fill(source, 300)
        head = await source.head()
        writing = asyncio.create_task(write_for_ever(source, destination))
        assert await copy_store(*pair, seal=False) == 0
        writing.cancel()
        await asyncio.wait([writing])
        mine, theirs = await contents(destination), await contents(source)
        assert len(mine) >= head.position
        assert mine == theirs[: len(mine)]
        assert await copy_store(*pair, seal=False) == 0
        assert await contents(destination) == await contents(source)


async def test_a_seal_that_was_interrupted_before_the_tail_is_finished_by_the_same_call(
    pair: tuple[str, str],
) -> None:
    async with opened(*pair) as (source, destination):
        await fill(source, 20)
        assert await copy_store(*pair, seal=False) == 0
        await fill(source, 20, seed=2)
        await source.seal()
        assert await copy_store(*pair, seal=True) == 0
        assert await contents(destination) == await contents(source)


async def test_the_app_goes_on_in_the_destination_and_knows_its_commands(pair: tuple[str, str]) -> None:
    async with opened(*pair) as (source, destination):
        async with app.open(source) as bank:
            first = await bank.dispatch(account, "ada", Deposit(100), command_id="d1")
            await bank.dispatch(account, "ada", Deposit(10))
        assert await copy_store(*pair, seal=True) == 0
        async with app.open(destination) as bank:
            assert (await bank.state(account, "ada")).balance == 110
            repeated = await bank.dispatch(account, "ada", Deposit(100), command_id="d1")
            assert (repeated.version, repeated.events) == (first.version, first.events)
            await bank.dispatch(account, "ada", Deposit(1))
            assert (await bank.state(account, "ada")).balance == 111


async def test_a_destination_with_other_events_is_refused_and_nothing_is_written(
    pair: tuple[str, str],
) -> None:
    async with opened(*pair) as (source, destination):
        await fill(source, 5)
        await place(source, "balances", (await log_events(source))[0])
        await destination.append("shop-1", by_command("open", 2), expected_version=0)
        before = await contents(destination)
        with pytest.raises(
            NotACopyError, match=r"neither empty nor the beginning of a copy: .*nothing was written"
        ):
            await copy_store(*pair, seal=True)
        assert await contents(destination) == before
        assert await destination.list_checkpoints() == []
        await source.append("shop-2", by_command("still open", 1), expected_version=0)


async def test_an_empty_store_is_copied_to_an_empty_store(pair: tuple[str, str]) -> None:
    async with opened(*pair) as (_, destination):
        assert await copy_store(*pair, seal=True) == 0
        assert await destination.head() == NOTHING


async def write_for_ever(store: Store, copy: Store) -> None:
    for number in itertools.count():
        await store.append("busy-1", by_command(f"busy {number}", 1), expected_version=number)
        await growth_of(copy, asyncio.Event())


async def growth_of(store: Store, is_over: asyncio.Event) -> None:
    """Return when the store has more events, or none are to come: who writes is then not faster than who copies."""
    head = await store.head()
    either = [asyncio.ensure_future(store.wait(after=head.position)), asyncio.ensure_future(is_over.wait())]
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiting in either:
            waiting.cancel()


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


async def test_a_store_that_changes_the_order_is_found_out(stores: tuple[Store, Store]) -> None:
    source, destination = stores
    for stream in ("a-1", "a-2", "a-3"):
        await source.append(stream, by_command(stream, 1), expected_version=0)
    script = Script()
    script.add("submit", None, Refuse(at_once=True))
    with pytest.raises(NotACopyError, match=r"holds version 1 of a-2 .* holds version 1 of a-3"):
        await copied(source, FaultyStore(destination, script, SystemClock()))


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
    monkeypatch.setattr("rehydrate.cli.moving.logs.PAUSES", (0.0,) * 50)
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
    monkeypatch.setattr("rehydrate.cli.moving.logs.PAUSES", (0.0,) * 6)
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
        with pytest.raises(StoreSealedError):
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
