"""The one connection that appends.

A writer gives positions itself, right behind the last event that it knows (`append_known`). Whoever was first there,
or in one of the streams, makes that fail as a whole, and then the group goes the locked way (`append_locked`), in
which the database finds out what is the case with each append.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import asyncpg
import msgspec
from asyncpg.prepared_stmt import PreparedStatement

from rehydrate.errors import (
    StoreError,
    StoreSealedError,
    StoreUnavailableError,
    VersionConflictError,
)
from rehydrate.store.another import another
from rehydrate.store.group_commit import Group, Outcome, PendingAppend
from rehydrate.store.known_heads import KnownHeads
from rehydrate.store.port import Appended
from rehydrate.store.postgres import sql
from rehydrate.store.postgres.address import Address
from rehydrate.store.postgres.alarm import Alarm
from rehydrate.store.postgres.connection import (
    Connection,
    connect,
    disconnect,
    noticing_its_end,
    patience,
)
from rehydrate.store.postgres.draft import Draft, Known
from rehydrate.store.postgres.failures import (
    COLLISION,
    DEADLOCK,
    FAILURES,
    LOCKED,
    NOT_THERE,
    SEALED,
    as_store_error,
    code_of,
    ends_a_wait_for_a_standby,
    is_of_the_append,
    is_of_the_connection,
    message_of,
)
from rehydrate.store.postgres.json_text import json_text

logger = logging.getLogger(__name__)

LOCKED_GROUPS: Final = 20
"""How many groups go the locked way after somebody else has written."""
MAX_COLLISIONS: Final = 100
"""With the lock held only those collide who do not take it: one group each, then they take it, too."""
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0
"""Seconds between two attempts to connect."""
MANY: Final = 16
"""Fewer appends are not worth making ready: that would take them longer than it could save."""
_LEADS_NOWHERE: Final = frozenset({COLLISION, DEADLOCK, NOT_THERE, SEALED})
"""Nothing was stored, and the next attempt tells why."""
_WHO_IS_IT: Final = 0.8
"""After this part of the time-out for locks somebody looks who holds it."""


class Writer:
    """Takes one group after the other, and says how each of its appends ended."""

    def __init__(
        self,
        address: Address,
        wall: Callable[[], int],
        who_blocks: Callable[[int], Awaitable[str]],
        completed: Callable[[Group, Sequence[Outcome]], None],
        failed: Callable[[Group, StoreError], None],
    ) -> None:
        self._address = address
        self._wall = wall
        self._who_blocks = who_blocks
        self._completed = completed
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        """Writes one group after the other, as long as there are any."""
        self._next: Group | None = None
        self._go_on: Callable[[], None] | None = None
        """Called in the next turn, to `send` what there is by then."""
        self._connection: Connection | None = None
        self._prepared: dict[str, PreparedStatement[asyncpg.Record]] = {}
        """What this connection was asked before."""
        self._who_is_it = Alarm(address.lock_timeout * _WHO_IS_IT, self._look_who_blocks)
        self._too_late = Alarm(patience(address), self._give_up)
        self._heads = KnownHeads[Known]()
        """May be too low, where others have written; too high they are only if the database was restored."""
        self._under_way: Draft | None = None
        """The group that the server has, if it goes the optimistic way."""
        self._draft: Draft | None = None
        """What is ready of the group after it."""
        self._position = 0
        """The last position that is known, and the id of the event there: 0 if nothing is known."""
        self._id = ""
        self._locked = 1
        """How many groups still go the locked way."""
        self._pause = 0.0
        self._blocked_by = ""
        self._is_alone = False
        """Whether the server has warned that it did not wait for its standby."""
        self._looking: asyncio.Task[None] | None = None

    def use(self, connection: Connection) -> None:
        """Append through this connection, as long as it lives."""
        self._connection = connection
        self._prepared.clear()
        self._is_alone = False
        connection.add_log_listener(self._warned)

    @property
    def pid(self) -> int:
        """Of the session that appends, 0 if there is none now."""
        connection = self._connection
        return 0 if connection is None or connection.is_closed() else connection.get_server_pid()

    def begin(self, go_on: Callable[[], None]) -> None:
        """Call this in a moment, and `send` from within it: then the group need not wait for another turn."""
        if self._task is None:
            self._start(go_on)
        else:
            self._go_on = go_on

    def send(self, group: Group) -> None:
        """Begin to commit a group."""
        self._next = group
        if self._task is None:
            self._start()

    def make_ready(self, appends: Sequence[PendingAppend]) -> None:
        """These will be in the next group: do what can be done for them while the server is busy with this one."""
        if self._under_way is None or len(appends) < MANY:
            return
        under_way, draft = self._under_way, self._draft
        if draft is None or not draft.is_behind(under_way.position, under_way.last_id, appends):
            draft = Draft(self._heads, under_way.position, under_way.last_id, under_way.new_heads)
        self._draft = None
        try:
            if draft.take(appends, self._wall()):
                draft.encode()
                self._draft = draft
        except Exception:
            # Of what cannot be sent its owner hears when it is sent.
            logger.debug("%s: an append could not be made ready", self._address.place, exc_info=True)

    async def close(self) -> None:
        """Give the connection back; nothing is under way any more."""
        self._who_is_it.close()
        self._too_late.close()
        connection, self._connection = self._connection, None
        if connection is not None:
            await disconnect(connection)

    # ---- one group after the other

    def _start(self, go_on: Callable[[], None] | None = None) -> None:
        work = self._work()
        try:
            # Not by a factory of the loop's, which may have it begin at once, in here.
            self._task = asyncio.Task(work, loop=self._loop)
        except BaseException:
            # The stack has no room.
            work.close()
            raise
        self._go_on = go_on
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._task is not task:
            return  # It has seen to what comes next by itself.
        # Somebody has ended all tasks of this loop, this one before its first step: nothing of it was done.
        self._task = None
        if self._go_on is not None:
            self._called()
        elif self._next is not None:
            self._start()

    def _called(self) -> None:
        go_on, self._go_on = self._go_on, None
        if go_on is not None:
            go_on()

    async def _work(self) -> None:
        try:
            while True:
                self._called()
                while self._next is not None:
                    group, self._next = self._next, None
                    await self._commit(group)
                if self._go_on is None:
                    return
                # Whoever was told of a group just now submits in the next turn, before this goes on.
                await asyncio.sleep(0)
        finally:
            self._task = None
            if (self._next is not None or self._go_on is not None) and not self._loop.is_closed():
                self._start(self._go_on)

    async def _commit(self, group: Group) -> None:
        try:
            outcomes = await self._append(group)
        except _Unfit as unfit:
            self._failed(group, StoreError(f"{self._address.shown}: this append cannot be stored: {unfit}"))
        except StoreError as error:
            self._completed(group, [another(error) for _ in group])
        except BaseException as error:
            reason = f"{self._address.shown}: an append ended with {error!r}"
            self._completed(group, [StoreUnavailableError(reason, stored=None) for _ in group])
            raise
        else:
            self._completed(group, outcomes)

    async def _append(self, group: Group) -> list[Outcome]:
        connection = await self._connected()
        self._blocked_by = ""
        self._who_is_it.begin()
        self._too_late.begin()
        try:
            with noticing_its_end(connection):
                outcomes = None if self._locked else await self._append_next(connection, group)
                if outcomes is None:
                    outcomes = await self._append_locked(connection, group)
        except FAILURES as error:
            raise self._refusal(error, connection) from error
        except (StoreError, _Unfit):
            raise
        except BaseException:
            # A mistake of this program, after which it is not known what was stored.
            self._drop()
            raise
        finally:
            self._who_is_it.end()
            self._too_late.end()
        if self._is_alone:
            # Sent again, it is found, and waits for the standby again.
            self._drop()
            reason = f"{self._address.place}: the server was told to wait for its standby no longer"
            raise StoreUnavailableError(reason, stored=None)
        return outcomes

    async def _append_next(self, connection: Connection, group: Group) -> list[Outcome] | None:
        """The optimistic way; None if it led nowhere, and then nothing was stored."""
        draft, self._draft = self._draft, None
        if draft is None or not draft.is_behind(self._position, self._id, group):
            draft = Draft(self._heads, self._position, self._id)
        if not draft.take(group, self._wall()):
            return None  # A conflict, or a repeat.
        self._under_way = draft
        try:
            if draft.is_one_event:
                append_one = await self._statement(connection, sql.APPEND_ONE)
                await append_one.fetch(self._position, self._id, *msgspec.structs.astuple(draft.rows[0]))
            else:
                await self._append_many(connection, draft)
        except BaseException as error:
            # What was to come behind it.
            self._draft = None
            if isinstance(error, asyncpg.PostgresError) and code_of(error) in _LEADS_NOWHERE:
                return None
            raise
        finally:
            self._under_way = None
        self._learn(draft.position, draft.last_id, draft.new_heads)
        return draft.outcomes

    async def _append_many(self, connection: Connection, draft: Draft) -> None:
        if not draft.must_be_there:
            append_known = await self._statement(connection, sql.APPEND_KNOWN)
            await append_known.fetch(self._position, self._id, _sendable(draft.text))
            return
        expected = _sendable(json_text, draft.must_be_there)
        append_expecting = await self._statement(connection, sql.APPEND_EXPECTING)
        ((firsts,),) = await append_expecting.fetch(self._position, self._id, expected, _sendable(draft.text))
        draft.learn(json.loads(firsts))

    async def _statement(self, connection: Connection, text: str) -> PreparedStatement[asyncpg.Record]:
        statement = self._prepared.get(text)
        if statement is None:
            statement = self._prepared[text] = await connection.prepare(text)
        return statement

    async def _append_locked(self, connection: Connection, group: Group) -> list[Outcome]:
        """The way on which the database tells what became of each append."""
        now = self._wall()
        appends = _sendable(
            json_text, [(append.stream, append.expected_version, append.last_id) for append in group]
        )
        rows = _sendable(
            json_text,
            [
                (
                    append.stream,
                    append.expected_version + n,
                    event.id,
                    event.type,
                    event.data,
                    event.metadata,
                    now if event.recorded_at is None else event.recorded_at,
                    number,
                )
                for number, append in enumerate(group, 1)
                for n, event in enumerate(append.events, 1)
            ],
        )
        for _ in range(MAX_COLLISIONS):
            try:
                found = await connection.fetchrow(sql.APPEND_LOCKED, self._position, self._id, appends, rows)
            except asyncpg.PostgresError as error:
                if code_of(error) not in _LEADS_NOWHERE:
                    raise
            else:
                assert found is not None
                return self._outcomes(group, found)
        raise StoreUnavailableError(
            f"{self._address.place}: others append all the time without taking the lock"
        )

    def _outcomes(self, group: Group, found: asyncpg.Record) -> list[Outcome]:
        base, base_id, still_there, is_sealed = found[:4]
        heads: list[tuple[int, str]] = json.loads(found["heads"])
        repeated_at: list[int | None] = json.loads(found["repeated_at"] or "[]")
        if not still_there:
            logger.error(
                "%s: event %s is no longer at position %d: the database was brought back to an older state",
                *(self._address.place, self._id, self._position),
            )
            self._heads.clear()
        if self._position and (base != self._position or not still_there):
            self._locked = LOCKED_GROUPS
        elif self._locked:
            self._locked -= 1
        position, last_id = base, base_id
        outcomes: list[Outcome] = []
        new_heads: dict[str, Known] = {}
        for n, append in enumerate(group):
            expected, count = append.expected_version, len(append.events)
            head, head_id = heads[n]
            if head != expected:
                outcomes.append(self._repeated(append, head, repeated_at[n], is_sealed=is_sealed))
            elif is_sealed:
                outcomes.append(StoreSealedError(self._address.shown))
            elif head and append.last_id not in {"", head_id}:
                outcomes.append(VersionConflictError(append.stream, expected, head, is_another_history=True))
            else:
                first = 0 if expected else position + 1
                position += count
                last_id = append.events[-1].id
                outcomes.append(Appended(expected + count, position))
                new_heads[append.stream] = Known(expected + count, last_id, first)
        self._learn(position, last_id or "", new_heads)
        return outcomes

    def _repeated(self, append: PendingAppend, head: int, last: int | None, *, is_sealed: bool) -> Outcome:
        """The first result of an append that stands where it expects to stand; else why it cannot stand there."""
        expected = append.expected_version
        if last is not None:
            return Appended(expected + len(append.events), last)
        if is_sealed:
            # Whoever is told of a conflict decides again, which a sealed store makes pointless.
            return StoreSealedError(self._address.shown)
        return VersionConflictError(append.stream, expected, head)

    def _learn(self, position: int, last_id: str, new_heads: dict[str, Known]) -> None:
        self._position = position
        self._id = last_id
        self._heads.update(new_heads)

    # ---- trouble

    def _refusal(self, error: BaseException, connection: Connection) -> Exception:
        """What an error means to those whose appends are in the group."""
        if is_of_the_append(error):
            return _Unfit(message_of(error))
        if is_of_the_connection(error) or connection.is_closed():
            self._drop()
        if code_of(error) == LOCKED and self._blocked_by:
            reason = f"{self._address.place}: locked for more than {self._address.lock_timeout:g} s by {self._blocked_by}"
            return StoreUnavailableError(reason, stored=False)
        return as_store_error(error, self._address.place, stored=None)

    def _warned(self, _: object, message: asyncpg.PostgresLogMessage) -> None:
        self._is_alone = self._is_alone or ends_a_wait_for_a_standby(message)

    def _look_who_blocks(self) -> None:
        self._looking = self._loop.create_task(self._name_who_blocks(self.pid))

    def _give_up(self) -> None:
        """The server does not answer: whoever waits for it meets a connection that has ended."""
        if self._connection is not None:
            self._connection.terminate()

    async def _name_who_blocks(self, pid: int) -> None:
        try:
            self._blocked_by = await self._who_blocks(pid)
        except StoreError as error:
            logger.debug("%s: nobody can say who blocks: %s", self._address.place, error)

    # ---- the connection

    async def _connected(self) -> Connection:
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        self._drop()
        if self._pause:
            # Chance, so that many processes do not come back at the same time.
            await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))
        try:
            connection = await connect(self._address, appends=True)
        except StoreError:
            self._pause = min(max(2 * self._pause, FIRST_PAUSE), LONGEST_PAUSE)
            raise
        self._pause = 0.0
        self.use(connection)
        return connection

    def _drop(self) -> None:
        """Begin with another connection, and know nothing: behind it may be a database that was restored."""
        connection, self._connection = self._connection, None
        self._prepared.clear()
        if connection is not None:
            connection.terminate()
        self._heads.clear()
        self._draft = None
        self._position = 0
        self._id = ""
        self._locked = max(self._locked, 1)


class _Unfit(Exception):
    """One of the appends of a group cannot be stored, whichever it is."""


def _sendable(encode: Callable[..., str], *values: object) -> str:
    """A list as JSON. What cannot even be sent must meet its owner only."""
    try:
        return encode(*values)
    except Exception as error:
        raise _Unfit(str(error)) from error
