"""Moving the log of writes (WAL) into the database beside the writer, in a thread with a connection of its own.

SQLite lets a checkpoint run while somebody else commits. But it begins a log anew, and waits for the disk to have what
was moved, only where all of it was moved: and with one commit after the other there is always some more. So first what
is there is moved while the writer goes on, which leaves little. Then the writer pauses until that is moved, too, but
not until the disk has it, which is what takes long. And what was committed while the disk was at it is little again: that
the writer moves itself.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar

import msgspec

from rehydrate.errors import StoreUnavailableError
from rehydrate.fork import no_fork
from rehydrate.store.sqlite import schema
from rehydrate.store.sqlite.database import FORKED, DatabaseFile, Identity, keep_for_ever
from rehydrate.store.sqlite.log_of_writes import LogOfWrites

logger = logging.getLogger(__name__)

T = TypeVar("T")

HEAD_START: Final = 0.0015
"""Seconds for which nobody commits, so that what is left can be moved and the disk be asked to keep it."""
_FEW_PAGES: Final = 300
"""What is moved before that takes, at most."""
_MOST_PASSES: Final = 4
_LONG_PASS: Final = 0.004
"""Seconds: where moving so few pages took longer, it was the disk that was waited for."""


class _Passed(msgspec.Struct, frozen=True):
    """What became of a part of a move."""

    pages: int
    """How long the log of writes was; 0 if somebody else moves it, or if it is not ours any more."""
    identity: Identity
    """Of the file, right after it."""
    beginnings: int = 0
    """How often this log of writes has begun anew, as it says itself; counted on by SQLite in 32 bits."""
    is_kept: bool = False
    """Whether the disk has what was moved, as far as the time tells that it took."""


class Mover:
    """Moves when it is time. All but what its thread does is called by the writer, between two commits."""

    def __init__(self, file: DatabaseFile, hand_out: Callable[[], None]) -> None:
        self._file = file
        self._hand_out = hand_out
        self._log_of_writes = LogOfWrites()
        self._threads = ThreadPoolExecutor(1, thread_name_prefix=f"rehydrate moves {file.path.name}")
        self._part: Future[_Passed] | None = None
        """What the thread does, or did last, of the move that is under way."""
        self._is_nearly_done = False
        self._has_failed = False
        """And that was said."""
        self._left: Identity | None = None
        """The file as the last part of a move has left it."""
        self._connection: sqlite3.Connection | None = None
        self._identity: Identity | None = None

    # ---- in the writer's thread

    def written(self, size: int, appends: int, connection: sqlite3.Connection, identity: Identity) -> None:
        """So many bytes of so many appends were committed to this file."""
        log = self._log_of_writes
        log.grew(size, appends)
        if self._part is None:
            if log.is_long():
                log.moving(time.monotonic())
                self._is_nearly_done = False
                self._part = self._submit(partial(self._move_most, identity))
        elif self._part.done() or log.is_too_long():
            self._hand_out()
            self._go_on(self._part, connection, identity)

    def is_moving(self) -> bool:
        """Whether the file is being written to just now."""
        return self._part is not None and not self._part.done()

    def left(self) -> Identity | None:
        """The file as it was left by what was moved last."""
        if self._part is not None and self._part.done() and self._part.exception() is None:
            return self._part.result().identity
        return self._left

    def close(self) -> None:
        """Finish."""
        if self._part is not None:
            wait((self._part,))
            self._left = self.left()
            self._part = None
        self._submit(self._close_connection)
        self._threads.shutdown()

    def abandon(self) -> None:
        """Touch nothing any more, and let nothing be closed: this is a forked child."""
        if self._connection is not None and self._identity is not None:
            keep_for_ever(self._connection, self._identity, FORKED)

    def _go_on(self, part: Future[_Passed], connection: sqlite3.Connection, identity: Identity) -> None:
        """A part has ended, or is waited for, because the log of writes is too long to go on."""
        try:
            passed = part.result()
            if not self._is_nearly_done:
                self._log_of_writes.had(passed.pages, passed.beginnings)
            is_kept, self._is_nearly_done = passed.is_kept or self._is_nearly_done, True
            if passed.pages and not is_kept:
                self._part = self._submit(self._move_rest)
                if not wait((self._part,), HEAD_START).done:
                    return
                passed = self._part.result()
            elif passed.pages:
                passed = self._pass(connection, identity)
        except Exception as error:  # noqa: BLE001 - what was committed is in the log of writes, and this is tried again
            self._pass_instead(error, connection, identity)
        else:
            self._left = passed.identity
            self._has_failed = False
            if passed.pages:
                self._log_of_writes.moved(time.monotonic())
        self._log_of_writes.begins_anew()
        self._part = None

    def _pass_instead(self, error: Exception, connection: sqlite3.Connection, identity: Identity) -> None:
        """The thread could not, for want of file descriptors perhaps: the writer has the database open."""
        if self._file.is_there() and not self._has_failed:
            logger.warning("%s: the log of writes could not be moved: %s", self._file.path, error)
        self._has_failed = True
        with suppress(sqlite3.Error, StoreUnavailableError):
            self._left = self._pass(connection, identity).identity

    def _submit(self, work: Callable[[], T]) -> Future[T]:
        try:
            return self._threads.submit(work)
        except RuntimeError as error:  # The interpreter is about to end, over a store that nobody closed.
            failed: Future[T] = Future()
            failed.set_exception(error)
            return failed

    # ---- in its own

    def _move_most(self, identity: Identity) -> _Passed:
        """What is there, and what was committed meanwhile, until that is little."""
        if self._identity is None or not self._identity.is_of_same(identity):
            self._close_connection()
        if self._connection is None:
            self._connection, self._identity = self._file.open_writer()
        if self._identity is None or not self._identity.is_of_same(identity):
            return _Passed(0, identity)
        passed = self._move_rest()
        is_kept = False
        for _ in range(_MOST_PASSES - 1):
            began = time.monotonic()
            before, passed = passed, self._move_rest()
            if passed.pages - before.pages < _FEW_PAGES:
                is_kept = time.monotonic() - began > _LONG_PASS
                break
        return msgspec.structs.replace(passed, beginnings=self._file.beginnings(), is_kept=is_kept)

    def _move_rest(self) -> _Passed:
        assert self._connection is not None
        assert self._identity is not None
        return self._pass(self._connection, self._identity)

    def _close_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and self._identity is not None:
            self._file.close(connection, self._identity)

    # ---- in either

    def _pass(self, connection: sqlite3.Connection, identity: Identity) -> _Passed:
        if self._file.is_replaced(identity, self._file.identity()):
            return _Passed(0, identity)
        with no_fork():
            busy, pages, _ = connection.execute(schema.MOVE_LOG).fetchone()
        return _Passed(0 if busy else pages, self._file.identity())
