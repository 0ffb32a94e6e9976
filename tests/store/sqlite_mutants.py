"""Stores on SQLite, each with one mistake: the laws have to notice it."""

import random
import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

import msgspec

from rehydrate.errors import VersionConflictError
from rehydrate.store.group_commit import Group, Outcome, PendingAppend
from rehydrate.store.port import Appended, Checkpoint, Store, StoredSnapshot, ViewChange
from rehydrate.store.sqlite import SqliteStore, schema
from rehydrate.store.sqlite.log import Log
from rehydrate.store.sqlite.writer import Writer
from rehydrate.store.url import open_store


class Mutant(SqliteStore):
    log: ClassVar[type[Log]] = Log
    writer: ClassVar[type[Writer]] = Writer

    @classmethod
    async def open_mutant(cls, url: str) -> Store:
        store = await open_store(url)
        writer: Writer = vars(store)["_writer"]
        writer.__class__ = cls.writer
        vars(writer)["_log"] = cls.log("the store")
        store.__class__ = cls
        return store


def _pause() -> None:
    """As long as a busy disk takes, and a reader needs to look."""
    time.sleep(0.001 + random.random() * 0.003)


def _begin(connection: sqlite3.Connection) -> None:
    while True:
        try:
            connection.execute(schema.BEGIN_WRITE)
        except sqlite3.OperationalError:
            time.sleep(0.001)
        else:
            return


def _wait_until_passed(connection: sqlite3.Connection, position: int) -> None:
    """Wait until others have committed what comes behind, if any do, and readers have had time to look."""
    until = time.monotonic() + 0.03
    while time.monotonic() < until:
        (last,) = connection.execute(schema.LAST_POSITION).fetchone()
        if last > position:
            time.sleep(0.01)
            return
        time.sleep(0.001)


class _EarlyPositions(Log):
    def append(self, connection: sqlite3.Connection, group: Group, now: int) -> list[Outcome]:
        connection.execute("CREATE TABLE IF NOT EXISTS reserved (position INTEGER NOT NULL)")
        (reserved,) = connection.execute("SELECT coalesce(max(position), 0) FROM reserved").fetchone()
        (last,) = connection.execute(schema.LAST_POSITION).fetchone()
        first = max(reserved, last)
        total = sum(len(append.events) for append in group)
        connection.execute("INSERT INTO reserved VALUES (?)", (first + total,))
        connection.execute(schema.COMMIT)
        if random.random() < 0.5:
            _wait_until_passed(connection, first + total)
        _begin(connection)
        self.forget()
        self.refresh(connection)
        (self._stream,) = connection.execute(schema.LAST_STREAM).fetchone()
        self._position = first
        self._ends_known = True
        return super().append(connection, group, now)


class PositionsBeforeCommit(Mutant):
    """Takes positions from a counter in a transaction of its own, as a database's sequence does."""

    log = _EarlyPositions


class _Halves(Log):
    def append(self, connection: sqlite3.Connection, group: Group, now: int) -> list[Outcome]:
        halves = [_split(append) for append in group]
        outcomes = super().append(connection, [first for first, _ in halves], now)
        connection.execute(schema.COMMIT)
        _pause()
        _begin(connection)
        late = [
            (n, msgspec.structs.replace(rest, expected_version=outcome.version))
            for n, ((_, rest), outcome) in enumerate(zip(halves, outcomes, strict=True))
            if rest.events and isinstance(outcome, Appended)
        ]
        rest = super().append(connection, [append for _, append in late], now)
        for (n, _), outcome in zip(late, rest, strict=True):
            outcomes[n] = outcome
        return outcomes


def _split(append: PendingAppend) -> tuple[PendingAppend, PendingAppend]:
    half = (len(append.events) + 1) // 2
    replace = msgspec.structs.replace
    return replace(append, events=append.events[:half]), replace(append, events=append.events[half:])


class HalvesApart(Mutant):
    """Commits an append in two transactions."""

    log = _Halves


class _LastHalfLost(Log):
    def append(self, connection: sqlite3.Connection, group: Group, now: int) -> list[Outcome]:
        if len(group) == 1:
            return super().append(connection, group, now)
        first, rest = _split(group[-1])
        outcomes = super().append(connection, [*group[:-1], first], now)
        if isinstance(outcomes[-1], Appended):
            version, position = outcomes[-1].version, outcomes[-1].position
            outcomes[-1] = Appended(version + len(rest.events), position + len(rest.events))
        return outcomes


class SecondHalfLost(Mutant):
    """Loses the second half of the last append of a group."""

    log = _LastHalfLost


class _Lenient(Log):
    def append(self, connection: sqlite3.Connection, group: Group, now: int) -> list[Outcome]:
        versions = [end.version for end in self.ends(connection, [append.stream for append in group])]
        return super().append(
            connection,
            [
                msgspec.structs.replace(append, expected_version=version)
                if append.expected_version == version - 1
                else append
                for append, version in zip(group, versions, strict=True)
            ],
            now,
        )


class StaleVersionAccepted(Mutant):
    """One behind is near enough."""

    log = _Lenient


class _Trusting(Log):
    def __init__(self, store: str) -> None:
        super().__init__(store)
        self._believed: dict[str, int] = {}

    def append(self, connection: sqlite3.Connection, group: Group, now: int) -> list[Outcome]:
        versions = [end.version for end in self.ends(connection, [append.stream for append in group])]
        outcomes = super().append(
            connection,
            [
                msgspec.structs.replace(append, expected_version=version)
                if self._believed.get(append.stream) == append.expected_version
                else append
                for append, version in zip(group, versions, strict=True)
            ],
            now,
        )
        for append, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, Appended):
                self._believed[append.stream] = outcome.version
        return outcomes


class HeadsNotRefreshed(Mutant):
    """Believes the versions that it knows, whoever else has written since."""

    log = _Trusting


class _Forgetful(Log):
    def append(self, connection: sqlite3.Connection, group: Group, now: int) -> list[Outcome]:
        before = [end.version for end in self.ends(connection, [append.stream for append in group])]
        outcomes = super().append(connection, group, now)
        for n, (append, version, outcome) in enumerate(zip(group, before, outcomes, strict=True)):
            if isinstance(outcome, Appended) and append.expected_version != version:
                again = msgspec.structs.replace(append, expected_version=version)
                (outcomes[n],) = super().append(connection, [again], now)
        return outcomes


class RepeatStoredTwice(Mutant):
    log = _Forgetful


class _AllOrNone(Log):
    def append(self, connection: sqlite3.Connection, group: Group, now: int) -> list[Outcome]:
        connection.execute("SAVEPOINT before")
        outcomes = super().append(connection, group, now)
        refused = [outcome for outcome in outcomes if isinstance(outcome, VersionConflictError)]
        if refused:
            connection.execute("ROLLBACK TO before")
            self.forget()
            return [
                VersionConflictError(one.stream, one.expected_version, refused[0].actual) for one in group
            ]
        return outcomes


class GroupRefusedTogether(Mutant):
    """A conflict of one append is the outcome of all that share its commit."""

    log = _AllOrNone


class _Hasty(Writer):
    def _append(self, connection: sqlite3.Connection, group: Group) -> list[Outcome]:
        outcomes = super()._append(connection, group)
        if len(group) > 1:
            self._call_back(self._completed, group, outcomes)
            vars(self)["told"] = group
            _pause()
        return outcomes

    def _call_back(self, callback: Callable[..., None], *arguments: object) -> None:
        if arguments and arguments[0] is vars(self).get("told"):
            del vars(self)["told"]
        else:
            super()._call_back(callback, *arguments)


class AcknowledgedBeforeCommit(Mutant):
    """Answers those who share a commit before it is done."""

    writer = _Hasty


class SnapshotGoesBack(Mutant):
    """What was saved last is what is loaded."""

    async def save_snapshot(self, snapshot: StoredSnapshot, *, keep: int) -> None:
        await self.delete_snapshots(snapshot.stream)
        await super().save_snapshot(snapshot, keep=keep)


class ViewsBesideTheCheckpoint(Mutant):
    """Saves them one after the other."""

    async def save_checkpoint(
        self, checkpoint: Checkpoint, *, previous: Checkpoint | None, views: Sequence[ViewChange] = ()
    ) -> bool:
        if not await super().save_checkpoint(checkpoint, previous=previous):
            return False
        for view in views:
            await self._change(partial(_save_view, checkpoint.name, view))
        return True


def _save_view(name: str, view: ViewChange, connection: sqlite3.Connection) -> None:
    if view.data is None:
        connection.execute(schema.REMOVE_VIEW, (name, view.key))
    else:
        connection.execute(schema.SAVE_VIEW, (name, view.key, view.data))
