"""What is kept beside the log: snapshots, checkpoints and views."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final, TypeAlias

from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from rehydrate.errors import ConfigurationError, StoreUnavailableError
from rehydrate.store.mongodb import failures
from rehydrate.store.mongodb.apart import cut_off_is_lost
from rehydrate.store.mongodb.commands import Commands
from rehydrate.store.mongodb.driver import Document, Driver
from rehydrate.store.port import Checkpoint, StoredSnapshot, ViewChange
from rehydrate.transaction import ChangeFailedError, inside

logger = logging.getLogger(__name__)

Change: TypeAlias = Callable[[AsyncClientSession], Awaitable[object]]
"""What a user's own handler does in the open transaction."""

PATIENCE: Final = 1.0
"""Seconds for which the transaction of another process may hold a consumer's place before it is ended from here."""
_PAUSE: Final = 0.01
_MAX_UPDATES: Final = 1_000
_MAX_UPDATE_BYTES: Final = 12 * 1024 * 1024
MAX_DATA_BYTES: Final = 16 * 1024 * 1024 - 16 * 1024
"""Of one document, beside names and numbers."""

_MAX_VIEWS: Final = 1_000_000
"""How many are asked for at once."""
_LOST_CONNECTIONS: Final = 2
"""So many in a row are waited out within one call."""


class Snapshots:
    """Saved states, a document for each."""

    def __init__(self, driver: Driver, commands: Commands) -> None:
        self._driver = driver
        self._commands = commands

    async def save(self, snapshot: StoredSnapshot, keep: int) -> None:
        _check_size(f"the snapshot of {snapshot.stream}", snapshot.data)
        stream, version = snapshot.stream, snapshot.version
        newest = await self._find(stream, data=False)
        if newest is not None and newest["version"] > version:
            return
        document = {
            "stream": stream,
            "version": version,
            "position": snapshot.position,
            "event_id": snapshot.event_id,
            "schema": snapshot.schema,
            "fingerprint": snapshot.fingerprint,
            "data": snapshot.data,
            "recorded_at": snapshot.recorded_at,
        }
        # A repeat does no harm, so that a lost connection is waited out here. Two who save one version at once may
        # both find nothing there, and one of them then meets the index.
        for _ in range(3):
            reply = await _again_if_lost(lambda: self._driver.write(self._commands.save_snapshot(document)))
            if not failures.refusals(reply):
                break
        oldest = await self._find(stream, data=False, skip=keep - 1)
        if oldest is not None:
            await self._delete(stream, below=oldest["version"])

    async def load(self, stream: str) -> StoredSnapshot | None:
        found = await self._find(stream)
        if found is None:
            return None
        return StoredSnapshot(
            stream=found["stream"],
            version=int(found["version"]),
            position=int(found["position"]),
            event_id=found["event_id"],
            schema=int(found["schema"]),
            fingerprint=found["fingerprint"],
            data=found["data"],
            recorded_at=int(found["recorded_at"]),
        )

    async def delete(self, stream: str) -> None:
        await self._delete(stream)

    async def _delete(self, stream: str, below: int | None = None) -> None:
        command = self._commands.delete_snapshots(stream, below=below)
        await _again_if_lost(lambda: self._driver.write(command))

    async def _find(self, stream: str, *, data: bool = True, skip: int = 0) -> Document | None:
        command = self._commands.newest_snapshot(stream, data=data, skip=skip)
        return await _first(self._driver, command)


class Consumers:
    """Places and views. A place alone is one document; with views, and wherever views go, it is a transaction."""

    def __init__(self, driver: Driver, commands: Commands, store: str, timeout: float) -> None:
        self._driver = driver
        self._commands = commands
        self._store = store
        self._timeout = timeout
        self._savers: dict[str, _Saver] = {}

    async def load(self, name: str) -> Checkpoint | None:
        found = await _first(self._driver, self._commands.load_checkpoint(name))
        return None if found is None else _checkpoint(found)

    async def load_all(self) -> list[Checkpoint]:
        listed: list[Checkpoint] = []
        after = ""
        while found := (await self._driver.read_all_of(self._commands.list_checkpoints(after)))[0]:
            listed += map(_checkpoint, found)
            after = listed[-1].name
        return listed

    async def save(
        self,
        checkpoint: Checkpoint,
        previous: Checkpoint | None,
        views: Sequence[ViewChange],
        change: Change | None = None,
    ) -> bool:
        """Save a place with its views, and with what the user's own `change` does in the same transaction."""
        _check_size(f"the checkpoint of {checkpoint.name}", checkpoint.data)
        for view in views:
            _check_size(f"the view {view.key} of {checkpoint.name}", view.data or b"")
        # By its own mark a save whose answer was lost is recognised.
        mark = secrets.token_hex(12)
        document = {
            "_id": checkpoint.name,
            "position": checkpoint.position,
            "event_id": checkpoint.event_id,
            "epoch": checkpoint.epoch,
            "data": checkpoint.data,
            "save": mark,
        }
        if previous is None:
            move = self._commands.begin_checkpoint(document)
        else:
            move = self._commands.move_checkpoint(document, epoch=previous.epoch, position=previous.position)
        saver = self._saver(checkpoint.name)
        if not views and change is None:
            moved = await saver.change(move)
        else:
            commands = [move, *self._view_changes(checkpoint.name, views)]
            moved = await saver.change_as_one(commands, change=change)
        return moved or await self._was_saved(checkpoint.name, mark)

    async def reset(self, name: str) -> None:
        document = {"position": 0, "event_id": "", "data": b"", "save": ""}
        commands = [self._commands.reset_checkpoint(name, document), self._commands.remove_views(name)]
        await self._saver(name).change_as_one(commands)

    async def remove(self, name: str) -> None:
        commands = [self._commands.remove_checkpoint(name), self._commands.remove_views(name)]
        await self._saver(name).change_as_one(commands, first_counts=False)

    async def load_view(self, name: str, key: str) -> bytes | None:
        found = await _first(self._driver, self._commands.load_view(name, key))
        return None if found is None else found["data"]

    async def load_views(self, name: str, keys: Sequence[str]) -> dict[str, bytes]:
        views: dict[str, bytes] = {}
        left = list(dict.fromkeys(keys))
        while left:
            found, is_whole = await self._driver.read_all_of(self._commands.load_views(name, left))
            views.update((view["key"], view["data"]) for view in found)
            left = [] if is_whole else [key for key in left if key not in views]
        return views

    async def list_views(self, name: str, prefix: str, after: str, limit: int) -> list[tuple[str, bytes]]:
        views: list[tuple[str, bytes]] = []
        while (left := min(limit - len(views), _MAX_VIEWS)) > 0:
            found, is_whole = await self._driver.read_all_of(
                self._commands.list_views(name, prefix, after, left)
            )
            views += [(view["key"], view["data"]) for view in found]
            if is_whole and len(found) < left:
                break
            after = views[-1][0]
        return views

    async def close(self) -> None:
        """End what the server keeps for our transactions."""
        for saver in self._savers.values():
            await saver.close()

    async def _was_saved(self, name: str, mark: str) -> bool:
        found = await _first(self._driver, self._commands.load_checkpoint(name))
        return found is not None and found["save"] == mark

    def _saver(self, name: str) -> _Saver:
        saver = self._savers.get(name)
        if saver is None:
            saver = self._savers[name] = _Saver(
                self._driver, self._commands, f"{self._store}: the place of {name}", name, self._timeout
            )
        return saver

    def _view_changes(self, name: str, views: Sequence[ViewChange]) -> Iterable[Document]:
        # The last change of a key is the one that counts.
        last = {view.key: view.data for view in views}
        removed = [key for key, data in last.items() if data is None]
        for start in range(0, len(removed), _MAX_UPDATES):
            yield self._commands.remove_views(name, removed[start : start + _MAX_UPDATES])
        part: list[tuple[str, bytes]] = []
        size = 0
        for key, data in last.items():
            if data is None:
                continue
            if part and (len(part) == _MAX_UPDATES or size + len(data) > _MAX_UPDATE_BYTES):
                yield self._commands.save_views(name, part)
                part, size = [], 0
            part.append((key, data))
            size += len(data)
        if part:
            yield self._commands.save_views(name, part)


class _Saver:
    """One consumer's place, as this process changes it.

    A process that dies in the middle of a transaction leaves it open, and with it the lock on the place: the server
    alone would end it after a minute or more. So whoever begins to save says with which session, and whoever finds
    the place locked for too long ends the sessions of the others.
    """

    def __init__(self, driver: Driver, commands: Commands, where: str, name: str, timeout: float) -> None:
        self._driver = driver
        self._commands = commands
        self._where = where
        self._name = name
        self._timeout = timeout
        self._turn = asyncio.Lock()
        self._session: AsyncClientSession | None = None

    async def change(self, command: Document) -> bool:
        """Change one document; false if it was not there, or another one was."""
        patient = self._commands.patient_for(command, PATIENCE)
        return await self._until_done(lambda: self._change(patient), is_patient=True)

    async def change_as_one(
        self, commands: Sequence[Document], *, first_counts: bool = True, change: Change | None = None
    ) -> bool:
        """Do all of it or nothing; false, and nothing is done, if the first command finds nothing to change."""
        async with self._turn:
            session = self._session or await self._announce()
            return await self._until_done(
                lambda: self._transaction(session, commands, first_counts=first_counts, change=change)
            )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.end_session()

    async def _until_done(self, attempt: Callable[[], Awaitable[bool]], *, is_patient: bool = False) -> bool:
        """Try again while another one is in the way, and after a lost connection."""
        begun = time.monotonic()
        ended = begun
        lost = 0
        while True:
            try:
                return await attempt()
            except StoreUnavailableError as error:
                blocked = failures.is_blocked(error)
                lost += not blocked
                now = time.monotonic()
                if now > begun + self._timeout or not (blocked or failures.is_lost(error)):
                    raise
                if lost >= _LOST_CONNECTIONS:
                    raise
                if blocked and (is_patient or now > ended + PATIENCE):
                    await self._end_others()
                    ended = now
            await asyncio.sleep(_PAUSE)

    async def _change(self, command: Document) -> bool:
        reply = await self._driver.write(command)
        return _has_changed(reply, self._where)

    async def _transaction(
        self,
        session: AsyncClientSession,
        commands: Sequence[Document],
        *,
        first_counts: bool,
        change: Change | None,
    ) -> bool:
        try:
            await session.start_transaction(
                read_concern=ReadConcern("snapshot"),
                write_concern=WriteConcern("majority", j=True, wtimeout=round(self._timeout * 1_000)),
            )
            for n, command in enumerate(commands):
                reply = await self._driver.write(self._commands.in_transaction(command), session=session)
                if not _has_changed(reply, self._where) and n == 0 and first_counts:
                    await session.abort_transaction()
                    return False
            if change is not None:
                await _make(change, session)
            await self._commit(session)
        except PyMongoError as error:
            raise self._driver.store_error(error, writing=True) from error
        finally:
            if session.in_transaction:
                with suppress(PyMongoError), cut_off_is_lost():
                    await session.abort_transaction()
        return True

    async def _commit(self, session: AsyncClientSession) -> None:
        """Commit; and again, until the server says how it ended."""
        give_up = time.monotonic() + self._timeout
        while True:
            try:
                with cut_off_is_lost():
                    await session.commit_transaction()
            except PyMongoError as error:
                if not _may_be_committed(error) or time.monotonic() > give_up:
                    raise
                await asyncio.sleep(_PAUSE)
            else:
                return

    async def _announce(self) -> AsyncClientSession:
        session = self._driver.session()
        try:
            announced = self._commands.announce_saver(self._name, session.session_id["id"])
            await _again_if_lost(lambda: self._driver.write(announced))
        except BaseException:
            await session.end_session()
            raise
        self._session = session
        return session

    async def _end_others(self) -> None:
        """End the transactions of others that hold the place: their processes may be dead, or stand still."""
        found = await _first(self._driver, self._commands.savers_of(self._name))
        mine = None if self._session is None else self._session.session_id["id"]
        others = [{"id": session} for session in (found or {"sessions": []})["sessions"] if session != mine]
        if not others:
            return
        try:
            await self._driver.administer({"killSessions": others})
        except OperationFailure as error:
            logger.warning(
                "%s is locked by another session, which MongoDB does not let us end: %s", self._where, error
            )
        except PyMongoError as error:
            logger.debug("%s: other sessions could not be ended: %s", self._where, error)


async def _make(change: Change, session: AsyncClientSession) -> None:
    """Have the user's own changes made. Raises `ChangeFailedError`, unless another attempt may succeed."""
    try:
        with inside():
            await change(session)
    except PyMongoError as error:
        if isinstance(error, ConnectionFailure) or error.has_error_label("TransientTransactionError"):
            raise
        raise ChangeFailedError from error
    except Exception as error:
        raise ChangeFailedError from error
    if not session.in_transaction:
        raise ChangeFailedError from ConfigurationError(
            "the handler ended the transaction that it was given: leave that to Rehydrate"
        )


def _may_be_committed(error: PyMongoError) -> bool:
    """Whether to ask for the commit once more, which says how it ended."""
    return isinstance(error, ConnectionFailure) or error.has_error_label("UnknownTransactionCommitResult")


def _has_changed(reply: Document, where: str) -> bool:
    refused = failures.refusals(reply)
    for refusal in refused:
        if refusal["code"] == failures.WRITE_CONFLICT:
            raise StoreUnavailableError(f"{where} is held by another transaction")
        if refusal["code"] != failures.DUPLICATE_KEY:
            raise StoreUnavailableError(f"{where}: {refusal['errmsg']}", retryable=False)
    return not refused and reply["n"] > 0


async def _first(driver: Driver, command: Document) -> Document | None:
    documents: list[Document] = (await driver.read(command))["cursor"]["firstBatch"]
    return documents[0] if documents else None


async def _again_if_lost(write: Callable[[], Awaitable[Document]]) -> Document:
    """Do something that may be done twice, once more if the connection broke."""
    try:
        return await write()
    except StoreUnavailableError as error:
        if not failures.is_lost(error):
            raise
    return await write()


def _checkpoint(found: Document) -> Checkpoint:
    return Checkpoint(
        name=found["_id"],
        position=int(found["position"]),
        event_id=found["event_id"],
        epoch=int(found["epoch"]),
        data=found["data"],
    )


def _check_size(what: str, data: bytes) -> None:
    if len(data) > MAX_DATA_BYTES:
        raise StoreUnavailableError(
            f"{what} has {len(data):,} bytes, and a document of MongoDB takes {MAX_DATA_BYTES:,}",
            retryable=False,
        )
