"""Appending: one message each, many under way, and each expects what is the last message of its subject.

JetStream alone decides: a message is stored only if the expectation holds, so nothing here has to be locked, and a
message that arrives late, or twice, finds another one in its place.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import msgspec
from nats.aio.msg import Msg

from rehydrate.errors import (
    AppendTooLargeError,
    StoreClosedError,
    StoreError,
    StoreSealedError,
    StoreUnavailableError,
    VersionConflictError,
)
from rehydrate.nats.connection import Connection, NotAnswered
from rehydrate.store.known_heads import KnownHeads
from rehydrate.store.nats import failures
from rehydrate.store.nats.envelope import pack, position_of
from rehydrate.store.nats.history import NOTHING, Entry, History, KnownEnd
from rehydrate.store.nats.jetstream import PAUSE, PubAck, decode_ack
from rehydrate.store.nats.patience import Patience
from rehydrate.store.port import Appended, AppendWaiter, NewEvent

logger = logging.getLogger(__name__)

MAX_UNDER_WAY: Final = 1_024
MAX_BYTES_UNDER_WAY: Final = 32 * 1024 * 1024
EXPECTS: Final = "Nats-Expected-Last-Subject-Sequence"
_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.25
_HEADERS: Final = 256
"""Bytes of a message that are not ours."""
_FORMER: Final = 2.5
"""Seconds after which a leader that was replaced knows it: leaders tell of themselves every second."""


class Append(msgspec.Struct, gc=False):
    """An append on its way."""

    stream: str
    events: Sequence[NewEvent]
    expected: int
    waiter: AppendWaiter
    last_id: str
    number: int
    """In the order of submission."""
    deadline: float
    payload: bytes = b""
    is_tried: bool = False
    """Whether it may be stored, as far as we know."""
    sent_behind: int | None = None
    """The message that its stream ended with when it was sent."""
    looks: int = 0
    """How often we had to look for what became of it."""


class Log:
    """The appends of one opened store."""

    def __init__(
        self,
        connection: Connection,
        history: History,
        *,
        wall: Callable[[], int],
        stored: Callable[[int], None],
    ) -> None:
        self._connection = connection
        self._history = history
        self._shown = connection.address.shown
        self._timeout = connection.address.timeout
        self._wall = wall
        self._stored = stored
        self._loop = asyncio.get_running_loop()
        self._ends: KnownHeads[KnownEnd] = KnownHeads()
        self._era = 0
        self._queue: deque[Append] = deque()
        self._behind: dict[str, deque[Append]] = {}
        """The streams with an append under way, and what waits behind it."""
        self._unanswered: list[Append] = []
        self._submitted = 0
        self._under_way = 0
        self._patience = Patience()
        self._bytes = 0
        self._learning: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_scheduled = False
        self._closed: str | None = None
        self._idle: asyncio.Future[None] | None = None

    # ---- from outside

    def submit(
        self,
        stream: str,
        events: Sequence[NewEvent],
        expected: int,
        waiter: AppendWaiter,
        last_id: str,
    ) -> StoreError | None:
        if self._closed is not None:
            return StoreClosedError(self._closed)
        self._submitted += 1
        deadline = self._loop.time() + self._timeout
        append = Append(stream, events, expected, waiter, last_id, self._submitted, deadline)
        behind = self._behind.get(stream)
        if behind is not None:
            behind.append(append)
            return None
        self._behind[stream] = deque()
        self._enqueue(append)
        return None

    @property
    def era(self) -> int:
        """Changes when what was known is forgotten."""
        return self._era

    def learn(self, stream: str, end: KnownEnd, era: int) -> None:
        """Somebody has read, since that era, where a stream ends: whoever appends to it next need not ask."""
        if stream not in self._behind and era == self._era:
            self._ends.put(stream, end)

    def forget(self) -> None:
        """What was known may be another history's by now."""
        self._era += 1
        self._ends.clear()

    async def close(self) -> None:
        """Refuse every new append, and return when those taken have their outcome."""
        if self._closed is None:
            self._closed = "it is closed: open it again"
        if self._behind:
            if self._idle is None:
                self._idle = self._loop.create_future()
            await asyncio.shield(self._idle)
        for task in list(self._tasks):
            await asyncio.wait([task])

    def abandon(self, reason: str) -> None:
        """Refuse every new append, and forget those taken: their process is another one."""
        self._closed = reason

    # ---- sending

    def _enqueue(self, append: Append) -> None:
        self._queue.append(append)
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._send_queued)

    def _send_queued(self) -> None:
        """Send in the order of submission, as much as there is room for; first what has to be sent again."""
        self._is_scheduled = False
        if self._learning is not None:
            return
        if self._unanswered:
            again = sorted(self._unanswered, key=lambda append: append.number)
            self._unanswered.clear()
            self._learning = self._begin(self._send_again(again))
            return
        group: list[Append] = []
        size = 0
        while self._queue and self._has_room(len(group), size):
            append = self._queue.popleft()
            size += sum(len(event.data) + len(event.metadata) for event in append.events)
            group.append(append)
        unknown = [append for append in group if append.expected > 0 and self._end(append) is None]
        if unknown:
            # The others wait with them: what was submitted in one go lies in the log in that order.
            self._learning = self._begin(self._learn_and_send(group, unknown))
            return
        for append in group:
            self._publish(append)

    def _has_room(self, more: int, size: int) -> bool:
        return (self._under_way + more < MAX_UNDER_WAY and self._bytes + size < MAX_BYTES_UNDER_WAY) or not (
            self._under_way or more
        )

    async def _learn_and_send(self, group: list[Append], unknown: list[Append]) -> None:
        era = self._era
        try:
            ends = await self._history.ends([append.stream for append in unknown])
            for append, end in zip(unknown, ends, strict=True):
                self._put(append.stream, end, era)
        except StoreError as error:
            logger.debug("%s: where streams end is asked for later: %s", self._shown, error)
        finally:
            self._learning = None
            for append in group:
                self._publish(append)
            self._send_queued()

    async def _send_again(self, group: list[Append]) -> None:
        """Look what became of appends without an answer, and send again, in the order of submission, what is not there."""
        found: Sequence[KnownEnd | Appended | StoreError] = ()
        try:
            await asyncio.sleep(min(max(append.looks for append in group) * _FIRST_PAUSE, _LONGEST_PAUSE))
            found = await asyncio.gather(*map(self._look, group))
        finally:
            self._learning = None
            broken_off = [self._unavailable(append, "it was broken off") for append in group[len(found) :]]
            for append, outcome in zip(group, [*found, *broken_off], strict=True):
                self._go_on(append, outcome)
            self._send_queued()

    def _put(self, stream: str, end: KnownEnd, era: int) -> None:
        if era == self._era:
            self._ends.put(stream, end)

    def _end(self, append: Append) -> KnownEnd | None:
        end = self._ends.get(append.stream)
        return NOTHING if end is None and append.expected == 0 else end

    def _publish(self, append: Append) -> None:
        """Send it, if what is known of its stream says that it may be stored; else look."""
        self._under_way += 1
        if self._loop.time() >= append.deadline and not append.is_tried:
            # It has waited for too long behind others; of what was never sent it can be told what became of it.
            self._loop.call_soon(self._finish, append, self._unavailable(append, self._connection.why_not))
            return
        end = self._end(append)
        is_known = end is not None and end.version == append.expected
        if end is None or not is_known or (append.last_id and append.last_id != end.event_id):
            self._begin(self._resolve(append))
        else:
            self._send(append, end)

    def _send(self, append: Append, end: KnownEnd) -> None:
        if not append.payload:
            append.payload = pack(append.events, append.expected + 1, self._wall())
            self._bytes += len(append.payload)
            limit = self._connection.max_payload - _HEADERS
            if len(append.payload) > limit:
                too_large = AppendTooLargeError(append.stream, "bytes", len(append.payload), limit)
                self._loop.call_soon(self._finish, append, too_large)
                return
        self._put_on_the_wire(append, end)

    def _put_on_the_wire(self, append: Append, end: KnownEnd) -> None:
        sent = self._loop.time()
        append.sent_behind = end.number

        def answered(message: Msg | NotAnswered) -> bool:
            if isinstance(message, NotAnswered):
                append.is_tried = append.is_tried or message.is_sent
                self._not_answered(append)
                return False
            self._patience.heard_after(self._loop.time() - sent)
            self._answered(append, decode_ack(message.data))
            return False

        self._connection.call(
            self._history.subject(append.stream),
            append.payload,
            answered,
            headers={EXPECTS: str(end.number)},
            timeout=min(self._patience.seconds, max(0.0, append.deadline - sent)),
        )

    def _answered(self, append: Append, ack: PubAck) -> None:
        error = ack.error
        if error is None:
            self._finish(append, self._done(append, ack.seq))
        elif error.err_code == failures.WRONG_LAST:
            self._begin(self._resolve(append, is_refused=True))
        elif error.err_code == failures.SEALED:
            self._begin(self._resolve(append, is_refused=True, is_sealed=True))
        elif error.err_code in failures.FULL:
            full = StoreUnavailableError(
                f"{self._shown} takes no more bytes ({error.description}): raise max_bytes of the JetStream stream, "
                "or the storage limit of the server",
                stored=None if append.is_tried else False,
                retryable=False,
            )
            self._finish(append, full)
        elif error.err_code == failures.IN_DOUBT or error.code == failures.UNAVAILABLE:
            append.is_tried = True
            self._not_answered(append)
        else:
            refused = StoreUnavailableError(
                f"{self._shown}: JetStream refuses an append: {error.description} ({error.err_code})",
                stored=None if append.is_tried else False,
            )
            self._finish(append, refused)

    def _not_answered(self, append: Append) -> None:
        self._unanswered.append(append)
        self._schedule()

    def _done(self, append: Append, number: int) -> Appended:
        """It is stored as the message of that number."""
        version = append.expected + len(append.events)
        self._ends.put(append.stream, KnownEnd(version, number, append.events[-1].id))
        position = position_of(number, len(append.events) - 1)
        self._stored(position)
        return Appended(version, position)

    # ---- looking

    async def _resolve(self, append: Append, *, is_refused: bool = False, is_sealed: bool = False) -> None:
        """Find out from the leader how an append ended that cannot be stored as it is; send it where it can.

        `is_refused`: the server has just said that it does not store it as it was sent.
        """
        outcome: KnownEnd | Appended | StoreError = self._unavailable(append, "it was broken off")
        try:
            await asyncio.sleep(min(append.looks * _FIRST_PAUSE, _LONGEST_PAUSE))
            outcome = await self._look(append, is_refused=is_refused, is_sealed=is_sealed)
        finally:
            self._go_on(append, outcome)

    def _go_on(self, append: Append, outcome: KnownEnd | Appended | StoreError) -> None:
        if isinstance(outcome, KnownEnd):
            self._send(append, outcome)
        else:
            self._finish(append, outcome)

    async def _look(
        self, append: Append, *, is_refused: bool = False, is_sealed: bool = False
    ) -> KnownEnd | Appended | StoreError:
        """How an append ended, or the end of its stream, behind which it may be stored."""
        append.looks = 2 * append.looks + 1
        try:
            async with asyncio.timeout_at(append.deadline):
                found = await self._find(append)
                if append.payload and self._history.is_replicated and _is_shorter(found, append):
                    found = await self._find_for_certain(append)
                if isinstance(found, VersionConflictError) and not is_refused:
                    is_sealed = await self._history.is_sealed()
        except TimeoutError:
            return self._unavailable(append, self._connection.why_not)
        except StoreError as error:
            return self._failed(append, error)
        except Exception as error:
            logger.exception("%s: an append was broken off", self._shown)
            return self._unavailable(append, f"it was broken off: {error!r}", cause=error)
        if is_sealed and isinstance(found, VersionConflictError | KnownEnd):
            return StoreSealedError(self._shown)
        return found

    async def _find_for_certain(self, append: Append) -> KnownEnd | Appended | StoreError:
        """What was there when the append was sent is there no more: the store was set back, or who says so has been replaced.

        Then he refuses for a moment what his successor stores.
        """
        append.is_tried = True
        believed_at = self._loop.time() + _FORMER
        while True:
            await asyncio.sleep(PAUSE)
            found = await self._find(append)
            is_late = self._loop.time() >= believed_at
            if not _is_shorter(found, append) or (is_late and await self._history.is_led()):
                return found

    async def _find(self, append: Append) -> KnownEnd | Appended | StoreError:
        """How it ended; or the end of its stream, behind which it may be stored."""
        era = self._era
        last = await self._history.last(append.stream)
        end = NOTHING if last is None else last.end
        self._put(append.stream, end, era)
        if end.version == append.expected:
            if append.last_id and append.last_id != end.event_id:
                return VersionConflictError(
                    append.stream, append.expected, end.version, is_another_history=True
                )
            return end
        if last is None or end.version < append.expected or append.expected < 0:
            return VersionConflictError(append.stream, append.expected, end.version)
        behind = await self._behind_expected(append, last)
        if behind.envelope.version == append.expected + 1 and behind.envelope.is_of(append.events):
            position = position_of(behind.number, len(append.events) - 1)
            return Appended(behind.envelope.last_version, position)
        return VersionConflictError(append.stream, append.expected, end.version)

    async def _behind_expected(self, append: Append, last: Entry) -> Entry:
        """What stands where the append was to stand."""
        if last.envelope.version <= append.expected + 1:
            return last
        if append.sent_behind is not None:
            # One question rather than a search: in the time that one takes, whoever was faster is faster again.
            behind = await self._history.next_in(append.stream, append.sent_behind + 1)
            if behind is not None and behind.envelope.version == append.expected + 1:
                return behind
        return await self._history.find(append.stream, append.expected + 1, last.number)

    # ---- ending

    def _finish(self, append: Append, outcome: Appended | StoreError) -> None:
        self._under_way -= 1
        self._bytes -= len(append.payload)
        behind = self._behind[append.stream]
        if behind:
            self._enqueue(behind.popleft())
        else:
            del self._behind[append.stream]
            if self._queue:
                self._send_queued()
        try:
            append.waiter.append_done(outcome)
        except Exception:
            logger.exception("%s: whoever waited for this append failed to hear its outcome", append.stream)
        if self._idle is not None and not self._behind:
            self._idle.set_result(None)
            self._idle = None

    def _failed(self, append: Append, error: StoreError) -> StoreError:
        if isinstance(error, StoreUnavailableError):
            return self._unavailable(append, error.reason, cause=error)
        if isinstance(error, StoreClosedError) and append.is_tried:
            return self._unavailable(append, str(error), cause=error)
        return error

    def _unavailable(
        self, append: Append, why: str, cause: BaseException | None = None
    ) -> StoreUnavailableError:
        stored = None if append.is_tried else False
        what = "it is not known whether this append was stored" if append.is_tried else "nothing was stored"
        reason = why if why.startswith(self._shown) else f"{self._shown}: {why}"
        error = StoreUnavailableError(f"{reason}; {what}", stored=stored)
        error.__cause__ = cause
        return error

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _is_shorter(found: KnownEnd | Appended | StoreError, append: Append) -> bool:
    """Whether the stream ends before the version at which the append was to be stored."""
    return isinstance(found, VersionConflictError) and found.actual < append.expected
