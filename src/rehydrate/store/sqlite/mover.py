"""Moving the log of writes (WAL) into the database beside the writer, in a thread with a connection of its own.

SQLite lets a checkpoint run while somebody else commits. But it begins a log anew, and waits for the disk to have what
was moved, only where all of it was moved: and with one commit after the other there is always some more. So first what
is there is moved while the writer goes on, which leaves little. Then the writer pauses until that is moved, too, but
not until the disk has it, which is what takes long. And what was committed while the disk was at it is little again: for
that the writer waits to the end.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Final, TypeVar

import msgspec

from rehydrate.store.sqlite import schema
from rehydrate.store.sqlite.database import FORKED, DatabaseFile, Identity, keep_for_ever
from rehydrate.store.sqlite.log_of_writes import LogOfWrites

logger = logging.getLogger(__name__)

T = TypeVar("T")

HEAD_START: Final = 0.002
"""Seconds for which nobody commits, so that what is left can be moved and the disk be asked to keep it."""
_FEW_PAGES: Final = 300
"""What is moved before that takes, at most."""
_MOST_PASSES: Final = 4


class _Passed(msgspec.Struct, frozen=True):
    """What became of a part of a move."""

    pages: int
    """How long the log of writes was; 0 if somebody else moves it, or if it is not ours any more."""
    identity: Identity
    """Of the file, right after it."""


class Mover:
    """Moves when it is time. All but what its thread does is called by the writer, between two commits."""

    def __init__(self, file: DatabaseFile, hand_out: Callable[[], None]) -> None:
        self._file = file
        self._hand_out = hand_out
        self._log_of_writes = LogOfWrites()
        self._threads = ThreadPoolExecutor(1, thread_name_prefix=f"rehydrate moves {file.path.name}")
        self._part: Future[_Passed] | None = None
        """What the thread does, or did last, of the move that is under way."""
        self._parts = 0
        self._left: Identity | None = None
        """The file as the last part of a move has left it."""
        self._connection: sqlite3.Connection | None = None
        self._identity: Identity | None = None

    # ---- in the writer's thread

    def written(self, size: int, appends: int, identity: Identity | None) -> None:
        """So many bytes of so many appends were committed to this file."""
        log = self._log_of_writes
        log.grew(size, appends)
        if self._part is None:
            if identity is not None and log.is_long():
                log.moving(time.monotonic())
                self._parts = 1
                self._part = self._submit(partial(self._move_most, identity))
        elif self._part.done() or log.is_too_long():
            self._hand_out()
            self._go_on(self._part)

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
            self._end(self._part)
        self._threads.shutdown()

    def abandon(self) -> None:
        """Touch nothing any more, and let nothing be closed: this is a forked child."""
        if self._connection is not None and self._identity is not None:
            keep_for_ever(self._connection, self._identity, FORKED)

    def _go_on(self, part: Future[_Passed]) -> None:
        """A part has ended, or is waited for, because the log of writes is too long to go on."""
        if part.exception() is None and part.result().pages:
            if self._parts == 1:
                self._log_of_writes.had(part.result().pages)
            self._parts += 1
            self._part = part = self._submit(self._move_rest)
            done, _ = wait((part,), HEAD_START if self._parts == 2 else None)
            if not done:
                return
        self._end(part)

    def _end(self, part: Future[_Passed]) -> None:
        """It is all moved, or cannot be. What fails here is tried again: what was committed is in the log of writes."""
        log = self._log_of_writes
        error = part.exception()
        if error is None:
            self._left = part.result().identity
            if part.result().pages:
                log.moved(time.monotonic())
        elif self._file.is_there():
            logger.warning("%s: the log of writes could not be moved: %s", self._file.path, error)
        log.begins_anew()
        self._part = None
        self._submit(self._close_connection)

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
        self._connection, self._identity = self._file.open_writer()
        if self._identity.database != identity.database or self._identity.log != identity.log:
            return _Passed(0, identity)
        passed = self._move_rest()
        for _ in range(_MOST_PASSES - 1):
            before, passed = passed, self._move_rest()
            if passed.pages - before.pages < _FEW_PAGES:
                break
        return passed

    def _move_rest(self) -> _Passed:
        assert self._connection is not None
        assert self._identity is not None
        identity = self._file.identity()
        if self._file.is_replaced(self._identity, identity):
            return _Passed(0, identity)
        busy, pages, _ = self._connection.execute(schema.MOVE_LOG).fetchone()
        return _Passed(0 if busy else pages, self._file.identity())

    def _close_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and self._identity is not None:
            self._file.close(connection, self._identity)
