"""Servers that are set up otherwise than a store needs them, or stricter."""

import asyncio
import os
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from rehydrate.errors import ConfigurationError, StoreUnavailableError
from rehydrate.store.mongodb.log import Log
from rehydrate.store.url import open_store
from rehydrate.testing.clock import settle
from rehydrate.testing.conformance.material import events, fill, sound_log
from rehydrate.testing.plugin import REQUIRE_SERVERS
from rehydrate.testing.servers import ServerNotFoundError
from rehydrate.testing.servers.folder import ServerFolder
from rehydrate.testing.servers.found import find_mongod
from rehydrate.testing.servers.process import ServerProcess, start_on_free_port, wait_until

PASSWORD = "s3cret"


class Mongod:
    """One server, started with these arguments, and again with others."""

    def __init__(self, folder: ServerFolder) -> None:
        self.folder = folder
        self.port = 0
        self._program = folder.runnable(find_mongod()).folder / "mongod"
        self._data = folder.new("mongod")
        self._process = ServerProcess(
            folder.watch,
            folder.account,
            log=folder.new("mongod-log") / "log",
            stop_signal=signal.SIGTERM,
            end_signal=signal.SIGKILL,
        )

    def start(self, *arguments: str | Path) -> None:
        command = [
            self._program,
            *("--bind_ip", "127.0.0.1", "--nounixsocket", "--dbpath", self._data),
            *("--wiredTigerCacheSizeGB", "0.25", "--setParameter", "diagnosticDataCollectionEnabled=false"),
            *arguments,
        ]

        def start(port: int) -> None:
            self._process.start([*command, "--port", str(port)], is_ready=lambda: self._answers(port))

        if self.port:
            start(self.port)
        else:
            self.port = start_on_free_port(start, self._process)

    def stop(self) -> None:
        self._process.stop()

    def client(self, user: str = "") -> MongoClient[dict[str, Any]]:
        who = f"{user}:{PASSWORD}@" if user else ""
        return MongoClient(
            f"mongodb://{who}127.0.0.1:{self.port}/?directConnection=true", serverSelectionTimeoutMS=10_000
        )

    def _answers(self, port: int) -> bool:
        with MongoClient[dict[str, Any]](
            f"mongodb://127.0.0.1:{port}/?directConnection=true", serverSelectionTimeoutMS=200
        ) as client:
            try:
                client.admin.command("hello")
            except PyMongoError:
                return False
            return True


@contextmanager
def _mongod() -> Generator[Mongod]:
    """One that nobody else has."""
    folder = ServerFolder()
    try:
        started = Mongod(folder)
    except ServerNotFoundError as missing:
        folder.close()
        if os.environ.get(REQUIRE_SERVERS, "") not in {"", "0"}:
            pytest.fail(f"{missing} ({REQUIRE_SERVERS} is set)", pytrace=False)
        pytest.skip(f"only a server of yours: {missing}")
    try:
        yield started
    finally:
        started.stop()
        folder.close()


@pytest.fixture
def mongod(mongodb_url: str) -> Iterator[Mongod]:
    """Of the test's own; where there is no server for `mongodb_url`, there is none for this."""
    assert mongodb_url
    with _mongod() as mongod:
        yield mongod


@pytest.fixture(scope="module")
def guarded() -> Iterator[Mongod]:
    """A replica set that asks for passwords, with a user for each of a few roles."""
    with _mongod() as mongod:
        _guard(mongod)
        yield mongod


def _guard(mongod: Mongod) -> None:
    mongod.start("--replSet", "rs0")
    with mongod.client() as client:
        member = {"_id": 0, "host": f"127.0.0.1:{mongod.port}"}
        client.admin.command("replSetInitiate", {"_id": "rs0", "members": [member]})
        wait_until(lambda: bool(client.admin.command("hello").get("isWritablePrimary")))
        bank = client["bank"]
        others = [
            {"resource": {"db": "bank", "collection": ""}, "actions": ["listCollections", "createIndex"]}
        ]
        others += [
            {
                "resource": {"db": "bank", "collection": name},
                "actions": ["find", "insert", "update", "remove"],
            }
            for name in ("snapshots", "checkpoints", "views", "savers", "meta")
        ]
        events = {
            "resource": {"db": "bank", "collection": "events"},
            "actions": ["find", "insert", "listIndexes", "changeStream"],
        }
        bank.command("createRole", "appender", privileges=[events, *others], roles=[])
        for user, role in (("owner", "readWrite"), ("appender", "appender"), ("reader", "read")):
            bank.command("createUser", user, pwd=PASSWORD, roles=[role])
    mongod.stop()
    key = mongod.folder.write(mongod.folder.path / "key", "a" * 32)
    mongod.start("--replSet", "rs0", "--auth", "--keyFile", key)


def url_of(mongod: Mongod, user: str) -> str:
    return (
        f"mongodb://{user}:{PASSWORD}@127.0.0.1:{mongod.port}/bank?replicaSet=rs0&authSource=bank&timeout=5"
    )


async def test_a_standalone_server_is_refused_and_told_how_to_start_a_replica_set(mongod: Mongod) -> None:
    await asyncio.to_thread(mongod.start)
    with pytest.raises(
        ConfigurationError, match=r"start mongod with --replSet rs0 and run rs\.initiate\(\) once"
    ):
        await open_store(f"mongodb://127.0.0.1:{mongod.port}/bank")
    with mongod.client() as client:
        assert "bank" not in client.list_database_names()


async def test_a_replica_set_that_was_never_begun_is_told_how_to_begin_it(mongod: Mongod) -> None:
    await asyncio.to_thread(mongod.start, "--replSet", "rs0")
    for options in ("timeout=1", "timeout=1&replicaSet=rs0"):
        with pytest.raises(StoreUnavailableError, match=r"was never begun: run rs\.initiate\(\) once"):
            await open_store(f"mongodb://127.0.0.1:{mongod.port}/bank?{options}")


async def test_a_user_without_rights_to_write_is_told_which_role_he_needs(guarded: Mongod) -> None:
    with pytest.raises(
        ConfigurationError, match="the user needs the role readWrite on this database"
    ) as refused:
        await open_store(url_of(guarded, "reader"))
    assert PASSWORD not in str(refused.value)
    with pytest.raises(ConfigurationError, match="requires authentication"):
        await open_store(f"mongodb://127.0.0.1:{guarded.port}/bank?replicaSet=rs0&timeout=5")


async def test_a_user_who_may_only_find_and_insert_events_appends_beside_others(guarded: Mongod) -> None:
    """For him the database refuses to change and to remove events."""
    owner = await open_store(url_of(guarded, "owner"))
    await fill(owner, "account-1", 3)
    stores = [owner, *[await open_store(url_of(guarded, "appender")) for _ in range(2)]]
    writing = [fill(store, f"account-{n}", 30) for n, store in enumerate(stores, 2)]
    await asyncio.gather(*writing)
    assert await owner.versions([f"account-{n}" for n in range(1, 5)]) == [3, 30, 30, 30]
    assert len(await sound_log(stores[1])) == 93
    logs: list[Log] = [vars(store)["_log"] for store in stores[1:]]
    assert not all(vars(log).get("_may_update") for log in logs), "they got into each other's way"
    assert (await stores[1].append("account-1", events(1), expected_version=3)).version == 4
    waiting = await open_store(f"{url_of(guarded, 'appender')}&poll=60")
    end = (await owner.head()).position
    woken = asyncio.create_task(waiting.wait(after=end))
    await settle()
    await fill(owner, "account-1", 1)
    async with asyncio.timeout(10):
        await woken
    for store in (*stores, waiting):
        await store.close()

    def change(database: Any) -> list[Callable[[], object]]:
        return [
            lambda: database["events"].update_one({"_id": 1}, {"$set": {"version": 2}}),
            lambda: database["events"].delete_one({"_id": 1}),
            database["events"].drop,
        ]

    with MongoClient[dict[str, Any]](url_of(guarded, "appender").replace("&timeout=5", "")) as client:
        for refused in change(client["bank"]):
            with pytest.raises(OperationFailure, match="not authorized"):
                refused()
