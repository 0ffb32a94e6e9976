"""Appending to the log: positions, versions, outcomes. Why this is safe without a lock is told in `docs/mongodb.md`.

What is known (the last position, the heads of streams) was read over the one connection on which appends go out, and
is used on no other: `SameLog` sees to it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from rehydrate.errors import (
    StoreClosedError,
    StoreError,
    StoreSealedError,
    StoreUnavailableError,
    VersionConflictError,
)
from rehydrate.store.another import another
from rehydrate.store.group_commit import Group, Outcome, PendingAppend
from rehydrate.store.known_heads import KnownHeads
from rehydrate.store.mongodb import failures
from rehydrate.store.mongodb.commands import SEALED, Commands
from rehydrate.store.mongodb.driver import Connections, Document, Driver, ForgottenError, SameLog
from rehydrate.store.port import Appended, StreamEnd

MAX_COMMAND_BYTES: Final = 15 * 1024 * 1024
"""The server takes 48 MB, but the driver sends no command of more than 16 MiB, whatever is in it."""
EVENT_OVERHEAD: Final = 1_200
"""Bytes of an event beside data and metadata, at most: id, type, and the names of the fields."""
MAX_FOLLOWED: Final = 500
"""How many documents of others are followed at once; who is further behind begins anew at the end of the log."""
MAX_STREAMS: Final = 1_000
"""How many streams one question is about."""
MANY: Final = 8
JUST_NOW: Final = 0.02
"""So many appends that come together within so many seconds after an acknowledged one go out without asking whether that
is still there. Asking costs a flood half of its rate, and a restore takes longer than this. Who stands still just here
while one is made that keeps the collection's UUID is why the docs say to stop the writers for such a one."""
_SHORTEST_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.008
_LOST_CONNECTIONS: Final = 2
"""So many in a row are waited out within an append."""


class _Known(msgspec.Struct):
    """The log as its writer knows it."""

    log: SameLog
    position: int
    """Of the last event."""
    last: tuple[int, str] = (0, "")
    """The last document: its first position, and the id of its first event."""
    is_behind: bool = False
    """Whether others have appended since."""
    sealed: bool = False
    told_at: float = 0.0
    """When a majority acknowledged that document as ours, on the monotonic clock; 0 if it did not."""

    def moves_to(self, document: Document, first_id: str) -> None:
        """That document is the last one now."""
        first = int(document["_id"])
        self.told_at = 0.0
        self.position = first + document["count"] - 1
        self.last = (first, first_id)
        self.is_behind = False


class _Open(msgspec.Struct):
    """The appends of a group that have no outcome yet, by their place in it."""

    group: Group
    left: list[int]
    outcomes: dict[int, Outcome] = {}
    doubtful: set[int] = set()
    """Those whose stream has to be asked for: the server refused what we know of it."""
    sent: set[int] = set()
    """Those that may be stored although nobody said so."""

    def is_done(self, index: int, outcome: Outcome) -> None:
        self.outcomes[index] = outcome
        self.left.remove(index)


class Log:
    """The one who appends in an opened store."""

    def __init__(
        self,
        driver: Driver,
        connections: Connections,
        commands: Commands,
        store: str,
        *,
        wall: Callable[[], int],
        timeout: float,
    ) -> None:
        self._driver = driver
        self._connections = connections
        self._commands = commands
        self._store = store
        self._wall = wall
        self._timeout = timeout
        self._heads = KnownHeads[StreamEnd]()
        self._known: _Known | None = None
        self._may_update = True
        """Whether our user has the right to update `events`, which `insert_behind` needs."""
        self._turn = asyncio.Lock()
        self._chance = random.Random()

    async def append(self, group: Group) -> list[Outcome]:
        """Insert what may be inserted of a group, and say of each what became of it."""
        todo = _Open(group, list(range(len(group))))
        async with self._turn:
            await self._until_done(todo)
        return [todo.outcomes[index] for index in range(len(group))]

    async def seal(self) -> None:
        """Take no more appends, from anybody: the seal stands where the next one would have to stand."""
        async with self._turn:
            give_up = time.monotonic() + self._timeout
            lost = tries = 0
            while time.monotonic() < give_up:
                try:
                    if await self._is_sealed():
                        return
                except ForgottenError:
                    self._known = None
                except StoreUnavailableError as error:
                    self._known = None
                    lost += 1
                    if not error.retryable or lost >= _LOST_CONNECTIONS:
                        raise
                tries += 1
                await self._pause(tries)
        raise StoreUnavailableError(f"{self._store}: others append so fast that it could not be sealed")

    async def _is_sealed(self) -> bool:
        """Try to seal; whether it is sealed now."""
        known = self._known or await self._learn()
        if known.is_behind:
            await self._follow(known)
        if known.sealed:
            return True
        seal: Document = {"_id": known.position + 1, "stream": SEALED, "version": 1, "count": 0, "events": []}
        _, refusal = await self._write([seal], known)
        if refusal is None:
            known.sealed = True
        elif refusal["code"] == failures.DUPLICATE_KEY:
            known.is_behind = True
        else:
            raise StoreUnavailableError(f"{self._store}: {refusal['errmsg']}", retryable=False)
        return known.sealed

    # ---- one group

    async def _until_done(self, todo: _Open) -> None:
        give_up = time.monotonic() + self._timeout
        lost = tries = 0
        reason = StoreUnavailableError(f"{self._store}: others append so fast that this had no turn")
        while todo.left:
            if tries and time.monotonic() > give_up:
                self._leave(todo, reason)
                return
            try:
                known = self._known or await self._learn()
                before = len(todo.left)
                if not await self._advance(todo, known) or len(todo.left) == before:
                    tries += 1
                    await self._pause(tries)
            except ForgottenError:
                self._known = None
                tries += 1
            except StoreUnavailableError as error:
                # The driver finds the next primary, or the same one again; what was sent is then told by its ids.
                self._known = None
                lost += 1
                tries += 1
                reason = error
                if not error.retryable or lost >= _LOST_CONNECTIONS:
                    self._leave(todo, error)
            except StoreClosedError as error:
                self._leave(todo, error)

    async def _pause(self, tries: int) -> None:
        if tries > 1:
            longest = min(_SHORTEST_PAUSE * 2 ** min(tries, 10), _LONGEST_PAUSE)
            await asyncio.sleep(self._chance.uniform(0, longest))

    def _leave(self, todo: _Open, error: StoreError) -> None:
        """Give all that is left an error, which says of each whether it may be stored."""
        for index in list(todo.left):
            mine = another(error)
            if isinstance(error, StoreUnavailableError):
                mine = StoreUnavailableError(
                    error.reason, stored=None if index in todo.sent else False, retryable=error.retryable
                )
                mine.__cause__ = error.__cause__
            todo.is_done(index, mine)

    async def _advance(self, todo: _Open, known: _Known) -> bool:
        """Answer what can be answered now, and insert the rest; false where somebody else was first."""
        if known.is_behind:
            await self._follow(known)
        asked = [
            index
            for index in todo.left
            if known.sealed or not self._seems_to_fit(todo.group[index], index, todo)
        ]
        if asked:
            await self._ask_about(todo, asked, known)
        while ready := [index for index in todo.left if index not in todo.doubtful]:
            if known.sealed or not await self._insert(todo, ready, known):
                return False
        return True

    def _seems_to_fit(self, append: PendingAppend, index: int, todo: _Open) -> bool:
        """Whether to insert it without a question: what is known of a stream is never above where the stream is."""
        if index in todo.doubtful:
            return False
        head = self._heads.get(append.stream)
        if head is None:
            # A stream of which nothing is known has no document that begins at version 1, or the index finds it.
            return append.expected_version == 0
        return _is_at(append, head)

    async def _ask_about(self, todo: _Open, asked: Sequence[int], known: _Known) -> None:
        """Ask where streams are; then an append fits, or is a repeat, or a conflict."""
        heads = await self._find_heads([todo.group[index].stream for index in asked], known)
        for index in asked:
            append = todo.group[index]
            todo.doubtful.discard(index)
            head = heads[append.stream]
            version = head.version
            if version == append.expected_version:
                if known.sealed:
                    todo.is_done(index, StoreSealedError(self._store))
                elif not _is_at(append, head):
                    conflict = VersionConflictError(append.stream, version, version, is_another_history=True)
                    todo.is_done(index, conflict)
                continue
            outcome: Outcome | None = None
            if 0 <= append.expected_version < version:
                outcome = await self._repeated(append, known)
            if outcome is None and known.sealed:
                # Whoever is told of a conflict decides again, which a sealed store makes pointless.
                outcome = StoreSealedError(self._store)
            todo.is_done(
                index, outcome or VersionConflictError(append.stream, append.expected_version, version)
            )

    async def _insert(self, todo: _Open, ready: Sequence[int], known: _Known) -> bool:
        """Insert as much as one command takes, up to the first that is refused; false if somebody else was first."""
        indexes, documents = self._documents(todo.group, ready, known.position)
        try:
            stored, refusal = await self._write(documents, known)
        except StoreUnavailableError as error:
            if error.stored is None:
                todo.sent.update(indexes)
            raise
        except ValueError:
            if not self._set_aside(todo, indexes, documents):
                raise
            return True
        now = time.monotonic()
        for index, document in zip(indexes[:stored], documents[:stored], strict=True):
            version = document["version"] + document["count"] - 1
            known.moves_to(document, document["events"][0]["id"])
            known.told_at = now
            self._heads.put(document["stream"], StreamEnd(version, document["events"][-1]["id"]))
            todo.is_done(index, Appended(version, known.position))
        if refusal is None:
            return True
        return await self._refused(todo, indexes[stored], refusal, known)

    def _set_aside(self, todo: _Open, indexes: Sequence[int], documents: Sequence[Document]) -> bool:
        """Answer those that cannot even be sent, and have kept the others from being sent; whether there are any."""
        found = False
        for index, document in zip(indexes, documents, strict=True):
            if reason := failures.why_no_bson(document):
                found = True
                reason = f"{self._store}: this append cannot be stored: {reason}"
                todo.is_done(index, StoreUnavailableError(reason, stored=False, retryable=False))
        return found

    async def _write(self, documents: Sequence[Document], known: _Known) -> tuple[int, Document | None]:
        """Insert documents behind what is known; how many went in, and why the next one did not.

        In one command with the question whether that still is there, for a database may be restored over a connection
        that stands, and into a collection with the same UUID; but not in a flood, see `JUST_NOW`.
        """
        guards = 0
        command = self._commands.insert(documents, known.log)
        if not known.position or (len(documents) >= MANY and time.monotonic() - known.told_at < JUST_NOW):
            pass
        elif self._may_update:
            guards = 1
            command = self._commands.insert_behind(*known.last, documents, known.log)
        elif not await self._ask(self._commands.is_there(*known.last, known.log)):
            raise ForgottenError
        try:
            refused = failures.refusals(await self._driver.write(command))
        except StoreUnavailableError as error:
            if guards and error.__cause__ is not None and failures.is_of_authentication(error.__cause__):
                self._may_update = False
                raise ForgottenError from error
            raise
        if not refused:
            return len(documents), None
        refusal = refused[0]
        if refusal["index"] < guards or refusal["code"] == failures.COLLECTION_UUID_MISMATCH:
            raise ForgottenError
        return refusal["index"] - guards, refusal

    async def _refused(self, todo: _Open, index: int, refusal: Document, known: _Known) -> bool:
        """One was refused, and those behind it were not tried; false if somebody else was first."""
        if refusal["code"] != failures.DUPLICATE_KEY:
            reason = f"{self._store}: MongoDB refuses this append: {refusal['errmsg']}"
            todo.is_done(index, StoreUnavailableError(reason, retryable=False))
            return True
        if "_id" not in refusal["keyPattern"]:
            # The stream has an append there: ours, or a stranger's. The others go on without it.
            todo.doubtful.add(index)
            return True
        known.is_behind = True
        return False

    def _documents(
        self, group: Group, ready: Sequence[int], position: int
    ) -> tuple[list[int], list[dict[str, Any]]]:
        now = self._wall()
        indexes: list[int] = []
        documents: list[dict[str, Any]] = []
        size = 0
        for index in ready:
            append = group[index]
            count = len(append.events)
            size += append.size + (count + 1) * EVENT_OVERHEAD
            if documents and size > MAX_COMMAND_BYTES:
                break
            indexes.append(index)
            documents.append(as_document(append, position + 1, now))
            position += count
        return indexes, documents

    # ---- what is known

    async def _learn(self) -> _Known:
        """Read the end of the log; of streams nothing is known then."""
        self._known = None
        self._heads.clear()
        commands = self._commands
        found = (await self._driver.ask(commands.collection(commands.events)))["cursor"]["firstBatch"]
        if not found:
            raise StoreUnavailableError(
                f"{self._store}: its collection {commands.events} is gone, from under a store that is open"
            )
        await self._check_index()
        log = SameLog(found[0]["info"]["uuid"], self._connections)
        known = _Known(log, 0)
        for document in await self._ask(commands.newest(log)):
            if document["stream"] != SEALED:
                known.moves_to(document, document["first_id"])
                break
            known.sealed = True
        self._known = known
        return known

    async def _check_index(self) -> None:
        """Without it nothing would hold two writers apart. It is not made here: nor would the collection be."""
        key = self._commands.index_of_events()
        for index in await self._ask(self._commands.indexes_of_events()):
            if index["key"] == key and index.get("unique"):
                return
        raise StoreUnavailableError(
            f"{self._store}: its collection {self._commands.events} is without its index on {', '.join(key)}: it is being "
            "restored; or else open the store anew, which makes it again"
        )

    async def _follow(self, known: _Known) -> None:
        """Read what others have appended since; it tells of their streams, too.

        Also what a majority does not have yet: to go right behind it is the only way not to be late for ever. If it
        is rolled back, then with it what we put behind it; and that we put nothing there after it was rolled back,
        `insert_behind` takes care of. Without the right to do that we wait until it lasts.
        """
        behind = await self._ask(
            self._commands.documents_behind(
                known.position, MAX_FOLLOWED, known.log, lasting=not self._may_update
            )
        )
        if len(behind) == MAX_FOLLOWED:
            raise ForgottenError
        for document in behind:
            if document["stream"] == SEALED:
                known.sealed = True
                return
            known.moves_to(document, document["first_id"])
            self._heads.put(document["stream"], end_of(document))

    async def _find_heads(self, streams: Sequence[str], known: _Known) -> dict[str, StreamEnd]:
        """Where streams are, as of now; known from now on."""
        heads = dict.fromkeys(streams, StreamEnd(0, ""))
        for start in range(0, len(streams), MAX_STREAMS):
            asked = streams[start : start + MAX_STREAMS]
            for document in await self._ask(self._commands.heads(asked, known.log)):
                heads[document["_id"]] = end_of(document)
        for stream, head in heads.items():
            self._heads.put(stream, head)
        return heads

    async def _repeated(self, append: PendingAppend, known: _Known) -> Appended | None:
        """The first result of an append that stands where it expects to stand."""
        expected, count = append.expected_version, len(append.events)
        between = await self._ask(
            self._commands.stream_between(
                append.stream, expected, expected + count, narrow=("id",), log=known.log
            )
        )
        if not between or between[0]["version"] != expected + 1:
            # It is no append of ours that ends in the middle of another one's; but events are events.
            between = [
                *await self._ask(
                    self._commands.stream_around(append.stream, expected, narrow=("id",), log=known.log)
                ),
                *between,
            ]
        there: list[tuple[str, int]] = [
            (event["id"], int(document["_id"]) + n)
            for document in between
            for n, event in enumerate(document["events"])
            if document["version"] + n > expected
        ][:count]
        if [id for id, _ in there] != [event.id for event in append.events]:
            return None
        return Appended(expected + count, there[-1][1])

    async def _ask(self, command: Document) -> list[Document]:
        documents: list[Document] = (await self._driver.ask(command))["cursor"]["firstBatch"]
        return documents


def _is_at(append: PendingAppend, end: StreamEnd) -> bool:
    """Whether the stream ends where the append expects it, and with the event that it expects there."""
    return append.expected_version == end.version and (
        not end.version or append.last_id in {"", end.event_id}
    )


def end_of(document: Document) -> StreamEnd:
    """The end of a stream, from its last document without its events."""
    return StreamEnd(int(document["version"]) + document["count"] - 1, document["last_id"])


def as_document(append: PendingAppend, position: int, now: int) -> dict[str, Any]:
    """An append as it is stored, at a position."""
    return {
        "_id": position,
        "stream": append.stream,
        "version": append.expected_version + 1,
        "count": len(append.events),
        "recorded_at": now,
        "events": [
            {"id": event.id, "type": event.type, "data": event.data, "metadata": event.metadata}
            if event.recorded_at is None
            else {
                "id": event.id,
                "type": event.type,
                "data": event.data,
                "metadata": event.metadata,
                "recorded_at": event.recorded_at,
            }
            for event in append.events
        ],
    }
