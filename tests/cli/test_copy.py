"""`rehydrate copy`: the events of any store in any other, the same and in the same order, however often it is called."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from rehydrate import (
    ConfigurationError,
    StoreSealedError,
)
from rehydrate.cli.moving.comparison import NotACopyError
from rehydrate.cli.moving.copy import copy_store
from rehydrate.store.port import (
    NewEvent,
    Store,
)
from rehydrate.testing.conformance.material import log_events, sound_log
from rehydrate.testing.servers.databases import mongo_client
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

PAIRS = list(itertools.product(KINDS, KINDS))
CHAIN = list(zip(KINDS, (*KINDS[1:], KINDS[0]), strict=True))
"""Each kind once as the source, and once as the destination."""


@pytest.fixture(params=CHAIN, ids=" to ".join)
def pair(request: pytest.FixtureRequest, new_url: NewUrl) -> tuple[str, str]:
    """The URLs of two new stores."""
    source, destination = request.param
    return new_url(source), new_url(destination)


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
        seen = len(await contents(source))
        writing = asyncio.create_task(write_for_ever(source, destination))
        assert await copy_store(*pair, seal=False) == 0
        writing.cancel()
        await asyncio.wait([writing])
        mine, theirs = await contents(destination), await contents(source)
        assert len(mine) >= seen
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


async def test_an_empty_store_is_copied_to_an_empty_store_and_said_to_be_one(
    pair: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    async with opened(*pair) as (source, destination):
        assert await copy_store(*pair, seal=False) == 0
        assert await destination.head() == NOTHING
        assert f"{source.url} holds no events: is it the store that you meant?" in capsys.readouterr().err


async def test_an_empty_store_is_not_sealed_for_it_may_be_another_one_than_was_meant(
    pair: tuple[str, str],
) -> None:
    async with opened(*pair) as (source, _):
        with pytest.raises(ConfigurationError, match="holds no events, and was not sealed"):
            await copy_store(*pair, seal=True)
        await fill(source, 1)


async def test_a_copy_back_into_the_sealed_store_seals_nothing(pair: tuple[str, str]) -> None:
    """Both would take no more events, and nobody could go on."""
    async with opened(*pair) as (source, destination):
        await fill(source, 3)
        assert await copy_store(*pair, seal=True) == 0
        for seal in (True, False):
            with pytest.raises(ConfigurationError, match="is sealed itself, and takes no events"):
                await copy_store(pair[1], pair[0], seal=seal)
        await fill(destination, 1, seed=2)


async def test_a_database_of_mongodb_without_a_store_is_no_source_and_gets_no_collections(
    new_url: NewUrl,
) -> None:
    url = new_url("mongodb")
    for arguments in (
        ("copy", url, new_url("sqlite"), "--seal"),
        ("export", url),
        ("streams", "--store", url),
        ("events", "account-1", "--store", url),
        ("verify", "--store", url),
    ):
        ended = await asyncio.to_thread(typed, *arguments)
        assert (ended.code, ended.stdout) == (1, "")
        assert "holds no store, and looking at it must not make one" in ended.stderr
        assert len(ended.stderr.splitlines()) == 1
    with mongo_client(url) as client:
        assert client.get_default_database().list_collection_names() == []


async def test_a_name_on_nats_without_a_store_is_no_source_and_gets_none(new_url: NewUrl) -> None:
    url = new_url("nats")
    for arguments in (
        ("copy", url, new_url("sqlite"), "--seal"),
        ("export", url),
        ("streams", "--store", url),
        ("events", "account-1", "--store", url),
        ("verify", "--store", url),
    ):
        ended = await asyncio.to_thread(typed, *arguments)
        assert (ended.code, ended.stdout) == (1, "")
        assert "holds no store, and looking at it must not make one" in ended.stderr
        assert len(ended.stderr.splitlines()) == 1


async def test_a_database_without_a_store_is_no_source_and_gets_no_tables(new_url: NewUrl) -> None:
    url = new_url("postgresql")
    for arguments in (
        ("copy", url, new_url("sqlite")),
        ("export", url),
        ("streams", "--store", url),
        ("verify", "--store", f"{url}?schema=bank"),
    ):
        ended = await asyncio.to_thread(typed, *arguments)
        assert (ended.code, ended.stdout) == (1, "")
        assert "there is no store in this schema" in ended.stderr
        assert len(ended.stderr.splitlines()) == 1


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
