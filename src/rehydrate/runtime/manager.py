"""Finds or starts the actor of a command, and unloads those that idle. Nothing in here awaits on a command's way.

The manager owns every transition between alive and gone, in one piece without an `await`: a command that meets an
actor on its way out starts the next one, so none is lost.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from rehydrate.clock import Clock, NewId, Timer, unique_ids
from rehydrate.domain.streams import check_id
from rehydrate.errors import (
    MailboxFullError,
    RehydrateError,
    StoreError,
    StoreUnavailableError,
    StreamQuarantinedError,
)
from rehydrate.runtime.actor import AggregateActor
from rehydrate.runtime.blueprint import Blueprint
from rehydrate.runtime.budget import within
from rehydrate.runtime.counters import Counters
from rehydrate.runtime.decision import describe
from rehydrate.runtime.freshness import Freshness
from rehydrate.runtime.leaving import Departures
from rehydrate.runtime.limits import SWEEP_EVERY, Limits
from rehydrate.runtime.mailbox import Pending
from rehydrate.runtime.phases import IDLE
from rehydrate.runtime.placement import Placement
from rehydrate.runtime.plain_metadata import own_metadata
from rehydrate.runtime.quarantine import Quarantine
from rehydrate.runtime.rehydration import as_rehydrate_error, rehydrate
from rehydrate.runtime.snapshotter import Snapshotter
from rehydrate.runtime.turns import Turns
from rehydrate.store.port import Appended, NewEvent, SnapshotStore, Store

_log = logging.getLogger(__name__)

Actor = AggregateActor[Any, Any, Any]

_LAST_MOMENT = 1.0
"""Seconds that cancelled tasks have to end when a runtime closes."""
_SCAN_SLICE = 2_000
"""Actors that are looked at for idleness in one go."""


class AggregateManager:
    """All actors of one runtime."""

    def __init__(
        self, store: Store, snapshots: SnapshotStore, *, clock: Clock, new_id: NewId | None, limits: Limits
    ) -> None:
        self.store = store
        self.snapshots = snapshots
        self.clock = clock
        self.new_id = new_id or unique_ids()
        self.own_metadata = own_metadata(new_id)
        """Of the events of each command whose caller gave nothing with it, with a new command id."""
        self.limits = limits
        self.loop = asyncio.get_running_loop()
        self.capabilities = store.capabilities
        self.is_single_writer = False
        """Whether nobody else can append, so that what an actor knows is the newest without asking."""
        self.placement: Placement | None = None
        self.owned_until = float("inf")
        """On the monotonic clock; from then on nothing is decided before the placement has had its say."""
        self.departures = Departures(self)
        self.repeats = 0
        """Repeats whose first result is being read back."""
        self.counters = Counters()
        self.turns = Turns(self.loop)
        self.freshness = Freshness(self)
        self.snapshotter = Snapshotter(self)
        self.held: StoreUnavailableError | None = None
        """Set while the store says that waiting does not help: appends are tried from time to time only."""
        self._held_until = 0.0
        self._held_for = 0.0
        self._is_trying = False
        self._quarantine = Quarantine(clock, limits)
        self._live: list[Actor] = []
        self._busy: set[Actor] = set()
        self._recovering: set[Actor] = set()
        self._waiting_for_permit: deque[tuple[Actor, bool]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._deadline_sweep: Timer | None = None
        self._idle_sweep: Timer | None = None
        self._idle_every = 1.0
        self._hand = 0
        self._closing: asyncio.Future[None] | None = None
        self._closed: asyncio.Event | None = None

    # ------------------------------------------------------------ commands

    def deliver(self, blueprint: Blueprint[Any, Any, Any], id: str, pending: Pending) -> Any:
        """Hand a command to its actor, started if need be: its result, or a future of it."""
        actor = blueprint.actors.get(id)
        if actor is None:
            actor = self._start(blueprint, id)
        return actor.deliver(pending)

    def pending(self, command: object, metadata: bytes) -> Pending:
        """A command whose caller gave nothing with it, and that has to wait after all."""
        return Pending(command, "", self.limits.timeout, metadata=metadata)

    def _start(self, blueprint: Blueprint[Any, Any, Any], id: str) -> Actor:
        check_id(id)
        self._quarantine.check(blueprint.aggregate.stream(id))
        if len(self._live) >= self.limits.max_live:
            self._evict_one(blueprint.aggregate.stream(id))
        actor = AggregateActor(blueprint, id, len(self._live))
        self._live.append(actor)
        blueprint.actors[id] = actor
        if self.placement is not None:
            self.placement.started(actor)
        self.occupy(actor)
        self.recover(actor)
        self._keep_looking_for_idle(blueprint.aggregate.passivate_after)
        return actor

    def mailbox_full(self, stream: str) -> MailboxFullError:
        return MailboxFullError(stream, self.limits.mailbox)

    # ------------------------------------------------------- busy and idle

    def occupy(self, actor: Actor) -> None:
        """The actor has something under way: its deadlines are watched."""
        self._busy.add(actor)
        if self._deadline_sweep is None:
            self._deadline_sweep = self.clock.call_later(SWEEP_EVERY, self._sweep_deadlines)

    def rest(self, actor: Actor) -> None:
        """The actor has nothing left to do."""
        self._busy.discard(actor)
        if self.departures.actors:
            self.departures.rested(actor)
        if self._closing is not None:
            self._finish_closing()

    def drop(self, actor: Actor, error: RehydrateError | None = None) -> None:
        """Unload an actor that cannot go on; the next command starts another."""
        if isinstance(error, StreamQuarantinedError):
            self._quarantine.add(actor.stream, error)
        self._recovering.discard(actor)
        self._forget(actor)
        self.rest(actor)

    def _forget(self, actor: Actor) -> None:
        if not self.is_detached(actor):
            actor.leave()
            self.detach(actor)

    def is_detached(self, actor: Actor) -> bool:
        return actor.blueprint.actors.get(actor.id) is not actor

    def detach(self, actor: Actor) -> None:
        """Take an actor out of reach: a command that comes now starts the next one."""
        del actor.blueprint.actors[actor.id]
        if self.placement is not None:
            self.placement.ended(actor)
        last = self._live.pop()
        if last is not actor:
            self._live[actor.index] = last
            last.index = actor.index

    def is_lost(self, actor: Actor) -> bool:
        """What is owned has lapsed: whether this actor had to leave with it."""
        if self.placement is not None:
            self.placement.lapsed()
        return self.is_detached(actor)

    def _sweep_deadlines(self) -> None:
        self._deadline_sweep = None
        now = self.clock.monotonic()
        for actor in list(self._busy):
            actor.sweep(now)
        if self._busy:
            self._deadline_sweep = self.clock.call_later(SWEEP_EVERY, self._sweep_deadlines)

    def _keep_looking_for_idle(self, passivate_after: float) -> None:
        every = min(1.0, max(SWEEP_EVERY, passivate_after / 4))
        if self._idle_sweep is None or every < self._idle_every:
            if self._idle_sweep is not None:
                self._idle_sweep.cancel()
            self._idle_every = every
            self._idle_sweep = self.clock.call_later(every, self._sweep_idle)

    def _sweep_idle(self) -> None:
        """One sweep for all actors: there is no timer per actor."""
        self._idle_sweep = None
        self._scan_idle(len(self._live))

    def _scan_idle(self, end: int) -> None:
        # From the end, so that the actor which takes the place of one that goes has been looked at already.
        end = min(end, len(self._live))
        start = max(0, end - _SCAN_SLICE)
        now = self.clock.monotonic()
        for index in range(end - 1, start - 1, -1):
            if index < len(self._live):
                self._passivate_if_idle(self._live[index], now)
        if start > 0:
            self.loop.call_soon(self._scan_idle, start)
        elif self._live and self._closing is None and self._idle_sweep is None:
            self._idle_sweep = self.clock.call_later(self._idle_every, self._sweep_idle)

    def _passivate_if_idle(self, actor: Actor, now: float) -> None:
        if actor.phase != IDLE:
            return
        if actor.idle_since > now:
            actor.idle_since = now
        elif now - actor.idle_since >= actor.blueprint.aggregate.passivate_after:
            self._passivate(actor)

    def _passivate(self, actor: Actor) -> None:
        self._forget(actor)
        self.counters.passivated += 1

    def _evict_one(self, stream: str) -> None:
        """Make room for one more: the longest idle of a sample goes."""
        sample: list[Actor] = []
        # Where hardly any is idle, the next command looks on from here: none may hold up all others.
        for _ in range(min(len(self._live), _SCAN_SLICE) if len(self._busy) < len(self._live) else 0):
            self._hand = (self._hand + 1) % len(self._live)
            actor = self._live[self._hand]
            if actor.phase == IDLE:
                sample.append(actor)
                if len(sample) == 16:
                    break
        if not sample:
            raise MailboxFullError(stream, self.limits.max_live, "live aggregates, none of them seen idle,")
        self._passivate(min(sample, key=lambda actor: actor.idle_since))

    # ------------------------------------------------------------ recovery

    def recover(self, actor: Actor, *, use_snapshot: bool = True) -> None:
        """Rehydrate an actor when a permit is free; a restart of the program must not stampede the store."""
        if len(self._recovering) < self.limits.recoveries:
            self._recovering.add(actor)
            self.read_for(actor, self._rehydrate(actor, use_snapshot=use_snapshot))
        else:
            self._waiting_for_permit.append((actor, use_snapshot))

    async def _rehydrate(self, actor: Actor, *, use_snapshot: bool) -> None:
        try:
            recovered = await rehydrate(actor.blueprint, actor.stream, use_snapshot=use_snapshot)
            self.counters.rehydrated += 1
            self._quarantine.release(actor.stream)
            actor.recovered(recovered)
        finally:
            self._recovering.discard(actor)
            self._give_permit()

    def _give_permit(self) -> None:
        while self._waiting_for_permit and len(self._recovering) < self.limits.recoveries:
            actor, use_snapshot = self._waiting_for_permit.popleft()
            if actor.mailbox:
                self.recover(actor, use_snapshot=use_snapshot)
            else:
                self.drop(actor)

    def submit(self, actor: Actor, events: list[NewEvent]) -> Appended | StoreError | None:
        """Send an append; what a store should not raise leaves the outcome unknown."""
        try:
            return self.store.submit(
                actor.stream, events, actor.version, actor, actor.last_id, actor.position
            )
        except Exception as error:  # noqa: BLE001 - a store may fail as it likes
            return self.store_failed(actor.stream, error)

    def store_failed(self, stream: str, error: Exception) -> StoreUnavailableError:
        """What an append comes to in which a store raised."""
        _log.error("%s: the store failed in an append", stream, exc_info=error)
        unknown = StoreUnavailableError(f"the store failed in an append: {describe(error)}", stored=None)
        unknown.__cause__ = error
        return unknown

    # -------------------------------------------------- a store in trouble

    def pause(self, tries: int) -> float:
        """Seconds before the next try: doubling, with jitter, so that those who failed together do not return so."""
        seconds = min(self.limits.retry_most, self.limits.retry_first * 2.0 ** min(tries - 1, 30))
        return seconds * random.uniform(0.5, 1.0)

    def hold(self, error: StoreUnavailableError) -> None:
        """The store says that waiting does not help: hold back appends, but for one try from time to time."""
        if self.held is None:
            self._held_for = self.limits.hold_first
        elif self._is_trying:
            self._held_for = min(self.limits.hold_most, self._held_for * 2)
        else:
            # Of the same failure: these were sent before it was known.
            return
        self._is_trying = False
        self._held_until = self.clock.monotonic() + self._held_for
        self.held = error

    def hold_error(self) -> StoreUnavailableError | None:
        """The error to answer with instead of trying, or None."""
        if self.held is None:
            return None
        now = self.clock.monotonic()
        if now >= self._held_until:
            # This one tries; whoever comes while it does is still refused.
            self._is_trying = True
            self._held_until = now + self._held_for
            return None
        error = StoreUnavailableError(self.held.reason, retryable=False)
        error.__cause__ = self.held.__cause__
        return error

    # --------------------------------------------------------------- tasks

    def spawn(self, work: Coroutine[Any, Any, None], if_cut_off: Callable[[], None]) -> None:
        """Run something in the background that belongs to this runtime, and ends with it.

        `if_cut_off` is called where it does not come to its end: who ends all tasks of a loop ends some of them before
        their first step, and what they say themselves in an `except` or a `finally` is never heard.
        """
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(partial(self._task_done, if_cut_off))

    def read_for(self, actor: Actor, work: Coroutine[Any, Any, None]) -> None:
        """Run a part of an actor's recovery; whatever goes wrong reaches those who wait for the actor."""
        self.spawn(self._within_budget(actor, work), partial(self._reading_cut_off, actor, work))

    async def _within_budget(self, actor: Actor, work: Coroutine[Any, Any, None]) -> None:
        try:
            await within(self.clock, self.limits.recovery_timeout, work, f"{actor.stream} could not be read")
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
            actor.recovery_failed(as_rehydrate_error(error))

    def _reading_cut_off(self, actor: Actor, work: Coroutine[Any, Any, None]) -> None:
        work.close()
        self._recovering.discard(actor)
        actor.recovery_failed(StoreUnavailableError(f"{actor.stream}: its reading was cut off; try again"))
        self._give_permit()

    def _task_done(self, if_cut_off: Callable[[], None], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            if_cut_off()
        elif (error := task.exception()) is not None:
            _log.error("a background task failed; this is a bug in Rehydrate", exc_info=error)
            if_cut_off()
        self._finish_closing()

    # --------------------------------------------------------------- close

    async def close(self) -> None:
        """Finish what was accepted, within the limit; then everybody is told what is true by then.

        Whoever calls it meanwhile or later waits for the same end.
        """
        if self._closed is not None:
            await self._closed.wait()
            return
        self._closed = asyncio.Event()
        give_up = self.clock.call_later(self.limits.shutdown_timeout, self.give_up)
        try:
            # What was put off to the next turn of the loop, as a snapshot that is due, comes first.
            await asyncio.sleep(0)
            self._closing = self.loop.create_future()
            self._finish_closing()
            await self._closing
        finally:
            give_up.cancel()
            self.give_up()
            try:
                if self._tasks:
                    _, stuck = await asyncio.wait(self._tasks, timeout=_LAST_MOMENT)
                    if stuck:
                        _log.warning(
                            "%s tasks of this runtime do not end although they were cancelled", len(stuck)
                        )
            finally:
                self._closed.set()

    def _finish_closing(self) -> None:
        if self._closing is not None and not self._closing.done() and not self._busy and not self._tasks:
            self._closing.set_result(None)

    def give_up(self) -> None:
        """Wait for nothing more: everybody is told what is true now."""
        for actor in list(self._busy):
            actor.sweep(float("inf"))
        for actor in list(self._live):
            self._forget(actor)
        self._busy.clear()
        self._waiting_for_permit.clear()
        # Its traceback may lead back to the actors, over records that no collector looks at.
        self.held = None
        for task in list(self._tasks):
            task.cancel()
        for timer in (self._deadline_sweep, self._idle_sweep):
            if timer is not None:
                timer.cancel()
        self._deadline_sweep = self._idle_sweep = None
        if self._closing is not None and not self._closing.done():
            self._closing.set_result(None)

    @property
    def live(self) -> int:
        return len(self._live)

    @property
    def busy(self) -> int:
        return len(self._busy)

    @property
    def recovering(self) -> int:
        return len(self._recovering) + len(self._waiting_for_permit)

    @property
    def mailbox_depth(self) -> int:
        return sum(len(actor.mailbox or ()) for actor in self._busy)
