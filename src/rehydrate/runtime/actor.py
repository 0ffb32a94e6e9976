"""One live aggregate: a small state machine that decides one command after the other.

`deliver` on an idle actor decides at once, in the caller's stack. In any other phase it only queues: while an append is
under way commands collect, and all that have come go out together in the next one. No task, no lock, and no `await`
between reading the state and writing it. Below it are `decision` (the pure step), the store, and `rehydration`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from time import perf_counter
from typing import Any, Final, Generic, TypeVar

from rehydrate.domain.envelope import CommandResult
from rehydrate.errors import (
    CommandTimeoutError,
    OutcomeUnknownError,
    RehydrateError,
    StoreError,
    StoreSealedError,
    StoreUnavailableError,
    VersionConflictError,
)
from rehydrate.runtime.answers import own
from rehydrate.runtime.blueprint import Blueprint
from rehydrate.runtime.catching_up import pause_then_catch_up
from rehydrate.runtime.decision import decide, decide_into
from rehydrate.runtime.leaving import give_back
from rehydrate.runtime.limits import DRAIN_COMMANDS, DRAIN_EVENTS, WORK_SLICE
from rehydrate.runtime.mailbox import STATE_QUERY, Answer, Drain, Pending, reply
from rehydrate.runtime.phases import APPENDING, CHECKING, DECIDING, GONE, IDLE, PAUSING, RECOVERING
from rehydrate.runtime.plain_metadata import metadata_of
from rehydrate.runtime.rehydration import Recovered
from rehydrate.runtime.repeats import is_repeat, knows, look_back, note, note_all
from rehydrate.runtime.window import Window, command_id_in
from rehydrate.store.port import Appended, StoredEvent, StreamEnd

S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E")

_log = logging.getLogger(__name__)
_IN_USE: Final = float("inf")


class AggregateActor(Generic[S, C, E]):
    """The one writer of one aggregate in this process."""

    __slots__ = (
        "blueprint",
        "conflicts",
        "drain",
        "id",
        "idle_since",
        "index",
        "last_id",
        "mailbox",
        "phase",
        "position",
        "saving",
        "snapshot_version",
        "state",
        "stream",
        "version",
        "window",
    )

    def __init__(self, blueprint: Blueprint[S, C, E], id: str, index: int) -> None:
        self.blueprint = blueprint
        self.id = id
        self.stream = blueprint.aggregate.stream(id)
        self.index = index
        """Its place in the manager's list of live actors."""
        self.state: S = blueprint.aggregate.initial
        self.version = 0
        self.position = 0
        self.last_id = ""
        self.phase = RECOVERING
        self.mailbox: deque[Pending] | None = None
        self.drain: Drain | None = None
        self.window: Window | None = None
        self.conflicts = 0
        """In a row."""
        self.snapshot_version = 0
        self.saving = False
        self.idle_since = _IN_USE
        """When a look at all actors first found it unused; infinite while it has been used since the last look."""

    def deliver(self, pending: Pending) -> Any:
        """Run a command: its result (or the state asked for), if the store answers at once, or a future of it.

        Raises the `Rejection` or error where that is the answer at once, and `MailboxFullError`.
        """
        if self.phase != IDLE:
            return self._queue(pending)
        self.idle_since = _IN_USE
        if pending.is_given or self.blueprint.manager.held is not None:
            future = self._queue(pending)
            self.advance()
            return future
        if pending.command is STATE_QUERY:
            return self._answer_fresh(Answer(pending, self.version, state=self.state))
        return self.decide_at_once(pending.command, pending)

    def decide_at_once(self, command: C, pending: Pending | None = None) -> Any:
        """As `deliver`, on an idle actor; without `pending` for a command whose caller gave nothing with it.

        Of such a command nothing is made that only one which has to wait needs, until it has to.
        """
        blueprint = self.blueprint
        manager = blueprint.manager
        if pending is None:
            metadata = next(manager.own_metadata)
        else:
            metadata = pending.metadata or metadata_of(pending.command_id)
        self.idle_since = _IN_USE
        # Whatever `decide` may do, it finds an actor that is not idle.
        self.phase = DECIDING
        try:
            decision = decide(blueprint, self.stream, self.state, command, metadata)
        finally:
            self.phase = IDLE
        if self.mailbox:
            self.phase = PAUSING
            manager.occupy(self)
            manager.loop.call_soon(self._go_on)
        if not isinstance(decision, tuple):
            pending = pending or manager.pending(command, metadata)
            return self._answer_fresh(Answer(pending, self.version, error=decision))
        state, events, decided, size = decision
        if not events:
            pending = pending or manager.pending(command, metadata)
            return self._answer_fresh(Answer(pending, self.version))
        try:
            outcome = manager.store.submit(
                self.stream, events, self.version, self, self.last_id, self.position
            )
        except Exception as error:  # noqa: BLE001 - a store may fail as it likes
            outcome = manager.store_failed(self.stream, error)
        # For None `isinstance` alone takes four times as long.
        if outcome is None or not isinstance(outcome, Appended):
            pending = pending or manager.pending(command, metadata)
            version = self.version + len(events)
            answers = [Answer(pending, version, decided)]
            self.drain = drain = Drain(state, version, self.version, self.position, answers, events, size)
            self.phase = APPENDING
            manager.occupy(self)
            future = self._wait(pending)
            if outcome is not None and self._not_stored(drain, outcome):
                self.advance()
            return future
        if self.window is not None:
            note(self.window, command_id_in(metadata), None, len(events), outcome.version, outcome.position)
        self.state = state
        self.version = outcome.version
        self.position = outcome.position
        self.last_id = events[-1].id
        self.conflicts = 0
        if blueprint.snapshot is not None:
            manager.snapshotter.take_when_idle(self)
        manager.turns.at_once += 1
        return CommandResult(outcome.version, outcome.position, decided)

    def _answer_fresh(self, answer: Answer) -> Any:
        """Answer where nothing was to be stored: at once if nobody else can have appended, else after asking."""
        manager = self.blueprint.manager
        drain = Drain(self.state, self.version, self.version, self.position, answers=[answer])
        if not manager.is_single_writer:
            future = self._wait(answer.pending)
            self.drain = drain
            self.phase = CHECKING
            manager.occupy(self)
            manager.freshness.ask(self)
            return future
        if answer.error is not None:
            manager.counters.count(answer.error)
            raise answer.error
        manager.turns.at_once += 1
        return drain.outcome(answer)

    def _queue(self, pending: Pending) -> asyncio.Future[Any]:
        mailbox = self.mailbox
        if mailbox is None:
            mailbox = self.mailbox = deque()
        elif len(mailbox) >= self.blueprint.manager.limits.mailbox:
            raise self.blueprint.manager.mailbox_full(self.stream)
        mailbox.append(pending)
        return self._wait(pending)

    def _wait(self, pending: Pending) -> asyncio.Future[Any]:
        manager = self.blueprint.manager
        pending.deadline = manager.clock.monotonic() + pending.timeout
        pending.future = future = manager.loop.create_future()
        return future

    def advance(self) -> None:
        """Run what waits in the mailbox, until the store has to be waited for or nothing is left."""
        manager = self.blueprint.manager
        if not self.mailbox:
            self._rest()
            return
        began = perf_counter()
        manager.occupy(self)
        self.phase = DECIDING
        while self.mailbox:
            drain = self._next_drain()
            if drain is None or not self._send(drain):
                return
            if self.mailbox and perf_counter() - began > WORK_SLICE:
                self.phase = PAUSING
                manager.loop.call_soon(self._go_on)
                return
        self._rest()

    def _rest(self) -> None:
        self.mailbox = None
        self.phase = IDLE
        self.blueprint.manager.rest(self)

    def _go_on(self) -> None:
        if self.phase == PAUSING and self.drain is None:
            self.advance()

    def _next_drain(self) -> Drain | None:
        """Decide what waits, within the bounds of a drain; None if the store must be read for the next command."""
        manager, mailbox = self.blueprint.manager, self.mailbox
        assert mailbox is not None
        drain = Drain(self.state, self.version, self.version, self.position)
        limit = max(1, DRAIN_COMMANDS >> max(0, self.conflicts - 1))
        now, began = manager.clock.monotonic(), perf_counter()
        if now >= manager.owned_until and manager.is_lost(self):
            return None
        while mailbox and len(drain.answers) < limit and len(drain.events) < DRAIN_EVENTS:
            # Out of the mailbox first: whatever goes wrong with a command must not be met again.
            pending = mailbox.popleft()
            if pending.deadline <= now:
                self.fail(pending, CommandTimeoutError(self.stream, pending.command_id))
                continue
            if pending.is_given:
                if not knows(self, pending):
                    mailbox.appendleft(pending)
                    if drain.answers:
                        break
                    self.phase = RECOVERING
                    manager.read_for(self, look_back(self, pending))
                    return None
                if is_repeat(self, drain, pending):
                    continue
            if not self._decide(drain, pending):
                mailbox.appendleft(pending)
                break
            if perf_counter() - began > WORK_SLICE:
                break
        return drain

    def _decide(self, drain: Drain, pending: Pending) -> bool:
        if pending.command is STATE_QUERY:
            drain.answers.append(Answer(pending, drain.version, state=drain.state))
            return True
        if not decide_into(drain, self.blueprint, self.stream, pending):
            return False
        if pending.is_given:
            drain.by_id = drain.by_id or {}
            drain.by_id[pending.command_id] = drain.answers[-1]
        return True

    def _send(self, drain: Drain) -> bool:
        """Pass the fence: by appending, or by asking. Whether everybody has been answered."""
        manager = self.blueprint.manager
        if not drain.answers:
            return True
        self.drain = drain
        if not drain.events:
            if manager.is_single_writer:
                return self._settled(drain)
            self.phase = CHECKING
            manager.freshness.ask(self)
            return False
        if (held := manager.hold_error()) is not None:
            return self._refuse_all(drain, held)
        self.phase = APPENDING
        outcome = manager.submit(self, drain.events)
        if outcome is None:
            return False
        if not isinstance(outcome, Appended):
            return self._not_stored(drain, outcome)
        self._commit(drain, outcome)
        drain.reply_all(self.blueprint.manager.counters)
        self.blueprint.manager.snapshotter.take_if_due(self)
        return True

    def append_done(self, outcome: Appended | StoreError) -> None:
        """The store has answered an append that it took. What came in meanwhile goes out first, then the replies."""
        drain = self.drain
        if drain is None or self.phase == GONE:
            return
        if not isinstance(outcome, Appended):
            if self._not_stored(drain, outcome):
                self.advance()
            return
        self._commit(drain, outcome)
        manager = self.blueprint.manager
        try:
            if self.blueprint.snapshot is not None and manager.snapshotter.is_due(self):
                drain.reply_all(manager.counters)
                manager.snapshotter.take_if_due(self)
            if self.mailbox:
                self.advance()
            else:
                self._rest()
        finally:
            drain.reply_all(manager.counters)

    def _commit(self, drain: Drain, appended: Appended) -> None:
        drain.position = appended.position
        if self.window is not None:
            note_all(self.window, drain)
        manager = self.blueprint.manager
        if manager.held is not None:
            manager.held = None
        self.state = drain.state
        self.version = appended.version
        self.position = appended.position
        self.last_id = drain.events[-1].id
        self.drain = None
        self.conflicts = 0

    def _settled(self, drain: Drain) -> bool:
        """Nothing was to be stored, and the state that the answers were decided on is the newest."""
        self.drain = None
        self.conflicts = 0
        drain.reply_all(self.blueprint.manager.counters)
        return True

    def checked(self, end: StreamEnd) -> None:
        """The store has said where the stream ends, for answers that append nothing."""
        drain = self.drain
        if drain is None or self.phase != CHECKING:
            return
        if end.version == self.version and end.event_id == self.last_id:
            self._settled(drain)
            self.advance()
        else:
            self._conflicted(drain, end.version, is_another_history=end.version == self.version)

    def check_failed(self, error: RehydrateError) -> None:
        if self.drain is not None and self.phase == CHECKING and self._refuse_all(self.drain, error):
            self.advance()

    def _refuse_all(self, drain: Drain, error: RehydrateError) -> bool:
        """Answer a drain of which nothing was stored. Always true: everybody has been answered."""
        self.drain = None
        for answer in drain.answers:
            self.fail(answer.pending, error)
        return True

    def fail(self, pending: Pending, error: Exception) -> None:
        """Answer a command with an error, unless its caller has gone or has been answered."""
        if pending.is_waiting:
            self.blueprint.manager.counters.count(error)
            reply(pending, own(error))

    def sweep(self, now: float) -> None:
        """Answer those whose deadline has passed."""
        if self.mailbox and any(pending.deadline <= now for pending in self.mailbox):
            late = [pending for pending in self.mailbox if pending.deadline <= now]
            self.mailbox = deque(pending for pending in self.mailbox if pending.deadline > now)
            for pending in late:
                self.fail(pending, CommandTimeoutError(self.stream, pending.command_id))
        if self.drain is not None:
            late_error = OutcomeUnknownError if self.drain.events else CommandTimeoutError
            for answer in self.drain.answers:
                if answer.pending.deadline <= now:
                    self.fail(answer.pending, late_error(self.stream, answer.pending.command_id))

    def leave(self) -> None:
        """Out of memory; what the store still says of an append reaches nobody."""
        self.phase = GONE
        self.drain = None
        self.mailbox = None

    def _not_stored(self, drain: Drain, error: StoreError) -> bool:
        """An append did not succeed. Whether everybody has been answered."""
        if isinstance(error, VersionConflictError):
            self._conflicted(drain, error.actual, is_another_history=error.is_another_history)
            return False
        if isinstance(error, StoreUnavailableError) and (drain.in_doubt or error.stored is None):
            self._resolve(drain)
            return False
        # Of an append in doubt, a seal is an answer: it is not there, and can no longer land.
        if drain.in_doubt and not isinstance(error, StoreSealedError):
            for answer in drain.answers:
                self.fail(answer.pending, OutcomeUnknownError(self.stream, answer.pending.command_id))
            self.recovery_failed(error)
            return False
        if isinstance(error, StoreUnavailableError) and not error.retryable:
            self.blueprint.manager.hold(error)
        return self._refuse_all(drain, error)

    def _resolve(self, drain: Drain) -> None:
        """Nobody knows whether the append was stored: send the same one again until the store says.

        Exactly one append can own the version after ours. If ours does, the store returns its first result; if a
        stranger's does, ours can never land, and only then is anything decided again. So an error that says "nothing
        was stored" of a repeat settles nothing: it does not speak of the first try.
        """
        manager = self.blueprint.manager
        drain.in_doubt = True
        drain.tries += 1
        self.phase = PAUSING
        manager.clock.call_later(manager.pause(drain.tries), lambda: self._send_again(drain))

    def _send_again(self, drain: Drain) -> None:
        if self.drain is not drain or self.phase == GONE:
            return
        self.phase = APPENDING
        outcome = self.blueprint.manager.submit(self, drain.events)
        if outcome is not None:
            self.append_done(outcome)

    def _conflicted(self, drain: Drain, actual: int, *, is_another_history: bool = False) -> None:
        """Somebody else has appended: catch up, and decide the same commands again. Deciding is pure, so it is safe."""
        manager = self.blueprint.manager
        manager.counters.conflicts += 1
        self.conflicts += 1
        self.drain = None
        again: list[Pending] = []
        for answer in drain.answers:
            pending = answer.pending
            pending.put_back()
            if pending.is_answered:
                continue
            if pending.redecided > manager.limits.max_redecide:
                self.fail(pending, VersionConflictError(self.stream, self.version, actual))
            else:
                again.append(pending)
        if manager.is_detached(self):
            self.leave()
            manager.rest(self)
            for pending in again:
                give_back(self, pending)
            return
        self.mailbox = self.mailbox or deque()
        self.mailbox.extendleft(reversed(again))
        if actual < self.version:
            self.start_over(f"its version is {actual} and was {self.version}")
        elif is_another_history:
            self.start_over(f"another event is at version {actual} than was")
        else:
            self.phase = RECOVERING
            pause_then_catch_up(self, actual, self.conflicts - 1)

    def start_over(self, evidence: str) -> None:
        """The store went back: what this actor knows is of a history that is no more."""
        manager = self.blueprint.manager
        _log.error("%s: the store went back (%s); was it restored from an older copy?", self.stream, evidence)
        self.state, self.version, self.position, self.last_id = self.blueprint.aggregate.initial, 0, 0, ""
        self.window = None
        self.snapshot_version = 0
        self.phase = RECOVERING
        manager.recover(self, use_snapshot=False)

    def looked_back(self, window: Window) -> None:
        """The window has been loaded as far as the first command in the mailbox asks for."""
        if self.phase == RECOVERING:
            self.window = window
            self.advance()

    def overtaken(self, state: S, events: list[StoredEvent]) -> None:
        """Take over what others appended; the ids of their commands too, before anything is decided again."""
        if events[0].version > self.version + 1:
            # There were too many to keep: the window begins at the first of those that were.
            self.window = Window(events[0].version, events[0].position)
        elif self.window is None and any(pending.is_given for pending in self.mailbox or ()):
            self.window = Window(self.version, self.position)
        if self.window is not None:
            self.window.add_events([event for event in events if event.version > self.window.since])
        self.state = state
        last = events[-1]
        self.version, self.position, self.last_id = last.version, last.position, last.id

    def recovered(self, recovered: Recovered) -> None:
        """Rehydration has ended: run what came meanwhile."""
        if self.phase != RECOVERING:
            return
        self.state = recovered.state
        self.version, self.position, self.last_id = recovered.version, recovered.position, recovered.last_id
        self.snapshot_version = recovered.snapshot_version
        self.advance()

    def recovery_failed(self, error: RehydrateError) -> None:
        """There is no state to decide on: everybody gets the error, and the next command begins anew."""
        if self.phase == GONE:
            return
        waiting, self.mailbox = self.mailbox or (), None
        self.blueprint.manager.drop(self, error)
        for pending in waiting:
            self.fail(pending, error)
