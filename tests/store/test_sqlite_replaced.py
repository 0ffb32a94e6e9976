"""A file that is put in the place of an open database, and a process that forks: SQLite alone would lose events."""

import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from rehydrate.errors import (
    ConfigurationError,
    StoreUnavailableError,
    VersionConflictError,
)
from rehydrate.store.port import Appended, NewEvent, Store
from rehydrate.store.sqlite.database import FORKED
from rehydrate.store.url import open_store


def event(id: str, data: bytes = b"{}") -> NewEvent:
    return NewEvent(id, "Deposited", data)


def events(count: int, start: int = 0) -> list[NewEvent]:
    return [event(f"{start + n}") for n in range(count)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bank.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    store = await open_store(f"sqlite:///{path}?busy_timeout=0.05")
    yield store
    await store.close()


async def log(store: Store) -> list[str]:
    """The ids of all events; versions and positions must be without gaps."""
    page = await store.read_all()
    assert page.is_last
    assert [stored.position for stored in page.events] == list(range(1, len(page.events) + 1))
    versions: dict[str, int] = {}
    for stored in page.events:
        versions[stored.stream] = versions.get(stored.stream, 0) + 1
        assert stored.version == versions[stored.stream]
    assert await store.versions(list(versions)) == list(versions.values())
    return [stored.id for stored in page.events]


async def unavailable(store: Store, new: list[NewEvent], expected_version: int) -> StoreUnavailableError:
    with pytest.raises(StoreUnavailableError) as error:
        await store.append("account-1", new, expected_version=expected_version)
    return error.value


# ---- a file that is put in the place of the database


async def older_copy(store: Store, path: Path) -> Path:
    """A store with events 0 to 4, and a copy of it from when it had 0 and 1, both with all in the one file."""
    await store.append("account-1", events(2), expected_version=0)
    copy = path.with_name("copy.db")
    with closing(sqlite3.connect(path)) as now, closing(sqlite3.connect(copy)) as then:
        now.backup(then)
    await store.append("account-1", events(3, 2), expected_version=2)
    assert await log(store) == ["0", "1", "2", "3", "4"]
    return copy


def shell(*command: object) -> None:
    """In another process: one that opens and closes the file drops the locks of all its own connections."""
    subprocess.run([str(word) for word in command], check=True)


async def assert_restored(store: Store) -> None:
    assert await store.versions(["account-1"]) == [2]
    with pytest.raises(VersionConflictError) as conflict:
        await store.append("account-1", events(1, 5), expected_version=5)
    assert conflict.value.actual == 2
    assert await log(store) == ["0", "1"]
    assert await store.append("account-1", events(1, 5), expected_version=2) == Appended(3, 3)
    assert await log(store) == ["0", "1", "5"]
    another = await open_store(store.url)
    assert await log(another) == ["0", "1", "5"]
    await another.close()


async def test_another_file_at_the_same_path_is_noticed(path: Path, store: Store) -> None:
    copy = await older_copy(store, path)
    shell("rm", f"{path}-wal", f"{path}-shm")
    shell("mv", copy, path)
    await assert_restored(store)


async def test_another_file_at_the_same_path_is_noticed_by_an_append(path: Path, store: Store) -> None:
    copy = await older_copy(store, path)
    shell("rm", f"{path}-wal", f"{path}-shm")
    shell("mv", copy, path)
    assert await store.append("account-1", events(1, 5), expected_version=2) == Appended(3, 3)
    assert await log(store) == ["0", "1", "5"]


READ = """
import asyncio, sys
from rehydrate.store.url import open_store

async def main(url):
    store = await open_store(url)
    print(*[stored.id for stored in (await store.read_all()).events])
    await store.close()

asyncio.run(main(*sys.argv[1:]))
"""


def read_elsewhere(path: Path) -> str:
    command = [sys.executable, "-c", READ, f"sqlite:///{path}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("overwritten", [True, False], ids=["copied over", "the same"])
async def test_a_store_without_its_log_of_writes_refuses_everything_and_leaves_the_file_alone(
    path: Path, overwritten: bool
) -> None:
    """What it would write then, nobody would find again."""
    store = await open_store(f"sqlite:///{path}")
    copy = await older_copy(store, path)
    with closing(sqlite3.connect(path)) as anybody:
        anybody.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    await store.append("account-1", events(1, 5), expected_version=5)
    shell("rm", f"{path}-wal", f"{path}-shm")
    if overwritten:
        shell("cp", copy, path)
    error = await unavailable(store, events(1, 6), 6)
    assert (error.stored, error.retryable) == (False, False)
    assert "start the process again" in str(error)
    with pytest.raises(StoreUnavailableError):
        await store.versions(["account-1"])
    with pytest.raises(StoreUnavailableError):
        await store.read_all()
    await store.close()
    with pytest.raises(ConfigurationError, match="start the process again"):
        await open_store(f"sqlite:///{path}")
    assert read_elsewhere(path) == ("0 1\n" if overwritten else "0 1 2 3 4\n")


async def test_another_file_beside_the_old_log_of_writes_is_refused_until_that_is_removed(
    path: Path, store: Store
) -> None:
    copy = await older_copy(store, path)
    shell("mv", copy, path)
    error = await unavailable(store, events(1, 5), 5)
    assert (error.stored, error.retryable) == (False, True)
    assert "remove them" in str(error)
    with pytest.raises(StoreUnavailableError):
        await store.read_all()
    shell("rm", f"{path}-wal", f"{path}-shm")
    await assert_restored(store)


async def test_a_copy_over_the_file_is_noticed_when_the_log_of_writes_was_empty(
    path: Path, store: Store
) -> None:
    copy = await older_copy(store, path)
    with closing(sqlite3.connect(path)) as anybody:
        assert anybody.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
    assert await log(store) == ["0", "1", "2", "3", "4"]
    shell("cp", copy, path)
    await assert_restored(store)


async def test_a_database_that_is_taken_away_is_not_replaced_by_an_empty_one(
    path: Path, store: Store
) -> None:
    await store.append("account-1", events(2), expected_version=0)
    away = path.with_name("away")
    away.mkdir()
    for file in path.parent.glob("bank.db*"):
        file.rename(away / file.name)
    error = await unavailable(store, events(1, 2), 2)
    assert (error.stored, error.retryable) == (False, True)
    assert "is gone" in str(error)
    with pytest.raises(StoreUnavailableError):
        await store.versions(["account-1"])
    with pytest.raises(StoreUnavailableError):
        await store.read_all()
    assert list(path.parent.glob("bank.db*")) == []
    for file in away.iterdir():
        file.rename(path.with_name(file.name))
    assert (await store.append("account-1", events(1, 2), expected_version=2)).position == 3
    assert await log(store) == ["0", "1", "2"]


async def test_a_stranger_who_moves_the_log_of_writes_disturbs_nothing(path: Path, store: Store) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as stranger:
        for n in range(10):
            await store.append("account-1", events(1, n), expected_version=n)
            stranger.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            assert await store.versions(["account-1"]) == [n + 1]
    assert await log(store) == [f"{n}" for n in range(10)]


# ---- a process that forks

FORK = """
import asyncio, os, sys
from rehydrate.errors import ConfigurationError, StoreClosedError
from rehydrate.store.port import NewEvent
from rehydrate.store.url import open_store

path = sys.argv[1]
loop = asyncio.new_event_loop()
run = loop.run_until_complete

def in_child(work):
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        asyncio.run(work())
        sys.exit(0)     # With all that an interpreter does at its end.
    assert os.waitpid(child, 0)[1] == 0

async def refused():
    try:
        await store.head()
    except StoreClosedError as error:
        print(error)
    try:
        await open_store(f"sqlite:///{path}")
    except ConfigurationError as error:
        print(str(error).replace(path, "PATH"))
    await welcome(path + ".other")

async def welcome(path):
    mine = await open_store(f"sqlite:///{path}")
    print(await mine.append("child-1", [NewEvent("child", "Born", b"")], expected_version=0))
    await mine.close()

store = run(open_store(f"sqlite:///{path}"))
run(store.append("account-1", [NewEvent("1", "Opened", b"")], expected_version=0))
run(store.head())
in_child(refused)
print(run(store.append("account-1", [NewEvent("2", "Closed", b"")], expected_version=1)))
run(store.close())
in_child(lambda: welcome(path))
loop.close()
"""


def test_a_forked_child_cannot_open_what_its_parent_has_open(path: Path) -> None:
    """SQLite would take the locks of the parent for its own, and lose what the child commits."""
    # From Python 3.12 on, each fork of a process with threads is warned of.
    program = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, str(path)]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == [
        "it belongs to the process that this one was forked from: open one after the fork",
        f"PATH {FORKED}",
        "Appended(version=1, position=1)",
        "Appended(version=2, position=2)",
        "Appended(version=1, position=3)",
    ]
