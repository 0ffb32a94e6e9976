"""A store in one SQLite file, for one machine: durable, with nothing to install, shared by several processes.

sqlite:///bank.db           relative to the directory of the process
sqlite:////var/lib/bank.db  absolute

busy_timeout=5.0    seconds to wait for another process that writes
synchronous=full    a commit is on the disk before it is acknowledged; with `normal` the last ones may be lost
                    when the power fails, though not when the process is killed
readers=2           threads that read
poll=0.05           seconds between two looks for events of other processes, while anybody waits for them
migrate=true        with `false` a file without tables, or with older ones, is refused, and `rehydrate migrate` makes them
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from msgspec import Struct

from rehydrate.clock import Clock
from rehydrate.errors import ConfigurationError, StoreClosedError, StoreError
from rehydrate.fork import FORKED, bind_to_process
from rehydrate.store.end_questions import EndQuestions
from rehydrate.store.group_commit import Group, Outcome
from rehydrate.store.log_watch import LogWatch
from rehydrate.store.port import (
    PAGE_SIZE,
    Appended,
    AppendWaiter,
    Capabilities,
    Checkpoint,
    ExpectedVersion,
    Head,
    LogFilter,
    LogPage,
    NewEvent,
    ReplayPage,
    StoredSnapshot,
    StreamEnd,
    StreamHead,
    StreamPage,
    ViewChange,
    append_and_wait,
    check_save,
)
from rehydrate.store.sqlite import consumers, reader
from rehydrate.store.sqlite.database import SYNCHRONOUS, DatabaseFile, raise_at_open
from rehydrate.store.sqlite.groups import TwoGroups
from rehydrate.store.sqlite.reader import Readers
from rehydrate.store.sqlite.replay import replays
from rehydrate.store.sqlite.schema import SCHEMA_VERSION
from rehydrate.store.sqlite.writer import Writer
from rehydrate.store.together import all_at_once
from rehydrate.store_url import StoreUrl

logger = logging.getLogger(__name__)

T = TypeVar("T")

CAPABILITIES: Final = Capabilities(
    durable=True,
    single_writer=False,
    multi_process=True,
    stopped_writer_holds_lock=True,
    max_append_events=4_096,
    max_append_bytes=16 * 1024 * 1024,
    transaction="sqlite3",
)


async def open_sqlite(url: StoreUrl, clock: Clock) -> SqliteStore:
    """Open `sqlite:///PATH`; the file is created if it is not there."""
    settings = _settings(url)
    store = SqliteStore(url.shown, settings, clock)
    await store.open()
    if settings.file.synchronous != "full":
        logger.warning(
            "%s: with synchronous=%s the last commits may be lost when the power fails",
            settings.file.path,
            settings.file.synchronous,
        )
    return store


async def migrate_sqlite(url: StoreUrl) -> str:
    """Bring the tables of a store up to date, and say what was done.

    Raises:
        ConfigurationError: the file is another program's, or a newer version's; nothing was changed.
        StoreUnavailableError: it cannot be reached or used now; nothing was changed.
    """
    file = _settings(url).file
    try:
        before = file.migrate_tables()
    except sqlite3.Error as error:
        raise_at_open(error, file.path)
    if before == SCHEMA_VERSION:
        return f"it is at schema {before}, as it should be"
    return f"it was brought from schema {before} to {SCHEMA_VERSION}"


class _Settings(Struct, frozen=True):
    file: DatabaseFile
    readers: int
    poll: float


def _settings(url: StoreUrl) -> _Settings:
    file = DatabaseFile(
        _path(url),
        busy_timeout=url.seconds("busy_timeout", default=5.0),
        synchronous=url.choice("synchronous", tuple(SYNCHRONOUS), default="full"),
        migrate=url.choice("migrate", ("true", "false"), default="true") == "true",
    )
    readers = url.number("readers", default=2, at_least=1)
    poll = url.seconds("poll", default=0.05)
    url.refuse_the_rest()
    return _Settings(file, readers, poll)


def _path(url: StoreUrl) -> Path:
    url.refuse_credentials()
    if url.host:
        raise ConfigurationError(
            f"{url.shown} names a host; a file takes three slashes: sqlite:///{url.host}"
        )
    if not url.path or url.path.endswith("/"):
        raise ConfigurationError(f"{url.shown} names no file: sqlite:///bank.db")
    if url.path == ":memory:":
        raise ConfigurationError(
            f"{url.shown} would be gone with its connection: memory:// is a store in memory"
        )
    return Path(url.path).absolute()


class SqliteStore:
    """One opening of a database: a thread that writes, a few that read, and a group commit before them."""

    capabilities = CAPABILITIES

    def __init__(self, url: str, settings: _Settings, clock: Clock) -> None:
        self.url = url
        self._writer = Writer(settings.file, clock.wall, self._completed)
        self._groups = TwoGroups(self._writer.send, commit_time=self._writer.commit_time)
        self._readers = Readers(settings.file, settings.readers)
        self._replays = replays(self._readers)
        self._snapshots = all_at_once(self._load_snapshots, most=8)
        self._ends = EndQuestions(self._writer.ends)
        self._watch = LogWatch(partial(self._readers.read, reader.read_position), settings.poll)
        self._closed: str | None = None
        self._closing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Open or create the database."""
        await self._writer.open()
        bind_to_process(self)

    # ---- appending

    def submit(
        self,
        stream: str,
        events: Sequence[NewEvent],
        expected_version: int,
        waiter: AppendWaiter,
        last_id: str = "",
        last_position: int = 0,
    ) -> Appended | StoreError | None:
        return self._groups.submit(stream, events, expected_version, waiter, last_id, last_position)

    async def append(
        self, stream: str, events: Sequence[NewEvent], *, expected_version: ExpectedVersion
    ) -> Appended:
        return await append_and_wait(self, stream, events, expected_version)

    async def seal(self) -> None:
        self._check_open()
        await self._writer.seal()

    def _completed(self, group: Group, outcomes: Sequence[Outcome]) -> None:
        self._watch.notice(outcomes)
        self._groups.completed(group, outcomes)

    # ---- reading

    async def versions(self, streams: Sequence[str]) -> list[int]:
        return [end.version for end in await self.ends(streams)]

    async def ends(self, streams: Sequence[str]) -> list[StreamEnd]:
        self._check_open()
        return await self._ends.ask(streams)

    async def read_stream(
        self,
        stream: str,
        *,
        after: int = 0,
        limit: int = PAGE_SIZE,
        near: int | None = None,  # noqa: ARG002
        may_lag: bool = False,  # noqa: ARG002
    ) -> StreamPage:
        return await self._read(lambda connection: reader.read_stream(connection, stream, after, limit))

    async def replay(self, stream: str, *, after: int = 0, near: int | None = None) -> ReplayPage:  # noqa: ARG002
        self._check_open()
        return await self._replays.page(stream, after)

    async def read_all(
        self, *, after: int = 0, limit: int = PAGE_SIZE, where: LogFilter | None = None
    ) -> LogPage:
        return await self._read(lambda connection: reader.read_all(connection, after, limit, where))

    async def head(self) -> Head:
        return await self._read(reader.read_head)

    async def wait(self, *, after: int) -> None:
        self._check_open()
        await self._watch.wait(after)

    async def streams(self, *, prefix: str = "", after: str = "", limit: int = PAGE_SIZE) -> list[StreamHead]:
        return await self._read(lambda connection: reader.list_streams(connection, prefix, after, limit))

    # ---- snapshots

    async def save_snapshot(self, snapshot: StoredSnapshot, *, keep: int) -> None:
        await self._change(lambda connection: consumers.save_snapshot(connection, snapshot, keep))

    async def load_snapshot(self, stream: str) -> StoredSnapshot | None:
        self._check_open()
        return await self._snapshots.ask(stream)

    async def _load_snapshots(self, streams: Sequence[str]) -> list[StoredSnapshot | None]:
        return await self._readers.read(
            lambda connection: [consumers.load_snapshot(connection, stream) for stream in streams]
        )

    async def delete_snapshots(self, stream: str) -> None:
        await self._change(lambda connection: consumers.delete_snapshots(connection, stream))

    # ---- checkpoints and views

    async def load_checkpoint(self, name: str) -> Checkpoint | None:
        return await self._read(lambda connection: consumers.load_checkpoint(connection, name))

    async def save_checkpoint(
        self, checkpoint: Checkpoint, *, previous: Checkpoint | None, views: Sequence[ViewChange] = ()
    ) -> bool:
        self._check_open()
        check_save(checkpoint, previous, views)
        return await self._change(
            lambda connection: consumers.save_checkpoint(connection, checkpoint, previous, views)
        )

    async def transact(
        self,
        checkpoint: Checkpoint,
        *,
        previous: Checkpoint | None,
        views: Sequence[ViewChange],
        change: Callable[[sqlite3.Connection], object],
    ) -> bool:
        self._check_open()
        check_save(checkpoint, previous, views)
        return await self._change(
            lambda connection: consumers.transact(connection, checkpoint, previous, views, change)
        )

    async def list_checkpoints(self) -> list[Checkpoint]:
        return await self._read(consumers.list_checkpoints)

    async def reset_checkpoint(self, name: str) -> None:
        await self._change(lambda connection: consumers.reset_checkpoint(connection, name))

    async def remove_checkpoint(self, name: str) -> None:
        await self._change(lambda connection: consumers.remove_checkpoint(connection, name))

    async def load_view(self, name: str, key: str) -> bytes | None:
        return await self._read(lambda connection: consumers.load_view(connection, name, key))

    async def load_views(self, name: str, keys: Sequence[str]) -> dict[str, bytes]:
        return await self._read(lambda connection: consumers.load_views(connection, name, keys))

    async def list_views(
        self, name: str, *, prefix: str = "", after: str = "", limit: int = PAGE_SIZE
    ) -> list[tuple[str, bytes]]:
        return await self._read(
            lambda connection: consumers.list_views(connection, name, prefix, after, limit)
        )

    # ---- closing

    async def close(self) -> None:
        if self._closed == FORKED:
            return
        if self._closing is None:
            self._closed = "it is closed: open it again"
            self._closing = asyncio.create_task(self._close())
        # Shielded: a close, once begun, is finished, also when its caller is cancelled.
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._watch.close()
        await self._groups.close()
        await self._ends.close()
        await self._replays.close()
        await self._snapshots.close()
        # The connections that read go first, so that the writer's is the last one and leaves a single file behind.
        await self._writer.close(first=self._readers.close)

    def forked(self) -> None:
        self._closed = FORKED
        self._groups.abandon(FORKED)
        self._writer.abandon()
        self._readers.abandon()

    def _check_open(self) -> None:
        if self._closed is not None:
            raise StoreClosedError(self._closed)

    async def _read(self, question: Callable[[sqlite3.Connection], T]) -> T:
        self._check_open()
        return await self._readers.read(question)

    async def _change(self, change: Callable[[sqlite3.Connection], T]) -> T:
        self._check_open()
        return await self._writer.change(change)
