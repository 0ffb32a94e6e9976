"""What only the MongoDB store does: its URL, its collections, its fences."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from pymongo import MongoClient

from rehydrate.errors import (
    ConfigurationError,
    StoreSealedError,
    StoreUnavailableError,
    VersionConflictError,
)
from rehydrate.store.mongodb import opening
from rehydrate.store.mongodb.log import Log
from rehydrate.store.port import Appended, LogFilter, NewEvent, Store, ViewChange
from rehydrate.store.url import open_store
from rehydrate.testing.clock import settle
from rehydrate.testing.conformance.checkpoints import checkpoint
from rehydrate.testing.conformance.material import events, fill, ids, log_events, sound_log
from rehydrate.testing.conformance.snapshots import snapshot
from rehydrate.testing.proxy import Proxy
from rehydrate.testing.servers import MongoServer

MIB = 1024 * 1024
LARGEST_DOCUMENT = 16 * MIB


@pytest.fixture
async def store(mongodb_url: str) -> AsyncIterator[Store]:
    store = await open_store(mongodb_url)
    yield store
    await store.close()


def with_parameter(url: str, parameter: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{parameter}"


async def refusal(url: str) -> str:
    with pytest.raises(ConfigurationError) as refused:
        await open_store(url)
    return str(refused.value)


def database_of(client: MongoClient[dict[str, Any]]) -> Any:
    return client.get_default_database()


# ---- the URL


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mongodb:///bank", "names no host"),
        ("mongodb://localhost", "names no database"),
        ("mongodb://localhost/", "names no database"),
        ("mongodb://localhost/a.b", "names no database"),
        ("mongodb://localhost/bank?replicaset=rs0", "there is no parameter 'replicaset' (there is: appName,"),
        ("mongodb://localhost/bank?readPreference=secondary", "there is no parameter 'readPreference'"),
        ("mongodb://localhost/bank?w=1", "w='1' must be one of majority"),
        ("mongodb://localhost/bank?prefix=a.b", "prefix='a.b' must be letters, digits and '_'"),
        ("mongodb://localhost/bank?timeout=0", "timeout='0' must be a number of seconds above 0"),
        ("mongodb://localhost/bank?tls=maybe", "tls must be"),
        ("mongodb://localhost/bank?tls=true&tlsCAFile=/none.pem", "tlscafile file is not readable"),
        ("mongodb://localhost:0x/bank", "localhost"),
        ("mongodb+srv://cluster0.invalid/bank?timeout=1", "DNS"),
        ("mongodb+srv://cluster0.invalid:1/bank", "must not include a port number"),
    ],
)
async def test_a_url_that_cannot_be_one_is_refused_with_one_sentence(url: str, said: str) -> None:
    sentence = await refusal(url)
    assert said in sentence
    assert sentence.startswith("mongodb")
    assert "\n" not in sentence


async def test_what_a_hosted_mongodb_writes_into_its_urls_is_taken(mongodb_url: str) -> None:
    store = await open_store(with_parameter(mongodb_url, "retryWrites=true&w=majority&appName=Cluster0"))
    assert (await fill(store, "account-1", 2))[-1].version == 2
    await store.close()


async def test_a_server_that_is_not_there_is_unavailable_and_soon() -> None:
    begun = time.monotonic()
    with pytest.raises(StoreUnavailableError) as refused:
        await open_store("mongodb://ada:secret@127.0.0.1:1/bank?timeout=0.2")
    assert time.monotonic() - begun < 3
    said = (
        "mongodb://127.0.0.1:1/bank cannot be reached: no primary answered in time (127.0.0.1:1: [Errno 111]"
    )
    assert str(refused.value).startswith(said)
    assert refused.value.retryable


async def test_a_server_of_another_replica_set_is_named(mongodb_url: str) -> None:
    place = urlsplit(mongodb_url)
    with pytest.raises(StoreUnavailableError, match="none of these hosts is a member of the replica set"):
        await open_store(f"mongodb://{place.netloc}/bank?replicaSet=another&timeout=0.5")


async def test_a_wrong_password_is_said_and_never_shown(
    mongodb_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    place = urlsplit(mongodb_url)
    with MongoClient[dict[str, Any]](mongodb_url) as client:
        database_of(client).command("createUser", "ada", pwd="right-s3cret", roles=["readWrite"])
    url = f"mongodb://ada:%s@{place.netloc}{place.path}?{place.query}&authSource={place.path[1:]}"
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ConfigurationError, match="MongoDB does not let this user in") as refused:
        await open_store(url % "wr0ng-s3cret")
    store = await open_store(url % "right-s3cret")
    await fill(store, "account-1", 1)
    shown = [caplog.text, repr(refused.value), repr(store), store.url]
    for part in cast(list[object], list(vars(store).values())):
        shown += [repr(part), repr(getattr(part, "__dict__", ""))]
    assert not [text for text in shown if "s3cret" in text]
    await store.close()


# ---- the server


def test_a_standalone_server_is_told_how_to_become_a_replica_set() -> None:
    with pytest.raises(ConfigurationError) as refused:
        opening.check_server({"isWritablePrimary": True, "maxWireVersion": 17}, "mongodb://host/bank")
    assert str(refused.value) == (
        "mongodb://host/bank is a standalone server, and must be a replica set: start mongod with --replSet rs0 and "
        "run rs.initiate() once in mongosh; one member is enough"
    )


def test_a_sharded_cluster_and_an_old_server_are_refused() -> None:
    with pytest.raises(
        ConfigurationError, match="is a sharded cluster, on which events have no common order"
    ):
        opening.check_server({"msg": "isdbgrid", "maxWireVersion": 21}, "mongodb://host/bank")
    old = {"setName": "rs0", "isWritablePrimary": True, "maxWireVersion": 13}
    with pytest.raises(ConfigurationError, match=r"is older than MongoDB 6\.0: upgrade it"):
        opening.check_server(old, "mongodb://host/bank")
    with pytest.raises(StoreUnavailableError, match="is no primary now"):
        opening.check_server({**old, "isWritablePrimary": False}, "mongodb://host/bank")


# ---- the database


async def test_a_store_of_a_newer_rehydrate_is_refused_and_left_alone(mongodb_url: str) -> None:
    await (await open_store(mongodb_url)).close()
    with MongoClient[dict[str, Any]](mongodb_url) as client:
        database = database_of(client)
        database["meta"].update_one({"_id": "schema"}, {"$set": {"version": 2}})
        database["views"].drop()
        assert "was written by a newer Rehydrate (schema 2, this one knows 1)" in await refusal(mongodb_url)
        assert "views" not in database.list_collection_names()


@pytest.mark.parametrize("name", ["events", "snapshots", "checkpoints", "views", "savers", "meta"])
async def test_a_database_of_another_program_is_refused_and_left_alone(mongodb_url: str, name: str) -> None:
    """An index of ours would refuse what it inserts from now on."""
    with MongoClient[dict[str, Any]](mongodb_url) as client:
        database = database_of(client)
        database[name].insert_many([{"what": "theirs"}, {"what": "theirs, too"}])
        assert f"holds a collection {name} of another program" in await refusal(mongodb_url)
        assert database.list_collection_names() == [name]
        assert len(list(database[name].list_indexes())) == 1
    store = await open_store(with_parameter(mongodb_url, "prefix=bank_"))
    await fill(store, "account-1", 1)
    await store.close()


async def test_who_opens_while_another_one_makes_the_store_and_appends_takes_it_for_a_store(
    mongodb_url: str,
) -> None:
    async with Proxy(mongodb_url) as proxy:
        held = proxy.hold("find", where=lambda message: b"meta" not in message.data)
        opening_late = asyncio.create_task(open_store(proxy.url))
        await held.reached()
        faster = await open_store(mongodb_url)
        await fill(faster, "account-1", 1)
        held.release()
        late = await opening_late
        assert await fill(late, "account-1", 1) == [Appended(2, 2)]
        await late.close()
        await faster.close()


async def test_stores_with_different_prefixes_share_a_database_and_nothing_else(mongodb_url: str) -> None:
    stores = [await open_store(with_parameter(mongodb_url, f"prefix={name}_")) for name in ("a", "b")]
    for n, store in enumerate(stores, 1):
        await fill(store, "account-1", n)
        await store.save_checkpoint(checkpoint("balances", n), previous=None, views=[ViewChange("ada", b"")])
        await store.save_snapshot(snapshot("account-1", n), keep=1)
    for n, store in enumerate(stores, 1):
        assert len(await sound_log(store)) == n
        assert await store.load_checkpoint("balances") == checkpoint("balances", n)
        await store.close()
    with MongoClient[dict[str, Any]](mongodb_url) as client:
        assert {name[:2] for name in database_of(client).list_collection_names()} == {"a_", "b_"}


async def test_an_index_that_is_missing_is_made_again(mongodb_url: str) -> None:
    await (await open_store(mongodb_url)).close()
    with MongoClient[dict[str, Any]](mongodb_url) as client:
        database = database_of(client)
        for name in ("events", "views", "snapshots"):
            database[name].drop_indexes()
        await (await open_store(mongodb_url)).close()
        for name in ("events", "views", "snapshots"):
            assert len(list(database[name].list_indexes())) == 2


async def test_a_collection_that_is_dropped_under_an_open_store_is_not_made_anew(
    store: Store, mongodb_url: str
) -> None:
    """Positions would begin at 1 again, behind every reader."""
    await fill(store, "account-1", 3)
    with MongoClient[dict[str, Any]](mongodb_url) as client:
        database_of(client)["events"].drop()
        for stream, expected in (("account-1", 3), ("account-2", 0)):
            with pytest.raises(StoreUnavailableError, match="its collection events is gone") as refused:
                await store.append(stream, events(1), expected_version=expected)
            assert refused.value.stored is False
        assert "events" not in database_of(client).list_collection_names()


async def test_without_its_index_nothing_is_appended_until_it_is_there_again(
    store: Store, mongodb_url: str
) -> None:
    """As in the middle of a restore, which makes indexes last."""
    await fill(store, "account-1", 3)
    with MongoClient[dict[str, Any]](mongodb_url) as client:
        database = database_of(client)
        documents = list(database["events"].find())
        database["events"].drop()
        database["events"].insert_many(documents)
        with pytest.raises(StoreUnavailableError, match="without its index on stream, version") as refused:
            await store.append("account-1", events(1), expected_version=3)
        assert (refused.value.stored, refused.value.retryable) == (False, True)
        database["events"].create_index({"stream": 1, "version": 1}, unique=True)
    assert (await store.append("account-1", events(1), expected_version=3)).version == 4


async def test_a_document_shows_what_it_is(store: Store, mongodb_url: str) -> None:
    new = [NewEvent("a", "Opened", b"1", b"2"), NewEvent("b", "Deposited", b"3", b"4", recorded_at=5)]
    await store.append("account-ada", new, expected_version=0)
    with MongoClient[dict[str, Any]](mongodb_url) as client:
        (found,) = database_of(client)["events"].find()
    assert found.pop("recorded_at") > 1_700_000_000_000_000
    assert found == {
        "_id": 1,
        "stream": "account-ada",
        "version": 1,
        "count": 2,
        "events": [
            {"id": "a", "type": "Opened", "data": b"1", "metadata": b"2"},
            {"id": "b", "type": "Deposited", "data": b"3", "metadata": b"4", "recorded_at": 5},
        ],
    }


# ---- waiting


async def test_a_change_stream_wakes_whoever_waits_for_another_process(mongodb_url: str) -> None:
    """It would look by itself only after a minute."""
    store = await open_store(with_parameter(mongodb_url, "poll=60"))
    other = await open_store(mongodb_url)
    for n in range(3):
        waiting = asyncio.create_task(store.wait(after=n))
        await settle()
        await fill(other, "account-1", 1)
        async with asyncio.timeout(10):
            await waiting
    await store.close()
    await other.close()


# ---- the seal


async def test_the_seal_is_no_event_and_stands_where_the_next_one_would(
    store: Store, mongodb_url: str
) -> None:
    await fill(store, "account-1", 3)
    await store.seal()
    with MongoClient[dict[str, Any]](mongodb_url) as client:
        seal = database_of(client)["events"].find_one({"_id": 4})
    assert seal is not None
    assert (seal["stream"], seal["events"]) == ("\0sealed", [])
    for where in (
        None,
        LogFilter(aggregates=frozenset({"account"})),
        LogFilter(types=frozenset({"Happened"})),
    ):
        for limit in (1, 3, 4, 100):
            assert len(await log_events(store, limit=limit, where=where)) == 3
    assert (await store.head()).position == 3
    with pytest.raises(StoreSealedError):
        await store.append("account-1", events(1), expected_version=3)


# ---- what is known, and when it holds no more


async def test_a_server_that_was_set_back_while_this_process_stood_still_is_noticed_before_anything_is_sent(
    start_mongodb: Callable[..., MongoServer],
) -> None:
    """Nobody in this process has had a turn since: neither the driver, which would have seen connections break."""
    server = start_mongodb()
    url = server.fresh_url()
    store = await open_store(url)
    await fill(store, "account-1", 3)
    server.stop()
    saved = server.save_data()
    server.start()
    await fill(store, "account-1", 4)
    await fill(store, "account-2", 2)
    server.stop()
    server.restore_data(saved)
    server.start()
    with pytest.raises(VersionConflictError) as conflict:
        await store.append("account-1", events(1), expected_version=7)
    assert conflict.value.actual == 3
    assert await store.append("account-2", events(2), expected_version=0) == Appended(2, 5)
    assert len(await sound_log(store)) == 5
    await store.close()


async def test_a_server_that_is_killed_and_started_again_is_written_to_again(
    start_mongodb: Callable[..., MongoServer],
) -> None:
    server = start_mongodb()
    store = await open_store(server.fresh_url())
    new = [events(2) for _ in range(3)]
    for n in range(3):
        assert (await store.append("account-1", new[n], expected_version=2 * n)).version == 2 * n + 2
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
    assert ids(await sound_log(store)) == [one.id for some in new for one in some]
    await store.close()


async def test_nothing_is_put_behind_what_was_rolled_back(
    store: Store, mongodb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would leave a hole, which somebody fills later, behind a reader that has passed it."""
    await fill(store, "account-1", 3)
    other = await open_store(mongodb_url)
    await fill(other, "account-2", 2)
    followed = 0
    follow = Log._follow  # pyright: ignore[reportPrivateUsage]

    with MongoClient[dict[str, Any]](mongodb_url) as client:

        async def follow_and_roll_back(log: Log, known: Any) -> None:
            nonlocal followed
            await follow(log, known)
            followed += 1
            if followed == 1:
                assert known.position == 5
                database_of(client)["events"].delete_one({"_id": 5})

        monkeypatch.setattr(Log, "_follow", follow_and_roll_back)
        assert await store.append("account-3", events(2), expected_version=0) == Appended(2, 6)
    assert followed == 1
    assert [one.position for one in await log_events(store)] == [1, 2, 3, 4, 5, 6]
    await other.close()


async def test_of_writers_that_append_without_a_pause_each_gets_its_turn(mongodb_url: str) -> None:
    """Whoever was first is at an advantage: he knows where the log ends before the others do."""
    stores = [await open_store(mongodb_url) for _ in range(3)]
    done = [0, 0, 0]

    async def write(me: int) -> None:
        while min(done) < 20:
            async with asyncio.timeout(5):
                await stores[me].append(f"account-{me}", events(1), expected_version=done[me])
            done[me] += 1

    await asyncio.gather(*[write(me) for me in range(3)])
    assert len(await sound_log(stores[0])) == sum(done)
    for store in stores:
        await store.close()


# ---- transactions of the dead


async def test_a_transaction_that_a_dead_consumer_left_open_is_ended_within_seconds(
    store: Store, mongodb_url: str
) -> None:
    place = checkpoint("balances", 1)
    assert await store.save_checkpoint(place, previous=None, views=[ViewChange("ada", b"1")])
    with MongoClient[dict[str, Any]](mongodb_url) as dead:
        database = database_of(dead)
        session = dead.start_session()
        database["savers"].update_one(
            {"_id": "balances"}, {"$push": {"sessions": session.session_id["id"]}}, upsert=True
        )
        for views in ([ViewChange("ada", b"2")], []):
            session.start_transaction()
            database["checkpoints"].update_one({"_id": "balances"}, {"$set": {"epoch": 9}}, session=session)
            begun = time.monotonic()
            moved = checkpoint("balances", place.position + 1)
            assert await store.save_checkpoint(moved, previous=place, views=views)
            assert time.monotonic() - begun < 5
            assert await store.load_checkpoint("balances") == moved
            place = moved
            with pytest.raises(Exception, match=r"has been aborted|was aborted|given transaction number"):
                session.commit_transaction()
        session.end_session()


async def test_the_transaction_of_a_stranger_holds_a_place_until_the_time_out_and_no_longer(
    mongodb_url: str,
) -> None:
    store = await open_store(with_parameter(mongodb_url, "timeout=1.5"))
    place = checkpoint("balances", 1)
    assert await store.save_checkpoint(place, previous=None)
    with MongoClient[dict[str, Any]](mongodb_url) as stranger, stranger.start_session() as session:
        session.start_transaction()
        database_of(stranger)["checkpoints"].update_one(
            {"_id": "balances"}, {"$set": {"epoch": 9}}, session=session
        )
        with pytest.raises(StoreUnavailableError) as refused:
            await store.save_checkpoint(
                checkpoint("balances", 2), previous=place, views=[ViewChange("ada", b"2")]
            )
        assert refused.value.retryable
        await fill(store, "account-1", 2)
        session.abort_transaction()
    assert await store.save_checkpoint(
        checkpoint("balances", 2), previous=place, views=[ViewChange("ada", b"2")]
    )
    await store.close()
