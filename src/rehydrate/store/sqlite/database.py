"""The file: how it is opened, how it is recognised, and what its errors mean."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from rehydrate.errors import (
    ConfigurationError,
    CorruptStoreError,
    InvalidIdError,
    StoreError,
    StoreUnavailableError,
)
from rehydrate.fork import no_fork
from rehydrate.store.sqlite import schema
from rehydrate.store.sqlite.migration import bring_up_to_date, check_schema, schema_of

logger = logging.getLogger(__name__)

SYNCHRONOUS: Final = {"full": 2, "normal": 1}
"""What a commit waits for, by its word in the URL, as SQLite reads it back."""

MAX_LOG_PAGES: Final = 16_000
"""Of so many pages, 64 MiB, the log of writes is moved into the database by the commit itself."""
BUSY_STEP: Final = 20
"""Milliseconds for which SQLite waits for a lock in one go on the connection that writes."""
_BUSY_PAUSE: Final = 0.005
"""Seconds between two attempts where SQLite itself does not wait for a lock."""

_OPENINGS: Final = 3
_BEGINNINGS: Final = slice(12, 16)
"""Of the header of the log of writes, its "checkpoint sequence number"."""

_OF_AN_APPEND: Final = frozenset(
    {
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_MISUSE,
        sqlite3.SQLITE_RANGE,
    }
)
_CORRUPT: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_WAITING_DOES_NOT_HELP: Final = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}
)
_ROLLED_BACK: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_READONLY})
"""A transaction that ends with one of these, also in its commit, stored nothing, and the connection is as before."""


class Identity(msgspec.Struct, frozen=True):
    """By what a file is recognised: another one may have been put in its place under our hands."""

    database: tuple[int, int]
    """Device and inode."""
    log: tuple[int, int]
    """The inodes of the log of writes and of its index; 0 for one that is not there."""
    written: tuple[int, int]
    """When the database itself was last written, and its size: changed by a checkpoint, or by a stranger."""

    def is_of_same(self, other: Identity) -> bool:
        """Whether both are of one database with one log of writes, whoever has written to it meanwhile."""
        return self.database == other.database and self.log == other.log


_lost: dict[tuple[int, int], str] = {}
"""Databases that this process cannot open any more, by device and inode, and why."""


class DatabaseFile(msgspec.Struct, frozen=True):
    """A database at a path, and how to open it."""

    path: Path
    """Absolute."""
    busy_timeout: float
    synchronous: str
    migrate: bool = True
    """Whether tables that are not there, or are of an older version, are made."""

    def identity(self) -> Identity:
        """What stands at the path now."""
        try:
            database = os.stat(self.path)  # noqa: PTH116 - twice as fast, and in the way of every commit
        except FileNotFoundError:
            raise StoreUnavailableError(f"{self.path} is gone, from under a store that is open") from None
        except OSError as error:
            raise StoreUnavailableError(f"{self.path}: {error.strerror}") from error
        return Identity(
            (database.st_dev, database.st_ino),
            (_inode(f"{self.path}-wal"), _inode(f"{self.path}-shm")),
            (database.st_mtime_ns, database.st_size),
        )

    def is_replaced(self, then: Identity, now: Identity) -> bool:
        """Whether the path leads to another database than it did, with a log of writes of its own.

        Raises `StoreUnavailableError` if only one of them is another: together they would be no database.
        """
        if now.database == then.database:
            if now.log == then.log:
                return False
            raise StoreUnavailableError(
                f"{self.path}-wal or -shm was taken from under an open store: start the process again",
                retryable=False,
            )
        if any(new == old != 0 for new, old in zip(now.log, then.log, strict=True)):
            raise StoreUnavailableError(
                f"{self.path} was replaced, and beside it still are the -wal and -shm of the old one: remove them"
            )
        return True

    def beginnings(self) -> int:
        """How often the log of writes has begun anew, as its header says; 0 if it has none.

        Source: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
        """
        try:
            with open(f"{self.path}-wal", "rb", buffering=0) as log:  # noqa: PTH123
                return int.from_bytes(log.read(_BEGINNINGS.stop)[_BEGINNINGS], "big")
        except OSError:
            return 0

    def is_there(self) -> bool:
        """Whether anything stands at the path."""
        return os.path.lexists(self.path)

    def close(self, connection: sqlite3.Connection, identity: Identity) -> None:
        """Close a connection, unless what it has open is not what stands at the path."""
        try:
            replaced = self.is_replaced(identity, self.identity())
        except StoreUnavailableError:
            replaced = True
        if replaced:
            keep_for_ever(connection, identity, REPLACED)
            return
        try:
            with no_fork():
                connection.close()
        except sqlite3.Error:
            logger.debug("%s: a connection could not be closed", self.path, exc_info=True)

    def create(self) -> tuple[sqlite3.Connection, Identity]:
        """A connection for writing, at the first time: the database is created if there is none."""
        self._check_place()
        if not (self.migrate or self.is_there()):
            check_schema(0, self.path)
        return self._open("rwc")

    def migrate_tables(self) -> int:
        """Make the tables, or bring those of an older version up to date; the version that was there, or 0."""
        self._check_place()
        with no_fork(), closing(self._handle("rwc")) as connection:
            version = schema_of(connection, self.path)
            if version == schema.SCHEMA_VERSION:
                return version  # Without the lock, which a process that stands still may hold.
            _use_log_of_writes(connection, self)
            return bring_up_to_date(connection, self.path)

    def open_writer(self) -> tuple[sqlite3.Connection, Identity]:
        """A connection for writing to the database that must be there."""
        return self._open_again("rw")

    def open_reader(self) -> tuple[sqlite3.Connection, Identity]:
        """A connection that can only read."""
        return self._open_again("ro")

    def _check_place(self) -> None:
        try:
            kind, has_parent = _kind(self.path), self.path.parent.is_dir()
        except OSError as error:  # The name is too long, or on the way there is what we may not enter.
            raise ConfigurationError(f"{self.path} cannot be opened: {error.strerror}") from error
        if kind == stat.S_IFDIR:
            raise ConfigurationError(f"{self.path} is a directory, and must be a file")
        if kind not in {None, stat.S_IFREG}:
            raise ConfigurationError(f"{self.path} is a pipe, a socket or a device, and must be a file")
        if not has_parent:
            raise ConfigurationError(f"there is no directory {self.path.parent}: make it first")

    def _open_again(self, mode: str) -> tuple[sqlite3.Connection, Identity]:
        try:
            return self._open(mode)
        except ConfigurationError as error:
            # It was the right one when the store was opened, and may be again.
            raise StoreUnavailableError(f"{self.path} was replaced: {error}") from error

    def _open(self, mode: str) -> tuple[sqlite3.Connection, Identity]:
        for _ in range(_OPENINGS):
            there = _place(self.path)
            if there in _lost:
                raise ConfigurationError(f"{self.path} {_lost[there]}")
            with no_fork():
                connection, identity = self._connect(mode)
                # A file can change its inode when it is first opened for writing: in a container, over its image.
                if there in {None, identity.database}:
                    return connection, identity
                connection.close()
        raise StoreUnavailableError(f"{self.path} was replaced while it was being opened")

    def _handle(self, mode: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{self.path.as_uri()}?mode={mode}",
            uri=True,
            timeout=self.busy_timeout,
            isolation_level=None,
            check_same_thread=False,
        )

    def _connect(self, mode: str) -> tuple[sqlite3.Connection, Identity]:
        connection = self._handle(mode)
        try:
            if mode == "ro":
                check_schema(schema_of(connection, self.path), self.path)
            else:
                _prepare(connection, self, create=mode == "rwc")
            return connection, self.identity()
        except BaseException:
            connection.close()
            raise


def _kind(path: Path) -> int | None:
    """What stands there, None for nothing."""
    try:
        return stat.S_IFMT(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _place(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino  # noqa: PTH116
    except OSError:
        return 0


def _prepare(connection: sqlite3.Connection, file: DatabaseFile, *, create: bool) -> None:
    version = schema_of(connection, file.path)
    if version == 0 and not create:
        raise StoreUnavailableError(f"{file.path} was emptied, under a store that is open")
    if not file.migrate:
        check_schema(version, file.path)
    _use_log_of_writes(connection, file)
    synchronous = SYNCHRONOUS[file.synchronous]
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    if connection.execute("PRAGMA synchronous").fetchone() != (synchronous,):
        raise ConfigurationError(f"{file.path}: SQLite does not take synchronous={file.synchronous}")
    # On macOS an ordinary fsync does not reach the disk; elsewhere these two say nothing.
    connection.execute(f"PRAGMA fullfsync = {int(file.synchronous == 'full')}")
    connection.execute(f"PRAGMA checkpoint_fullfsync = {int(file.synchronous == 'full')}")
    # It is done earlier, and beside the commits.
    connection.execute(f"PRAGMA wal_autocheckpoint = {MAX_LOG_PAGES}")
    if version != schema.SCHEMA_VERSION:
        bring_up_to_date(connection, file.path)
    _forget_statistics(connection)
    # From now on it is the writer thread that waits for locks, and answers questions meanwhile.
    connection.execute(f"PRAGMA busy_timeout = {BUSY_STEP}")


def _forget_statistics(connection: sqlite3.Connection) -> None:
    """Of a log that was small when somebody had it analysed, SQLite would look at all events, instead of one, for ever."""
    (there,) = connection.execute(schema.HAS_STATISTICS).fetchone()
    if there and connection.execute(schema.COUNT_STATISTICS).fetchone() != (0,):
        connection.execute(schema.FORGET_STATISTICS)
        connection.execute(schema.READ_STATISTICS)


def _use_log_of_writes(connection: sqlite3.Connection, file: DatabaseFile) -> None:
    """Set WAL mode. SQLite does not always wait for the lock that this needs, so that others may create it, too."""
    give_up = time.monotonic() + file.busy_timeout
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            break
        except sqlite3.OperationalError as error:
            if code_of(error) != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
        no_fork().let_fork()
        time.sleep(_BUSY_PAUSE)
    # Where it was another mode, as in a copy by VACUUM INTO, the next statement makes the log of writes.
    connection.execute(schema.HAS_TABLES).fetchone()
    if mode != "wal":
        raise ConfigurationError(f"{file.path}: SQLite cannot keep a log of writes (WAL) there, but {mode!r}")


def code_of(error: sqlite3.Error) -> int:
    """SQLite's own primary code, 0 for an error of Python's module."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def is_of_an_append(error: sqlite3.Error) -> bool:
    """Whether the cause may be what was to be stored, rather than where."""
    code = code_of(error)
    return code == 0 or code in _OF_AN_APPEND


def is_of_the_connection(error: sqlite3.Error) -> bool:
    """Whether it is safer to go on with another connection."""
    return code_of(error) not in _ROLLED_BACK


def as_store_error(error: sqlite3.Error, path: Path, *, committing: bool = False) -> StoreError:
    """What an error of SQLite means. `committing`: it came out of the commit, which may have been done."""
    code = code_of(error)
    if code == sqlite3.SQLITE_BUSY:
        return StoreUnavailableError(f"{path} is locked by another process")
    if str(error).removeprefix("no such table: ") in schema.ADDED_TABLES:
        reason = f"{path} was replaced by one of an older Rehydrate: run `rehydrate migrate --store URL`"
        return StoreUnavailableError(reason, stored=False)
    reason = f"{path}: {error}"
    if code in _CORRUPT:
        return CorruptStoreError(f"{reason}; nothing was stored")
    stored = None if committing and code not in _ROLLED_BACK else False
    return StoreUnavailableError(reason, stored=stored, retryable=code not in _WAITING_DOES_NOT_HELP)


def not_a_name(error: UnicodeEncodeError) -> InvalidIdError:
    """What SQLite cannot be asked for, because nothing can be called that."""
    return InvalidIdError("name", f"it is not text, but {error.object!r}")


def raise_at_open(error: sqlite3.Error, path: Path) -> NoReturn:
    """Raise what an error of SQLite means to whoever opens a store."""
    if code_of(error) == sqlite3.SQLITE_NOTADB:
        raise ConfigurationError(f"{path} is not an SQLite database: choose another file") from error
    if code_of(error) == sqlite3.SQLITE_CANTOPEN:
        reason = f"{path} cannot be opened: {error}; may this process write there?"
        raise StoreUnavailableError(reason, retryable=False) from error
    if code_of(error) == sqlite3.SQLITE_READONLY:
        reason = (
            f"{path} or its folder cannot be written to by this process, and a store writes there even to be read: "
            "copy the file to a folder where it can"
        )
        raise StoreUnavailableError(reason, retryable=False) from error
    raise as_store_error(error, path) from error


def keep_for_ever(connection: sqlite3.Connection, identity: Identity, why: str) -> None:
    """Make a connection survive unclosed until the process ends, and its database one that cannot be opened again.

    Closing the last connection moves the log of writes into the database and deletes it. That must not happen to
    files that were taken from under us, nor in a forked child, which shares the files and does not hold the locks.
    And whatever is opened later in this process shares SQLite's own memory of what it has opened.
    """
    import ctypes

    _lost[identity.database] = why
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


REPLACED: Final = "was replaced under an open store: start the process again"
FORKED: Final = (
    "was open in the process that this one was forked from, and SQLite cannot open it here without damage: open stores "
    "after the fork, or start new processes instead"
)
