"""A process that forks while its threads are inside SQLite, whose own locks a child would never get."""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import warnings
from contextlib import closing
from pathlib import Path

import pytest

from rehydrate.store.port import Checkpoint, NewEvent
from rehydrate.store.sqlite import SqliteStore
from rehydrate.store.sqlite.writer import Writer
from rehydrate.store.url import open_store
from rehydrate.testing.clock import until

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")


@pytest.mark.parametrize("forks", [30, pytest.param(2_000, marks=pytest.mark.slow)])
def test_a_fork_never_falls_into_a_call_of_sqlite_and_the_child_can_use_it(
    forks: int, tmp_path: Path
) -> None:
    program = [sys.executable, "-m", "tests.store.forking_process", str(tmp_path), str(forks)]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=300, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout) == {"ended": forks}
    with closing(sqlite3.connect(tmp_path / "bank.db")) as anybody:
        assert anybody.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def fork_and_write(path: Path) -> int:
    """How a child ends that writes to a database of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            with closing(sqlite3.connect(path)) as mine:
                mine.execute("CREATE TABLE notes (note)")
        except BaseException:  # noqa: BLE001 - it must not go on as a second pytest
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


async def test_a_handler_may_fork_inside_its_transaction(tmp_path: Path) -> None:
    store = await open_store(f"sqlite:///{tmp_path}/bank.db")
    ended: list[int] = []

    def change(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE mine (note)")
        ended.append(fork_and_write(tmp_path / "child.db"))
        connection.execute("INSERT INTO mine VALUES (1)")

    assert isinstance(store, SqliteStore)
    place = Checkpoint(name="notes", position=0, event_id="", epoch=1)
    assert await store.transact(place, previous=None, views=(), change=change)
    assert ended == [0]
    assert await store.load_checkpoint("notes") == place
    await store.close()


async def test_a_fork_does_not_wait_for_a_lock_of_another_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = await open_store(f"sqlite:///{tmp_path}/bank.db?busy_timeout=60")
    with closing(sqlite3.connect(tmp_path / "bank.db", isolation_level=None)) as another:
        another.execute("BEGIN IMMEDIATE")
        append = asyncio.create_task(
            store.append("notes-1", [NewEvent("1", "Noted", b"")], expected_version=0)
        )
        writer: Writer = vars(store)["_writer"]
        await until(lambda: vars(writer)["_begun"] == 1)
        assert [fork_and_write(tmp_path / f"child-{n}.db") for n in range(3)] == [0, 0, 0]
        another.execute("COMMIT")
    assert (await append).version == 1
    await store.close()
    assert caplog.messages == []
