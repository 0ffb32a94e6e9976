"""The one thread that writes, with a connection of its own."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Final, TypeAlias, TypeVar

from rehydrate.errors import StoreError, StoreUnavailableError
from rehydrate.fork import no_fork
from rehydrate.store.another import another
from rehydrate.store.group_commit import Group, Outcome
from rehydrate.store.port import StreamEnd
from rehydrate.store.sqlite import schema
from rehydrate.store.sqlite.database import (
    FORKED,
    REPLACED,
    DatabaseFile,
    Identity,
    as_store_error,
    code_of,
    is_of_an_append,
    is_of_the_connection,
    keep_for_ever,
    not_a_name,
    raise_at_open,
)
from rehydrate.store.sqlite.log import Log
from rehydrate.store.sqlite.mover import Mover

logger = logging.getLogger(__name__)

T = TypeVar("T")
_Job: TypeAlias = Callable[[], None]

MAX_HELD_BYTES: Final = 256 * 1024
"""While so much is inserted nobody waits for an outcome that there is already."""


class Writer:
    """Takes groups and changes in from the event loop, does them one after the other, and calls back there."""

    def __init__(
        self,
        file: DatabaseFile,
        wall: Callable[[], int],
        completed: Callable[[Group, Sequence[Outcome]], None],
    ) -> None:
        self._file = file
        self._wall = wall
        self._completed = completed
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._questions: SimpleQueue[_Job] = SimpleQueue()
        """What can be answered while a job waits for the lock."""
        self._connection: sqlite3.Connection | None = None
        self._identity: Identity | None = None
        self._log = Log(str(file.path))
        self._mover = Mover(file, self._hand_out)
        self._sent = 0
        """How many groups were taken in."""
        self._begun = 0
        self._unstored: tuple[int, StoreError] | None = None
        """The last group that was there when one could not be stored, and why."""
        self._commits_took = 0.0, 0.0
        """Seconds, of the last two."""
        self._held: tuple[Group, Sequence[Outcome]] | None = None
        """A group that is committed, of which nobody has been told."""
        self._thread = threading.Thread(target=self._work, name=f"rehydrate {file.path.name}", daemon=True)
        """A daemon: a program that forgets to close its store must still be able to end."""

    # ---- on the event loop

    async def open(self) -> None:
        """Start, and open or create the database."""
        self._thread.start()
        try:
            await self._ask(self._create)
        except BaseException:
            self._jobs.put(self._close_connection)
            self._jobs.put(None)
            raise

    def send(self, group: Group) -> None:
        """Begin to commit a group."""
        self._sent += 1
        self._jobs.put(lambda: self._commit_group(group))

    def commit_time(self) -> float:
        """Seconds that a commit takes now: the shorter of two, for any one may have waited for the interpreter's lock."""
        return min(self._commits_took)

    async def ends(self, streams: Sequence[str]) -> list[StreamEnd]:
        """The last events of streams, as of a moment after this was called."""
        answer: asyncio.Future[list[StreamEnd]] = self._loop.create_future()
        self._questions.put(lambda: self._answer(lambda: self._ends(streams), answer))
        self._jobs.put(self._answer_questions)
        return await answer

    async def change(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """Do something in a transaction of its own. Who is cancelled here cancels only the wait."""
        return await self._ask(lambda: self._change(change))

    async def seal(self) -> None:
        """Take no more appends, in any process."""

        def seal(connection: sqlite3.Connection) -> None:
            connection.execute(schema.SEAL)
            self._log.forget()

        await self.change(seal)

    async def close(self, first: Callable[[], None]) -> None:
        """Finish what was taken in, do something first, and end."""

        def end() -> None:
            first()
            self._mover.close()
            self._move_log_of_writes()
            self._close_connection()
            # Its traceback leads to the appends that failed, over records that no collector looks at.
            self._unstored = None

        await self._ask(end)
        self._jobs.put(None)
        self._thread.join()

    def abandon(self) -> None:
        """Touch nothing any more, and let nothing be closed: this is a forked child."""
        if self._connection is not None and self._identity is not None:
            keep_for_ever(self._connection, self._identity, FORKED)
        self._mover.abandon()

    async def _ask(self, question: Callable[[], T]) -> T:
        answer: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put(lambda: self._answer(question, answer))
        return await answer

    # ---- in the thread

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            if self._jobs.empty():
                self._hand_out()
            # What it holds must not be kept alive until the next one comes.
            del job

    def _call_back(self, callback: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            logger.debug("%s: the event loop was closed before the store", self._file.path)

    def _answer(self, question: Callable[[], T], answer: asyncio.Future[T]) -> None:
        self._hand_out()
        try:
            self._call_back(_set_result, answer, question())
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to who asked, and must not end this thread
            self._call_back(_set_error, answer, error)

    def _answer_questions(self) -> None:
        while True:
            try:
                question = self._questions.get_nowait()
            except Empty:
                return
            question()

    def _commit_group(self, group: Group) -> None:
        self._begun += 1
        size = sum(append.size for append in group)
        if self._connection is None or size > MAX_HELD_BYTES:
            self._hand_out()
        if self._unstored is not None and self._begun > self._unstored[0]:
            self._unstored = None
        if self._unstored is None:
            outcomes = self._store(group)
        else:
            outcomes = [another(self._unstored[1]) for _ in group]
        self._hand_out()
        self._held = group, outcomes
        if self._log.is_shared:
            self._hand_out()
        self._written(size, len(group))

    def _store(self, group: Group) -> Sequence[Outcome]:
        """Commit a group; where that fails because of what is in it, each append alone."""
        try:
            with no_fork(), self._transaction() as connection:
                outcomes = self._append(connection, group)
                # Only the commit is left, which does without the interpreter's lock.
                self._hand_out()
        except StoreError as error:
            self._let_end_alike(error)
            return [another(error) for _ in group]
        except Exception as error:  # noqa: BLE001 - a value that cannot be stored, which must meet its owner only
            if len(group) == 1:
                return [StoreError(f"{self._file.path}: this append cannot be stored: {error}")]
            self._hand_out()
            return self._store_each(group)
        return outcomes

    def _store_each(self, group: Group) -> list[Outcome]:
        """Where the store cannot be reached for one of them, the later ones end alike."""
        outcomes: list[Outcome] = []
        for append in group:
            before = self._unstored
            outcomes += self._store([append])
            if self._unstored is not None and self._unstored is not before:
                _, error = self._unstored
                return outcomes + [another(error) for _ in group[len(outcomes) :]]
        return outcomes

    def _let_end_alike(self, error: StoreError) -> None:
        """Whoever submits many appends in one go never finds later ones stored in the place of earlier ones."""
        if isinstance(error, StoreUnavailableError) and error.stored is not False:
            error = StoreUnavailableError(error.reason, retryable=error.retryable)
        self._unstored = self._sent, error

    def _hand_out(self) -> None:
        """Tell of the group that was committed last."""
        held, self._held = self._held, None
        if held is not None:
            self._call_back(self._completed, *held)

    def _append(self, connection: sqlite3.Connection, group: Group) -> list[Outcome]:
        return self._log.append(connection, group, self._wall())

    def _ends(self, streams: Sequence[str]) -> list[StreamEnd]:
        give_up = time.monotonic() + self._file.busy_timeout
        while True:
            try:
                with no_fork():
                    return self._log.ends(self._current(), streams)
            except sqlite3.Error as error:
                if code_of(error) == sqlite3.SQLITE_BUSY and time.monotonic() < give_up:
                    no_fork().let_fork()
                    continue  # Somebody repairs what a killed process left behind.
                if is_of_the_connection(error):
                    self._drop()
                raise as_store_error(error, self._file.path) from error

    def _change(self, change: Callable[[sqlite3.Connection], T]) -> T:
        try:
            with no_fork(), self._transaction() as connection:
                result = change(connection)
        except sqlite3.Error as error:
            raise as_store_error(error, self._file.path) from error
        except UnicodeEncodeError as error:
            raise not_a_name(error) from None
        self._written(0, 1)
        return result

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection, None, None]:
        """Commit at the end, or leave nothing. Errors that are not of what was written come out as `StoreError`."""
        committing = False
        try:
            connection = self._begin()
            yield connection
            committing = True
            began = time.monotonic()
            connection.execute(schema.COMMIT)
            self._commits_took = self._commits_took[1], time.monotonic() - began
        except sqlite3.Error as error:
            self._give_up()
            if not committing and is_of_an_append(error):
                raise
            if is_of_the_connection(error):
                self._drop()
            raise as_store_error(error, self._file.path, committing=committing) from error
        except BaseException:
            self._give_up()
            raise

    def _begin(self) -> sqlite3.Connection:
        """Take the lock, on the file that stands at the path now; who only asks is answered meanwhile."""
        give_up = time.monotonic() + self._file.busy_timeout
        while True:
            connection = self._connection or self._current()
            try:
                connection.execute(schema.BEGIN_WRITE)
            except sqlite3.OperationalError as error:
                if code_of(error) != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                    raise
                no_fork().let_fork()
                self._hand_out()
                self._answer_questions()
                continue
            if self._is_as_it_was():
                return connection
            connection.execute(schema.ROLLBACK)
            self._hand_out()
            self._current()
            if time.monotonic() > give_up:
                raise StoreUnavailableError(f"{self._file.path} is being overwritten")

    def _current(self) -> sqlite3.Connection:
        """A connection to the file that stands at the path now, without memories of another one."""
        if self._connection is not None and self._identity is not None and not self._is_as_it_was():
            identity = self._file.identity()
            if self._file.is_replaced(self._identity, identity):
                logger.warning("%s was replaced under an open store: it is opened again", self._file.path)
                keep_for_ever(self._connection, self._identity, REPLACED)
                self._connection = None
            elif identity.written != self._identity.written:
                # Somebody moved the log of writes into it, or copied another database over it.
                self._log.forget()
                self._connection.execute(schema.FORGET_PAGES)
                self._identity = identity
        if self._connection is None:
            self._log.forget()
            self._connection, self._identity = self._file.open_writer()
        return self._connection

    def _is_as_it_was(self) -> bool:
        """Whether at the path stands what the connection has open, and nobody but us has written to it."""
        # Asked first: what is found then may have been written in the moment before moving ended.
        is_moving = self._mover.is_moving()
        then, now = self._identity, self._file.identity()
        if now == then:
            return True
        if then is None or not now.is_of_same(then):
            return False
        if not is_moving:
            if now != self._mover.left():
                return False
            self._identity = now
        return True

    def _create(self) -> None:
        try:
            self._connection, self._identity = self._file.create()
        except sqlite3.Error as error:
            raise_at_open(error, self._file.path)

    def _give_up(self) -> None:
        """Leave nothing of a transaction."""
        self._log.forget()
        try:
            if self._connection is not None and self._connection.in_transaction:
                self._connection.execute(schema.ROLLBACK)
        except sqlite3.Error:
            logger.debug("%s: the rollback failed, so the connection goes", self._file.path, exc_info=True)
            self._drop()

    def _drop(self) -> None:
        """Begin with another connection next time."""
        self._log.forget()
        self._close_connection()

    def _close_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None or self._identity is None:
            return
        self._file.close(connection, self._identity)
        # The log of writes goes with the last connection, and the next one makes another.
        self._identity = None

    def _written(self, size: int, appends: int) -> None:
        if self._connection is not None and self._identity is not None:
            self._mover.written(size, appends, self._connection, self._identity)

    def _move_log_of_writes(self) -> None:
        """At the end, when nobody is left to wait for it. What cannot be moved is in the log of writes all the same."""
        if self._connection is None or self._identity is None:
            return
        try:
            if self._is_as_it_was():
                with no_fork():
                    self._connection.execute(schema.MOVE_LOG).fetchone()
                identity = self._file.identity()
                if not self._file.is_replaced(self._identity, identity):
                    self._identity = identity
        except (sqlite3.Error, StoreUnavailableError) as error:
            if self._file.is_there():
                logger.warning("%s: the log of writes could not be moved: %s", self._file.path, error)


def _set_result(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _set_error(future: asyncio.Future[T], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
