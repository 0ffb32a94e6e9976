"""A process that forks while its SQLite stores are busy: `python -m tests.store.forking_process FOLDER FORKS`.

It prints as JSON in how many children a thread of the parent was inside a call of SQLite, and how many of them did not end.
"""

import asyncio
import json
import os
import select
import signal
import sqlite3
import sys
import threading
import warnings
from collections import Counter
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from rehydrate.store.port import Checkpoint, NewEvent
from rehydrate.store.sqlite.log_of_writes import LogOfWrites
from rehydrate.store.sqlite.mover import Mover
from rehydrate.store.sqlite.writer import Writer
from rehydrate.store.url import open_store

CALLERS = 12
ENDS_WITHIN = 10.0
"""Seconds for a child, which needs some milliseconds."""
ONCE_MORE = 8
"""Of so many children one forks, too."""

inside: set[int] = set()
"""Threads that are in a call of SQLite."""
connect = sqlite3.connect


def noted(call: Any) -> Any:
    def noting(self: Any, *arguments: Any) -> Any:
        inside.add(threading.get_ident())
        try:
            return call(self, *arguments)
        finally:
            inside.discard(threading.get_ident())

    return noting


class NotingCursor(sqlite3.Cursor):
    execute = noted(sqlite3.Cursor.execute)
    fetchone = noted(sqlite3.Cursor.fetchone)
    fetchall = noted(sqlite3.Cursor.fetchall)
    __next__ = noted(sqlite3.Cursor.__next__)


class NotingConnection(sqlite3.Connection):
    def cursor(self, factory: Any = NotingCursor) -> Any:
        return super().cursor(factory)

    execute = noted(sqlite3.Connection.execute)
    close = noted(sqlite3.Connection.close)


def work(folder: Path, begun: threading.Event, ended: threading.Event) -> None:
    asyncio.run(be_busy(folder, begun, ended))


async def be_busy(folder: Path, begun: threading.Event, ended: threading.Event) -> None:
    store = await open_store(f"sqlite:///{folder}/bank.db")
    writer: Writer = vars(store)["_writer"]
    mover: Mover = vars(writer)["_mover"]
    log_of_writes: LogOfWrites = vars(mover)["_log_of_writes"]

    async def call(stream: str) -> None:
        place = None
        version = 0
        while not ended.is_set():
            log_of_writes.limit = 30
            event = NewEvent(f"{stream}-{version}", "Noted", b"x" * 500)
            await store.append(stream, [event], expected_version=version)
            version += 1
            await store.replay(stream, after=max(0, version - 10))
            await store.read_all(after=max(0, version - 10))
            await store.versions([stream])
            before, place = place, Checkpoint(name=stream, position=version, event_id="", epoch=1)
            await store.save_checkpoint(place, previous=before)
            if version > 1:
                begun.set()

    async def open_and_close() -> None:
        while not ended.is_set():
            await (await open_store(f"sqlite:///{folder}/other.db")).close()

    await asyncio.gather(*(call(f"notes-{n}") for n in range(CALLERS)), open_and_close())
    await store.close()


def fork(folder: Path, number: int, *, once_more: bool) -> str:
    """Fork, and say what became of the child."""
    ends, child_has = os.pipe()
    child = os.fork()
    if child == 0:
        os._exit(be_child(folder, number, once_more=once_more))
    os.close(child_has)
    if not select.select([ends], [], [], ENDS_WITHIN)[0]:
        os.kill(child, signal.SIGKILL)
    os.close(ends)
    _, status = os.waitpid(child, 0)
    return {0: "ended", signal.SIGKILL: "hung", 2 << 8: "inside"}.get(status, f"status {status}")


def be_child(folder: Path, number: int, *, once_more: bool) -> int:
    was_inside = bool(inside)
    with closing(connect(folder / f"child-{number}.db")) as mine:
        mine.execute("PRAGMA synchronous = OFF")
        mine.execute("CREATE TABLE IF NOT EXISTS notes (note)")
        mine.execute("INSERT INTO notes VALUES (1)")
        mine.commit()
    (folder / f"child-{number}.db").unlink()
    if once_more and fork(folder, number, once_more=False) != ("inside" if was_inside else "ended"):
        return 3
    return 2 if was_inside else 0


def main(folder: Path, forks: int) -> None:
    warnings.simplefilter("ignore", DeprecationWarning)
    sqlite3.connect = partial(connect, factory=NotingConnection)  # type: ignore[assignment]
    begun, ended = threading.Event(), threading.Event()
    busy = threading.Thread(target=work, args=(folder, begun, ended))
    busy.start()
    begun.wait()
    found = Counter(fork(folder, n, once_more=n % ONCE_MORE == 0) for n in range(forks))
    ended.set()
    busy.join()
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
