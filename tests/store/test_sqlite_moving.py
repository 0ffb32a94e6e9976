"""SQLite's log of writes: when it is moved into the database, and that commits go on while it is."""

import asyncio
import logging
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from rehydrate.errors import StoreUnavailableError
from rehydrate.store.port import NewEvent
from rehydrate.store.sqlite import SqliteStore, log_of_writes
from rehydrate.store.sqlite.database import DatabaseFile
from rehydrate.store.sqlite.log import Log
from rehydrate.store.sqlite.log_of_writes import (
    FEWEST_PAGES,
    LONG_MOVE,
    MOST_PAGES,
    TOO_MANY_PAGES,
    LogOfWrites,
)
from rehydrate.store.sqlite.mover import Mover
from rehydrate.store.sqlite.writer import Writer
from rehydrate.store.url import open_store
from rehydrate.testing.clock import until

# ---- when it is time


def move(log: LogOfWrites, *, since: float, took: float, appends: int = 64, pages: int = 64) -> None:
    """Move a log that has grown for so long."""
    began = vars(log)["_ended"] + since
    log.grew(0, appends)
    log.moving(began)
    log.had(pages, 0)
    log.moved(began + took)
    log.begins_anew()


def test_the_log_of_writes_gets_longer_while_moving_it_takes_much_of_the_time() -> None:
    log = LogOfWrites()
    for _ in range(3):
        move(log, since=0.02, took=0.004)
    assert log.limit == FEWEST_PAGES * 8
    move(log, since=1.0, took=0.004)
    assert log.limit == FEWEST_PAGES * 8
    for _ in range(10):
        move(log, since=0.02, took=0.004)
    assert log.limit == MOST_PAGES


def test_on_a_slow_disk_it_stays_short() -> None:
    log = LogOfWrites()
    move(log, since=0.02, took=0.004)
    move(log, since=0.02, took=LONG_MOVE / 2)
    assert log.limit == FEWEST_PAGES * 2
    move(log, since=0.02, took=LONG_MOVE * 2)
    assert log.limit == FEWEST_PAGES


def test_how_long_it_is_is_learnt_from_how_long_it_was() -> None:
    log = LogOfWrites()
    log.grew(0, FEWEST_PAGES // 3 + 1)
    assert log.is_long()
    log.begins_anew()
    move(log, since=1.0, took=0.001, appends=100, pages=50)
    log.grew(0, FEWEST_PAGES)
    assert not log.is_long()
    log.grew(0, FEWEST_PAGES)
    assert log.is_long()
    log.begins_anew()
    log.grew(FEWEST_PAGES * 4_096, 1)
    assert log.is_long(), "large events fill it"
    assert not log.is_too_long()
    log.grew(TOO_MANY_PAGES * 4_096, 1)
    assert log.is_too_long()


def test_what_is_committed_while_it_is_moved_says_nothing_of_how_long_it_was() -> None:
    log = LogOfWrites()
    log.grew(0, 1_000)
    log.moving(1.0)
    log.grew(0, 1_000_000)
    log.had(1_000, 0)
    log.moved(1.001)
    log.begins_anew()
    log.grew(0, FEWEST_PAGES)
    assert log.is_long()


def test_a_log_that_began_anew_meanwhile_says_nothing_but_that_it_was_longer_than_was_thought() -> None:
    log = LogOfWrites()
    for beginnings, pages in enumerate((1_000, 100, 100)):
        log.grew(0, 1_000)
        log.moving(1.0)
        log.had(pages, beginnings)
        log.begins_anew()
    log.grew(0, FEWEST_PAGES * 9)
    assert not log.is_long(), "a tenth of a page for each append"
    for beginnings in (4, 6, 8, 10):
        log.had(10, beginnings)
    assert log.is_long()


# ---- beside the commits

PAGES = 40
"""After so many pages the log is moved, here."""


class Opened:
    """A store whose log of writes is soon long, and a mover that can be stopped before its next look at it."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        writer: Writer = vars(store)["_writer"]
        self.mover: Mover = vars(writer)["_mover"]
        self.log: LogOfWrites = vars(self.mover)["_log_of_writes"]
        self.log.limit = PAGES
        self.may_pass = threading.Event()
        self.may_pass.set()
        self.passes = 0
        self.lengths: list[int] = []
        self.appended = 0
        move_rest: Callable[[], Any] = vars(Mover)["_move_rest"].__get__(self.mover)

        def wait_and_move() -> Any:
            self.passes += 1
            self.may_pass.wait()
            self.log.limit = PAGES
            passed = move_rest()
            self.lengths.append(passed.pages)
            return passed

        vars(self.mover)["_move_rest"] = wait_and_move

    async def append(self, size: int = 4_096) -> None:
        event = NewEvent(f"{self.appended}", "Noted", b"x" * size)
        await self.store.append("notes-1", [event], expected_version=self.appended)
        self.appended += 1

    async def append_until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await self.append()

    async def is_whole(self) -> None:
        found = [stored.id async for stored in _events(self.store)]
        assert found == [f"{n}" for n in range(self.appended)]


async def _events(store: SqliteStore) -> AsyncIterator[Any]:
    after, is_last = 0, False
    while not is_last:
        page = await store.read_stream("notes-1", after=after)
        for stored in page.events:
            yield stored
        after, is_last = after + len(page.events), page.is_last


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "moved.db"


@pytest.fixture
async def opened(path: Path) -> AsyncIterator[Opened]:
    path.parent.mkdir()
    opened = await open_sqlite(path)
    yield opened
    opened.may_pass.set()
    await opened.store.close()


def log_size(opened: Opened) -> int:
    path = Path(opened.store.url.removeprefix("sqlite://").partition("?")[0])
    return path.with_name(f"{path.name}-wal").stat().st_size


async def open_sqlite(path: Path) -> Opened:
    store = await open_store(f"sqlite:///{path}?busy_timeout=0.05")
    assert isinstance(store, SqliteStore)
    return Opened(store)


async def test_the_log_of_writes_is_moved_again_and_again_and_begins_anew(path: Path, opened: Opened) -> None:
    await opened.append_until(lambda: opened.passes >= 60)
    assert max(opened.lengths) < FEWEST_PAGES * 2
    await opened.is_whole()
    await opened.store.close()
    assert [found.name for found in path.parent.iterdir()] == [path.name]
    with closing(sqlite3.connect(path)) as anybody:
        assert anybody.execute("SELECT count(*) FROM events").fetchone() == (opened.appended,)
        assert anybody.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_commits_go_on_while_it_is_moved_until_it_is_too_long(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_of_writes, "TOO_MANY_PAGES", 3 * PAGES)
    opened.may_pass.clear()
    await opened.append_until(lambda: opened.passes == 1)
    while not opened.log.is_too_long():
        await opened.append()
    waits = asyncio.create_task(opened.append())
    for _ in range(3):
        assert (await opened.store.head()).position == opened.appended
    assert not waits.done()
    opened.may_pass.set()
    await waits
    await opened.append_until(lambda: opened.passes >= 10)
    await opened.is_whole()


async def test_what_cannot_be_moved_is_said_and_tried_again(
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    move_rest = vars(opened.mover)["_move_rest"]

    def fail() -> Any:
        opened.passes += 1
        raise sqlite3.OperationalError("disk I/O error")

    vars(opened.mover)["_move_rest"] = fail
    await opened.append_until(lambda: opened.passes >= 20)
    assert caplog.text.count("the log of writes could not be moved: disk I/O error") == 1
    assert log_size(opened) < 10 * PAGES * 4_096, "its writer moves it instead"
    vars(opened.mover)["_move_rest"] = move_rest
    await opened.append_until(lambda: len(opened.lengths) >= 4)
    await opened.is_whole()


async def test_a_wrong_idea_of_how_long_it_is_is_mended(opened: Opened) -> None:
    """As after a long read of another program, behind which the log was moved by a commit."""
    writer: Writer = vars(opened.store)["_writer"]
    vars(writer)["_connection"].execute("PRAGMA wal_autocheckpoint = 60")
    vars(opened.log)["_pages_per_append"] = 1 / 64
    await opened.append_until(lambda: vars(opened.log)["_pages_per_append"] > 1)
    await opened.is_whole()


async def test_what_moves_opens_the_database_once(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    opens: list[str] = []
    connect: Callable[..., Any] = sqlite3.connect

    def count(*arguments: Any, **options: Any) -> Any:
        opens.append(threading.current_thread().name)
        return connect(*arguments, **options)

    monkeypatch.setattr(sqlite3, "connect", count)
    await opened.append_until(lambda: opened.passes >= 20)
    assert len([name for name in opens if name.startswith("rehydrate moves")]) == 1


async def test_a_file_that_was_away_for_a_moment_is_moved_into_again(path: Path, opened: Opened) -> None:
    opened.may_pass.clear()
    await opened.append_until(lambda: opened.passes == 1)
    away = path.parent.with_name("away")
    path.parent.rename(away)
    opened.may_pass.set()
    await until(lambda: not opened.mover.is_moving())
    with pytest.raises(StoreUnavailableError, match="is gone"):
        await opened.append()
    away.rename(path.parent)
    await opened.append_until(lambda: len(opened.lengths) >= 10)
    another = await open_store(opened.store.url)
    assert await another.versions(["notes-1"]) == [opened.appended]
    await another.close()
    await opened.is_whole()


async def test_another_file_is_noticed_while_the_log_of_writes_of_the_old_one_is_moved(
    path: Path, opened: Opened
) -> None:
    await opened.append()
    copy = path.with_name("copy.db")
    with closing(sqlite3.connect(path)) as now, closing(sqlite3.connect(copy)) as then:
        now.backup(then)
    opened.may_pass.clear()
    await opened.append_until(lambda: opened.passes == 1)
    subprocess.run(["rm", f"{path}-wal", f"{path}-shm"], check=True)
    subprocess.run(["mv", str(copy), str(path)], check=True)
    opened.may_pass.set()
    opened.appended = 1
    await opened.append_until(lambda: opened.appended == 4 * PAGES)
    await opened.is_whole()
    with closing(sqlite3.connect(path)) as anybody:
        assert anybody.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_a_copy_over_the_file_is_noticed_after_it_was_moved(path: Path, opened: Opened) -> None:
    await opened.append()
    with closing(sqlite3.connect(path)) as now, closing(sqlite3.connect(path.with_name("copy.db"))) as then:
        now.backup(then)
    await opened.append_until(lambda: opened.passes >= 4)
    await until(lambda: not opened.mover.is_moving())
    with closing(sqlite3.connect(path)) as anybody:
        anybody.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    subprocess.run(["cp", str(path.with_name("copy.db")), str(path)], check=True)
    assert await opened.store.versions(["notes-1"]) == [1]
    opened.appended = 1
    await opened.append()
    await opened.is_whole()


async def test_what_the_writer_knows_stays_known_while_it_is_moved(opened: Opened) -> None:
    """What moves writes to the file, as a stranger would, of whom nothing could be known."""
    await opened.append()
    writer: Writer = vars(opened.store)["_writer"]
    log: Log = vars(writer)["_log"]
    looks = 0
    find: Callable[..., Any] = vars(Log)["_find"].__get__(log)

    def count(*arguments: Any) -> Any:
        nonlocal looks
        looks += 1
        return find(*arguments)

    vars(log)["_find"] = count
    await opened.append_until(lambda: opened.passes >= 20)
    assert looks == 0


async def test_a_move_looks_once_at_the_header_of_the_log_of_writes(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes_at_looks: list[int] = []
    beginnings = DatabaseFile.beginnings

    def count(file: DatabaseFile) -> int:
        passes_at_looks.append(opened.passes)
        return beginnings(file)

    monkeypatch.setattr(DatabaseFile, "beginnings", count)
    await opened.append_until(lambda: len(passes_at_looks) == 5)
    assert all(later - earlier >= 2 for earlier, later in pairwise([0, *passes_at_looks]))


async def test_a_close_finishes_a_move_and_leaves_a_single_file(path: Path, opened: Opened) -> None:
    opened.may_pass.clear()
    await opened.append_until(lambda: opened.passes == 1)
    closing_it = asyncio.create_task(opened.store.close())
    await asyncio.sleep(0)
    opened.may_pass.set()
    await closing_it
    assert [found.name for found in path.parent.iterdir()] == [path.name]
    assert not [thread for thread in threading.enumerate() if re.search(path.name, thread.name)]


async def test_nothing_is_said_of_what_is_gone_when_its_store_is_closed(
    path: Path, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    await opened.append()
    shutil.rmtree(path.parent)
    with caplog.at_level(logging.WARNING):
        await opened.store.close()
    assert caplog.text == ""


async def test_who_goes_on_with_what_is_gone_hears_it(path: Path, opened: Opened) -> None:
    opened.may_pass.clear()
    await opened.append_until(lambda: opened.passes == 1)
    shutil.rmtree(path.parent)
    opened.may_pass.set()
    with pytest.raises(StoreUnavailableError, match="is gone"):
        await opened.append()


FORKED = """
import asyncio, os, sys, threading
from rehydrate.store.port import NewEvent
from rehydrate.store.url import open_store

loop = asyncio.new_event_loop()
store = loop.run_until_complete(open_store(sys.argv[1]))
mover = vars(vars(store)["_writer"])["_mover"]
move_rest = mover._move_rest
looks, goes_on = threading.Event(), threading.Event()

def wait_and_move():
    looks.set()
    goes_on.wait()
    return move_rest()

def append(n):
    event = NewEvent(f"{n}", "Noted", b"x" * 3_000)
    loop.run_until_complete(store.append("notes-1", [event], expected_version=n))

vars(mover)["_move_rest"] = wait_and_move
vars(mover)["_log_of_writes"].limit = 30
n = 0
while not looks.is_set():
    append(n)
    n += 1
child = os.fork()
if child == 0:
    sys.exit(0)     # With all that an interpreter does at its end.
assert os.waitpid(child, 0)[1] == 0
goes_on.set()
for n in range(n, 300):
    append(n)
loop.run_until_complete(store.close())
loop.close()
"""


async def test_a_fork_in_the_middle_of_moving_disturbs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "bank.db"
    program = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED, f"sqlite:///{path}"]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    with closing(sqlite3.connect(path)) as anybody:
        assert anybody.execute("SELECT count(*) FROM events").fetchone() == (300,)
        assert anybody.execute("PRAGMA integrity_check").fetchone() == ("ok",)


KILLED = """
import asyncio, sys
from rehydrate.store.port import NewEvent
from rehydrate.store.url import open_store

async def main(url):
    store = await open_store(url)
    vars(vars(vars(store)["_writer"])["_mover"])["_log_of_writes"].limit = 30
    async def one(stream):
        for n in range(1_000_000):
            await store.append(stream, [NewEvent(f"{n}", "Noted", b"x" * 2_000)], expected_version=n)
            print(stream, n + 1, flush=True)
    await asyncio.gather(*[one(f"notes-{n}") for n in range(40)])

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(params=[300, 1_000, 2_500])
def killed(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, int]]:
    """A database of which a process was killed that moved its log of writes all the time, and what it had acknowledged."""
    path = tmp_path / "bank.db"
    acknowledged: dict[str, int] = {}
    program = [sys.executable, "-c", KILLED, f"sqlite:///{path}"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for number, line in enumerate(process.stdout):
            if number == request.param:
                process.kill()
            if line.endswith("\n"):
                stream, version = line.split()
                acknowledged[stream] = int(version)
    return path, acknowledged


async def test_what_was_acknowledged_is_there_after_a_kill_in_the_middle_of_moving(
    killed: tuple[Path, dict[str, int]],
) -> None:
    path, acknowledged = killed
    with closing(sqlite3.connect(path)) as anybody:
        assert anybody.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    store = await open_store(f"sqlite:///{path}")
    found = await store.versions(list(acknowledged))
    assert all(there >= version for there, version in zip(found, acknowledged.values(), strict=True))
    await store.close()
