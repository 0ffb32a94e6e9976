"""Many appends, one commit: what a store shares that has to wait for its disk or its network.

    groups = GroupCommit(self._send)

    def submit(self, stream, events, expected_version, waiter, last_id="", last_position=0):
        return groups.submit(stream, events, expected_version, waiter, last_id, last_position)

    def _send(self, group):                    # begins to write; never raises, never completes within
        self._task = asyncio.create_task(self._write(group))

    async def _write(self, group):
        try:
            groups.completed(group, await self._insert(group))     # an outcome for each append
        except NotReachable as error:
            groups.completed(group, [StoreUnavailableError(str(error), stored=None) for _ in group])
        except BadValue as error:
            groups.failed(group, StoreUnavailableError(str(error), retryable=False))

One group is under way at a time, and while it is, the next one collects. An idle store waits for the end of the turn
of the event loop, so that all callers who were woken together share a commit. After a commit the next group goes out at
once, so that the loop works while the server does; or, with `gathers`, when those have had their turn whom the commit has
woken: where a commit costs the same whatever is in it, one for all is cheaper than two for a half each, by turns. A
group holds one append of a stream at most. All of this runs on the event loop, without threads, and without a future per append.

`make_ready` is shown what the next group begins with, as far as it has collected, while a group is under way: work that the
store can do then is not in the way between two groups. Mostly the next group does begin so; where it does not, it was in vain.

`begin` is how an idle store has something called at the end of the turn, where `send` begins in a turn of its own otherwise.

With `split_from` what is the commit's work and what is the event loop's overlap, which helps where the commit is the
work of another process: what waits is sent before the outcomes of the group before it are delivered, and of so many
appends that wait for an idle store the first half is sent alone, so that there is something to deliver meanwhile. Where
the store could not be reached for the first half, the second is not sent and ends alike: who submits many appends in one
go never finds later ones stored in the place of earlier ones.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

import msgspec

from rehydrate.errors import StoreClosedError, StoreError, StoreUnavailableError
from rehydrate.store.another import another
from rehydrate.store.port import Appended, AppendWaiter, NewEvent

logger = logging.getLogger(__name__)

MAX_GROUP_APPENDS: Final = 1_024
MAX_GROUP_BYTES: Final = 16 * 1024 * 1024
MAX_TURN: Final = 0.001
"""Seconds for which outcomes are delivered in one go; then everybody else has a turn."""
MAX_TURN_APPENDS: Final = 128
"""And how many at most. What is let go for one caller and made for the next then alternates, so that the garbage collector,
which counts both, hardly ever has a reason to look at all that is in flight."""


class PendingAppend(msgspec.Struct, eq=False, gc=False):
    """An append that waits for its outcome."""

    stream: str
    events: Sequence[NewEvent]
    expected_version: int
    waiter: AppendWaiter
    size: int
    """Bytes of data and metadata."""
    last_id: str = ""
    """Of the event at the expected version; empty where the caller does not say."""
    last_position: int = 0
    """Where that event is, as far as the caller knows; 0 where it does not say."""


Group: TypeAlias = list[PendingAppend]
Outcome: TypeAlias = Appended | StoreError


class GroupCommit:
    """The appends of one opened store, on their way into its commits."""

    def __init__(
        self,
        send: Callable[[Group], None],
        *,
        max_appends: int = MAX_GROUP_APPENDS,
        max_bytes: int = MAX_GROUP_BYTES,
        max_turn: float = MAX_TURN,
        split_from: int | None = None,
        gathers: bool = False,
        begin: Callable[[Callable[[], None]], object] | None = None,
        make_ready: Callable[[Group], object] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._send = send
        self._begin = begin or self._loop.call_soon
        self._make_ready = make_ready
        self._max_appends = max_appends
        self._max_bytes = max_bytes
        self._max_turn = max_turn
        self._gathers = gathers
        self._split_from = split_from
        self._monotonic = monotonic
        self._pending: dict[str, PendingAppend] = {}
        """The first append of each stream, in the order in which they came."""
        self._behind: dict[str, deque[PendingAppend]] = {}
        """Appends that wait for an earlier one of their stream to leave `_pending`."""
        self._alone: deque[PendingAppend] = deque()
        """Appends of a group that failed; each goes out as a group of its own."""
        self._other_half: Group = []
        """What waits because the group that is under way is half of what waited."""
        self._bytes = 0
        self._busy = False
        """A flush is due, a group is under way, or its outcomes are being delivered."""
        self._under_way = 0
        """How many groups the store has to do: one at most, here."""
        self._undelivered: deque[tuple[int, Iterator[tuple[PendingAppend, Outcome]]]] = deque()
        """Of the groups that have ended, so many at a time."""
        self._is_looking = False
        """It is due that what waits is made ready."""
        self._closed: str | None = None
        self._idle: asyncio.Future[None] | None = None

    def submit(
        self,
        stream: str,
        events: Sequence[NewEvent],
        expected_version: int,
        waiter: AppendWaiter,
        last_id: str = "",
        last_position: int = 0,
    ) -> StoreError | None:
        """Take an append into the next group; None, or why not."""
        if self._closed is not None:
            return StoreClosedError(self._closed)
        size = 0
        for event in events:
            size += len(event.data) + len(event.metadata)
        self._enqueue(PendingAppend(stream, events, expected_version, waiter, size, last_id, last_position))
        if not self._busy:
            self._begin_later()
        return None

    def completed(self, group: Group, outcomes: Sequence[Outcome]) -> None:
        """The group that was sent has ended, with an outcome for each append, in their order."""
        self._under_way -= 1
        is_first = not self._undelivered
        for start in range(0, len(group), MAX_TURN_APPENDS):
            some = slice(start, start + MAX_TURN_APPENDS)
            self._tell_later(group[some], outcomes[some])
        if self._other_half:
            self._end_alike(outcomes)
        is_sent = self._split_from is not None and self._send_next()
        if not is_first:
            return  # The turn in which those before it are delivered has yet to come.
        if is_sent:
            # After what `_send` has begun: the server is not to wait until the outcomes are delivered.
            self._loop.call_soon(self._deliver)
        else:
            self._deliver()

    def failed(self, group: Group, error: StoreError) -> None:
        """Nothing of the group was stored, and it is one of its appends that cannot be.

        Each is sent again alone, so that the error meets its owner only.
        """
        if len(group) == 1:
            self.completed(group, [error])
        else:
            self._under_way -= 1
            self._other_half = []
            self._alone.extend(group)
            self._go_on()

    async def close(self) -> None:
        """Refuse every new append, and return when those taken have their outcome."""
        if self._closed is None:
            self._closed = "it is closed: open it again"
        if self._busy or self._under_way or self._undelivered:
            if self._idle is None:
                self._idle = self._loop.create_future()
            # Shielded: who is cancelled here must not take away the others' wait.
            await asyncio.shield(self._idle)

    def abandon(self, reason: str) -> None:
        """Refuse every new append, and forget those taken: their process is another one."""
        self._closed = reason

    def _begin_later(self) -> None:
        # In this order: if the call fails, as it does where the stack has no room, the next append makes it.
        self._busy = False
        self._begin(self._go_on)
        self._busy = True

    def _enqueue(self, append: PendingAppend) -> None:
        if append.stream not in self._pending:
            self._pending[append.stream] = append
            self._bytes += append.size
        elif append.stream in self._behind:
            self._behind[append.stream].append(append)
        else:
            self._behind[append.stream] = deque((append,))

    def _go_on(self) -> None:
        """Send the next group, if there is one and none is under way."""
        if self._under_way:
            return
        if self._send_next():
            if self._pending:
                self._look_ahead()
        else:
            self._busy = False
            if self._idle is not None:
                self._idle.set_result(None)
                self._idle = None

    def _send_next(self) -> bool:
        """Send a group; false if nothing waits."""
        if self._alone:
            group = [self._alone.popleft()]
        elif self._pending:
            group = self._next_group()
        else:
            return False
        self._under_way += 1
        self._send(group)
        return True

    def _next_group(self) -> Group:
        limit = self._most()
        everybody_waits = not self._undelivered
        is_half = self._split_from is not None and everybody_waits and len(self._pending) >= self._split_from
        if is_half:
            # So that the others' turn comes while the outcomes of these are delivered.
            limit = min(limit, len(self._pending) // 2)
        if len(self._pending) <= limit and self._bytes <= self._max_bytes:
            group = list(self._pending.values())
            self._pending.clear()
            self._bytes = 0
        else:
            group = self._as_much_as_fits(limit)
        if is_half:
            self._other_half = list(self._pending.values())
        if self._behind:
            self._bring_up(group)
        return group

    def _most(self) -> int:
        """How many appends the next group may have."""
        return self._max_appends

    def _tell_later(self, appends: Group, outcomes: Sequence[Outcome]) -> None:
        self._undelivered.append((len(appends), iter(zip(appends, outcomes, strict=True))))

    def _end_alike(self, outcomes: Sequence[Outcome]) -> None:
        """The first half of a group has ended: if the store could not be reached for it, the second half ends so, too."""
        other_half, self._other_half = self._other_half, []
        error = outcomes[0]
        if not all(isinstance(outcome, StoreUnavailableError) for outcome in outcomes):
            return
        assert isinstance(error, StoreUnavailableError)
        for append in other_half:
            del self._pending[append.stream]
            self._bytes -= append.size
        self._bring_up(other_half)
        self._tell_later(other_half, [another(error) for _ in other_half])

    def _as_much_as_fits(self, limit: int) -> Group:
        """The oldest appends within the limits; one always fits."""
        group: Group = []
        size = 0
        for append in self._pending.values():
            if group and (len(group) == limit or size + append.size > self._max_bytes):
                break
            group.append(append)
            size += append.size
        for append in group:
            del self._pending[append.stream]
        self._bytes -= size
        return group

    def _bring_up(self, group: Group) -> None:
        """What waited behind the appends of a group can go out in the next one."""
        for append in group:
            behind = self._behind.get(append.stream)
            if behind is None:
                continue
            self._pending[append.stream] = behind[0]
            self._bytes += behind.popleft().size
            if not behind:
                del self._behind[append.stream]

    def _deliver(self) -> None:
        """Tell the waiters, as many as one turn allows; then send what they submitted meanwhile."""
        monotonic = self._monotonic
        until = monotonic() + self._max_turn
        left = MAX_TURN_APPENDS
        try:
            while self._undelivered and left > 0:
                count, rest = self._undelivered[0]
                for append, outcome in rest:
                    try:
                        append.waiter.append_done(outcome)
                    except Exception:
                        logger.exception(
                            "%s: whoever waited for this append failed to hear its outcome", append.stream
                        )
                    # Now, and not with all of its group.
                    append.events = ()
                    if monotonic() >= until:
                        left = 0
                        break
                else:
                    self._undelivered.popleft()
                    left -= count
        except BaseException:
            # Somebody wants the event loop to stop. If it goes on after all, the others hear their outcomes.
            self._loop.call_soon(self._deliver)
            raise
        if self._undelivered:
            self._loop.call_soon(self._deliver)
        else:
            self._delivered()
        self._look_ahead()

    def _look_ahead(self) -> None:
        """When those have had their turn who have just been told, what they have submitted may be made ready."""
        if self._make_ready is not None and self._under_way and not self._is_looking:
            self._loop.call_soon(self._show_next)
            self._is_looking = True

    def _show_next(self) -> None:
        self._is_looking = False
        if self._make_ready is None or not self._under_way or self._alone:
            return
        if self._pending and len(self._pending) <= self._most() and self._bytes <= self._max_bytes:
            self._make_ready(list(self._pending.values()))

    def _delivered(self) -> None:
        """Send what has collected; or have that sent, later in the next turn, which those submit who have just been told."""
        is_closing = self._closed is not None
        if is_closing or self._under_way or self._alone or (self._pending and not self._gathers):
            self._go_on()
        else:
            self._begin_later()
