"""What can go wrong with a file, done for real: a full disk, a lock that is held, a file that is put in its place."""

import asyncio
import os
import resource
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import cast

import pytest

from rehydrate.errors import (
    CorruptStoreError,
    StoreError,
    StoreUnavailableError,
    VersionConflictError,
)
from rehydrate.store.port import Appended, Checkpoint, NewEvent, Store, StoredSnapshot
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


# ---- a full disk


async def test_a_full_database_stores_nothing_and_says_that_waiting_does_not_help(store: Store) -> None:
    await store.append("account-1", events(3), expected_version=0)
    vars(store)["_writer"]._jobs.put(
        lambda: vars(store)["_writer"]._connection.execute("PRAGMA max_page_count = 30")
    )
    large = event("large", b"x" * 500_000)
    refused = await asyncio.gather(
        *[store.append(f"account-{n}", [event(f"{n}"), large], expected_version=0) for n in range(5, 8)],
        return_exceptions=True,
    )
    for error in refused:
        assert isinstance(error, StoreUnavailableError)
        assert (error.stored, error.retryable) == (False, False)
    assert await log(store) == ["0", "1", "2"]
    assert (await store.append("account-1", events(1, 3), expected_version=3)).position == 4
    assert await log(store) == ["0", "1", "2", "3"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a disk of its own needs the right to mount one")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_stores_nothing_and_the_store_goes_on_when_there_is_room(small_disk: Path) -> None:
    store = await open_store(f"sqlite:///{small_disk}/bank.db")
    acknowledged: list[str] = []
    full: StoreUnavailableError | None = None
    while full is None:
        n = len(acknowledged)
        try:
            await store.append("account-1", [event(f"{n}", b"x" * 20_000)], expected_version=n)
            acknowledged.append(f"{n}")
        except StoreUnavailableError as error:
            full = error
    assert (full.stored, full.retryable) == (False, False)
    assert acknowledged
    assert await log(store) == acknowledged
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    await store.append("account-1", [event("room")], expected_version=len(acknowledged))
    assert await log(store) == [*acknowledged, "room"]
    await store.close()
    assert [found.name for found in small_disk.iterdir()] == ["bank.db"]


# ---- a database that cannot be written


@contextmanager
def without_rights() -> Generator[None, None, None]:
    """Root may write everywhere; so be somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that somebody else can reach; pytest's own cannot be."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    path.chmod(0o755)
    shutil.rmtree(path)


async def test_a_read_only_database_can_be_read_and_an_append_stores_nothing(folder: Path) -> None:
    path = folder / "bank.db"
    keeper = await open_store(f"sqlite:///{path}")  # With it the log of writes is there, and can be read.
    await keeper.append("account-1", events(2), expected_version=0)
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)
    with without_rights():
        store = await open_store(f"sqlite:///{path}")
        assert await log(store) == ["0", "1"]
        error = await unavailable(store, events(1, 2), 2)
        assert (error.stored, error.retryable) == (False, False)
        assert "readonly" in str(error)
        assert await log(store) == ["0", "1"]
        await store.close()
    await keeper.append("account-1", events(1, 2), expected_version=2)
    await keeper.close()


async def test_a_folder_that_cannot_be_written_is_named_and_nothing_is_created(folder: Path) -> None:
    folder.chmod(0o555)
    with (
        without_rights(),
        pytest.raises(StoreUnavailableError, match="may this process write there") as error,
    ):
        await open_store(f"sqlite:///{folder}/bank.db")
    assert (error.value.stored, error.value.retryable) == (False, False)
    assert list(folder.iterdir()) == []


# ---- a disk that fails


async def test_an_error_of_the_disk_in_the_commit_leaves_the_outcome_unknown_and_a_repeat_resolves_it(
    path: Path, store: Store
) -> None:
    await store.append("account-1", events(2), expected_version=0)
    size = path.with_name("bank.db-wal").stat().st_size
    new = [event("new", b"x" * 100_000)]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10_000, limits[1]))
    try:
        error = await unavailable(store, new, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (error.stored, error.retryable) == (None, True)
    for _ in range(2):
        assert await store.append("account-1", new, expected_version=2) == Appended(3, 3)
    assert await log(store) == ["0", "1", "new"]


async def test_a_value_that_cannot_be_stored_meets_its_owner_only(store: Store) -> None:
    bad = NewEvent("bad", "Deposited", cast(bytes, ("no bytes",)))
    appends = [("account-1", event("1")), ("account-2", bad), ("account-3", event("3"))]
    first, refused, third = await asyncio.gather(
        *[store.append(stream, [new], expected_version=0) for stream, new in appends], return_exceptions=True
    )
    assert (first, third) == (Appended(1, 1), Appended(1, 2))
    assert isinstance(refused, StoreError)
    assert not isinstance(refused, StoreUnavailableError)
    assert await log(store) == ["1", "3"]


async def test_a_database_that_is_damaged_says_so(path: Path) -> None:
    store = await open_store(f"sqlite:///{path}")
    await store.append("account-1", [event(f"{n}", b"x" * 3_000) for n in range(200)], expected_version=0)
    await store.close()
    content = bytearray(path.read_bytes())
    content[20 * 4096 : 100 * 4096] = b"\xaa" * (80 * 4096)
    path.write_bytes(content)
    store = await open_store(f"sqlite:///{path}")
    with pytest.raises(CorruptStoreError):
        await store.read_all()
    await store.close()


# ---- a lock that somebody holds


async def test_a_lock_that_is_held_stops_appends_for_the_time_out_and_reads_not_at_all(
    path: Path, store: Store
) -> None:
    await store.append("account-1", events(2), expected_version=0)
    with closing(sqlite3.connect(path, isolation_level=None)) as stranger:
        stranger.execute("BEGIN IMMEDIATE")
        appending = asyncio.create_task(unavailable(store, events(1, 2), 2))
        await asyncio.sleep(0)
        assert await log(store) == ["0", "1"]
        assert await store.versions(["account-1"]) == [2]
        error = await appending
        assert (error.stored, error.retryable) == (False, True)
        assert "locked" in str(error)
        stranger.execute("ROLLBACK")
    assert (await store.append("account-1", events(1, 2), expected_version=2)).version == 3
    assert await log(store) == ["0", "1", "2"]


async def test_versions_are_answered_while_an_append_waits_for_the_lock(path: Path) -> None:
    store = await open_store(f"sqlite:///{path}?busy_timeout=1000")
    with closing(sqlite3.connect(path, isolation_level=None)) as stranger:
        stranger.execute("BEGIN IMMEDIATE")
        appending = asyncio.create_task(store.append("account-1", events(1), expected_version=0))
        await asyncio.sleep(0)
        for _ in range(3):
            assert await store.versions(["account-1"]) == [0]
        assert not appending.done()
        stranger.execute("ROLLBACK")
    assert await appending == Appended(1, 1)
    assert await store.versions(["account-1"]) == [1]
    await store.close()


async def test_what_others_commit_is_known_at_once_also_between_two_appends_of_ours(
    path: Path, store: Store
) -> None:
    other = await open_store(f"sqlite:///{path}")
    for n in range(0, 20, 2):
        await store.append("account-1", events(1, n), expected_version=n)
        assert await other.versions(["account-1", "account-2"]) == [n + 1, 0]
        await other.append("account-1", events(1, n + 1), expected_version=n + 1)
        with pytest.raises(VersionConflictError) as conflict:
            await store.append("account-1", events(1, 100), expected_version=n + 1)
        assert conflict.value.actual == n + 2
    assert await log(store) == [f"{n}" for n in range(20)]
    await other.close()


# ---- what is beside the log


async def test_a_save_that_fails_leaves_checkpoint_snapshot_and_views_as_they_were(
    path: Path, store: Store
) -> None:
    snapshot = StoredSnapshot(
        stream="account-1",
        version=1,
        position=1,
        event_id="0",
        schema=1,
        fingerprint="f",
        data=b"1",
        recorded_at=1,
    )
    place = Checkpoint(name="balances", position=1, event_id="0", epoch=1)
    with closing(sqlite3.connect(path, isolation_level=None)) as stranger:
        stranger.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError):
            await store.save_snapshot(snapshot, keep=1)
        with pytest.raises(StoreUnavailableError):
            await store.save_checkpoint(place, previous=None)
        stranger.execute("ROLLBACK")
    assert await store.load_snapshot("account-1") is None
    assert await store.load_checkpoint("balances") is None
    await store.save_snapshot(snapshot, keep=1)
    assert await store.save_checkpoint(place, previous=None)
    assert await store.load_snapshot("account-1") == snapshot
