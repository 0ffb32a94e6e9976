"""What runs a subscription: catches up, then lives, through one loop; calls the handler; does what the policy says."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from rehydrate.codec.subscription import unwanted_of
from rehydrate.domain.envelope import EventEnvelope
from rehydrate.domain.policy import Park, Retry, Skip, Stop
from rehydrate.domain.projection import RESERVED
from rehydrate.domain.subscription import NEWEST, Subscription, check_key
from rehydrate.errors import ConfigurationError
from rehydrate.runtime.deaths import CAREFUL, DEATHS, took_the_process
from rehydrate.runtime.decision import describe
from rehydrate.runtime.envelopes import Envelopes
from rehydrate.runtime.lanes import Item, Lanes
from rehydrate.runtime.parking import Parked, ParkedEvents, list_parked
from rehydrate.runtime.tenure import ClosingError, StoppedError, Tenure, Wait, sleep
from rehydrate.store.port import PAGE_SIZE, LogFilter, Store, StoredEvent, ViewChange

_log = logging.getLogger(__name__)

WINDOW: Final = 1_000
"""How many events are under way at most, in hand and waiting."""
SAVE_EVERY: Final = 1.0
"""Seconds after which the place is saved while more is under way."""
_MOST_CHANGES: Final = 800
"""How many parked events are saved at once."""
_ATTEMPT: Final = f"{RESERVED}attempt"


class _Attempt(msgspec.Struct, frozen=True):
    """An event that is being handled, and how often that was begun."""

    position: int
    count: int


_read_attempt = msgspec.json.Decoder(_Attempt).decode


class Subscriber:
    """The work of one subscription."""

    kind = "subscription"

    def __init__(self, subscription: Subscription, envelopes: Envelopes) -> None:
        self.name = subscription.name
        self.subscription = subscription
        self._policy = subscription.on_error
        self._envelopes = envelopes
        self._where = _filter(subscription, envelopes)
        self._is_async = inspect.iscoroutinefunction(subscription.handler) or inspect.iscoroutinefunction(
            getattr(subscription.handler, "__call__", None)  # noqa: B004 - whether that is async is the question
        )
        self._parked = ParkedEvents()
        self._attempt: _Attempt | None = None
        self._read_to = 0
        self._is_at_end = False
        self._saved_at = 0.0
        self._calling: set[asyncio.Task[Any] | None] = set()
        """The tasks in which the handler runs."""

    def is_called_in(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether the handler runs in that task."""
        return task in self._calling

    async def first(self, store: Store) -> tuple[int, str]:
        after = self.subscription.after
        if after == 0:
            return 0, ""
        head = await store.head()
        if after == NEWEST:
            return head.position, head.event_id
        page = await store.read_all(after=after - 1, limit=1)
        if not page.events or page.events[0].position != after:
            raise ConfigurationError(
                f"subscription {self.name!r}: after={after!r} is no position of this store, whose newest is "
                f"{head.position:,}; take the one of an event, or NEWEST"
            )
        return after, page.events[0].id

    async def enter(self, tenure: Tenure) -> None:
        self._parked = ParkedEvents(await list_parked(tenure.store, self.name))
        attempt = await tenure.store.load_view(self.name, _ATTEMPT)
        self._attempt = None if attempt is None else _read_attempt(attempt)
        self._read_to = tenure.checkpoint.position
        self._is_at_end = False
        self._saved_at = tenure.clock.monotonic()
        tenure.progress.parked = len(self._parked)

    async def run(self, tenure: Tenure) -> None:
        if tenure.is_unclean or self._attempt is not None:
            await self._carefully(tenure)
        place = tenure.checkpoint
        lanes = Lanes(
            lambda items: self._handle(tenure, items),
            workers=self.subscription.workers,
            batch=self.subscription.batch or 1,
            room=WINDOW,
            done=(place.position, place.event_id),
        )
        try:
            while lanes.failure is None:
                # Before anything is awaited: what changes meanwhile ends the wait below.
                lanes.changed.clear()
                await tenure.attend()
                await self._save_if_due(tenure, lanes)
                if not self._is_at_end and lanes.has_room:
                    await self._read_on(tenure, lanes)
                else:
                    await self._wait(tenure, lanes)
            await lanes.finish()
            await self._save(tenure, lanes.done)
            raise lanes.failure
        except ClosingError:
            await lanes.finish()
            await self._save(tenure, lanes.done)
            raise
        finally:
            await lanes.cancel()

    async def _read_on(self, tenure: Tenure, lanes: Lanes) -> None:
        limit = min(PAGE_SIZE, lanes.room)
        page = await tenure.read(after=self._read_to, where=self._where, limit=limit)
        for event in page.events:
            item = self._item(event)
            if self._wants(item):
                lanes.add(item)
        if page.event_id:
            lanes.mark(page.position, page.event_id)
            self._read_to = page.position
        self._is_at_end = page.is_last
        # Workers begin in the next turn, and reading must not keep them from it.
        await asyncio.sleep(0)

    async def _wait(self, tenure: Tenure, lanes: Lanes) -> None:
        """Until there is more to read and room for it, or something was done, or asked for, or is to be saved."""
        waits: list[Wait] = [lanes.changed.wait, tenure.called.wait]
        if lanes.done[0] > tenure.checkpoint.position:
            waits.append(lambda: sleep(tenure.clock, SAVE_EVERY))
        if lanes.has_room:
            waits.append(lambda: tenure.arrival(after=self._read_to))
        had_room = lanes.has_room
        ended = await tenure.first_of(*waits)
        if had_room and len(waits) - 1 in ended:
            self._is_at_end = False

    def _item(self, event: StoredEvent) -> Item:
        item = Item(event)
        try:
            item.envelope = self._envelopes.of(event)
            by = self.subscription.partition_by
            item.key = event.stream if by is None else check_key(by(item.envelope), "partition key")
        except Exception as error:  # noqa: BLE001 - whatever the user's code raises
            item.error = error
            if self.subscription.partition_by is None:
                item.key = event.stream
        if self.subscription.workers > 1:
            item.lane = item.key or ""
        return item

    def _wants(self, item: Item) -> bool:
        types = self.subscription.types
        return not types or item.envelope is None or isinstance(item.envelope.event, tuple(types))

    # ---- saving

    async def _save_if_due(self, tenure: Tenure, lanes: Lanes) -> None:
        moved = lanes.done[0] - tenure.checkpoint.position
        if not moved and not self._parked.unsaved:
            return
        is_resting = self._is_at_end and lanes.under_way == 0
        if (
            (is_resting and tenure.progress.handled != tenure.kept.handled)
            or moved >= WINDOW
            or self._parked.unsaved
            or tenure.clock.monotonic() - self._saved_at >= SAVE_EVERY
        ):
            await self._save(tenure, lanes.done)
        else:
            tenure.progress.move(lanes.done[0])

    async def _save(self, tenure: Tenure, place: tuple[int, str], *others: ViewChange) -> None:
        tenure.progress.parked = len(self._parked)
        # What is parked may be saved ahead of the place, never behind it.
        while self._parked.unsaved > _MOST_CHANGES:
            changes = self._parked.take_changes(_MOST_CHANGES)
            await tenure.save(tenure.checkpoint.position, tenure.checkpoint.event_id, views=changes)
        changes = [*self._parked.take_changes(_MOST_CHANGES), *others]
        await tenure.save(*place, views=changes, built=self._is_at_end or tenure.kept.built)
        self._saved_at = tenure.clock.monotonic()

    # ---- handling

    async def _handle(self, tenure: Tenure, items: list[Item]) -> None:
        tenure.progress.handled += len(items)
        waiting = [item for item in items if not self._is_parked(tenure, item)]
        if len(waiting) > 1 and all(item.error is None for item in waiting):
            try:
                await self._try(tenure, waiting)
            except ClosingError:
                raise
            except Exception as error:
                if isinstance(self._then, Stop):
                    raise self._stopped(waiting[0], error) from error
                _log.warning(
                    "subscription %s: a batch of %s events from %s on failed, so they are handled one by one: %s",
                    self.name,
                    len(waiting),
                    _place(waiting[0].event),
                    describe(error),
                )
            else:
                return
        for item in waiting:
            # One before it in this batch may have been parked meanwhile.
            if not self._is_parked(tenure, item):
                await self._handle_one(tenure, item)

    def _is_parked(self, tenure: Tenure, item: Item) -> bool:
        """Park it if it has to wait behind another."""
        if item.key is None or item.key not in self._parked:
            return False
        self._park(tenure, item.event, item.key, "")
        return True

    async def _handle_one(self, tenure: Tenure, item: Item) -> None:
        try:
            if item.error is not None:
                raise item.error
            await self._try(tenure, [item])
        except ClosingError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the user's code raises
            self._failed(tenure, item, error)

    async def _try(self, tenure: Tenure, items: Sequence[Item]) -> None:
        """Call the handler, as often as the policy says."""
        policy = self._policy
        envelopes = [item.envelope for item in items if item.envelope is not None]
        tries = 0
        while True:
            try:
                await self._call(envelopes)
            except Exception as error:
                if not isinstance(policy, Retry) or tries >= policy.times:
                    raise
                seconds = min(policy.most, policy.first * 2.0 ** min(tries, 60)) * random.uniform(0.5, 1.0)
                tries += 1
                _log.warning(
                    "subscription %s: %s failed, and is tried again in %.1f s: %s",
                    self.name,
                    _place(items[0].event),
                    seconds,
                    describe(error),
                )
            else:
                return
            await tenure.pause(seconds)

    async def _call(self, envelopes: Sequence[EventEnvelope[Any]]) -> None:
        given: Any = envelopes[0] if self.subscription.batch is None else list(envelopes)
        task = asyncio.current_task()
        self._calling.add(task)
        try:
            with cancelled_is_failed():
                if self._is_async:
                    await self.subscription.handler(given)  # type: ignore[misc]
                    return
                returned: Any = await asyncio.to_thread(self.subscription.handler, given)
                if inspect.isawaitable(returned):
                    # A lambda or a partial around a coroutine function.
                    await returned
        finally:
            self._calling.discard(task)

    # ---- what it fails at

    @property
    def _then(self) -> Stop | Skip | Park:
        return self._policy.then if isinstance(self._policy, Retry) else self._policy

    def _failed(self, tenure: Tenure, item: Item, error: Exception) -> None:
        match self._then:
            case Park() if item.key is not None:
                reason = describe(error)
                _log.error(
                    "subscription %s: %s is parked, and holds back later events of %r: %s",
                    self.name,
                    _place(item.event),
                    item.key,
                    reason,
                )
                self._park(tenure, item.event, item.key, reason)
            case Skip():
                _log.warning(
                    "subscription %s: %s is skipped: %s", self.name, _place(item.event), describe(error)
                )
            case _:
                # Where its key cannot be told, neither can whose later events it would hold back.
                raise self._stopped(item, error) from error

    def _park(self, tenure: Tenure, event: StoredEvent, key: str, reason: str) -> None:
        most = self._then.most if isinstance(self._then, Park) else Park().most
        if len(self._parked) >= most and not self._parked.holds(key, event.position):
            raise StoppedError(f"{most:,} events are parked already; replay or drop them")
        self._parked.add(key, event, reason, tenure.clock.wall())

    def _stopped(self, item: Item, error: Exception) -> StoppedError:
        place = _place(item.event)
        if item.error is None:
            what = f"the handler failed at {place}"
        elif item.envelope is None:
            what = f"{place} could not be decoded"
        else:
            what = f"partition_by failed at {place}"
        return StoppedError(f"{what}: {describe(error)}")

    # ---- after a holder that may have died of an event

    async def _carefully(self, tenure: Tenure) -> None:
        """Handle events one by one, each attempt counted before the handler is called."""
        for _ in range(CAREFUL):
            page = await tenure.read(after=self._read_to, where=self._where, limit=1)
            if page.event_id:
                self._read_to = page.position
            for event in page.events:
                await self._try_carefully(tenure, self._item(event))
            if page.is_last:
                break
        if self._attempt is not None:
            place = tenure.checkpoint
            self._attempt = None
            await self._save(tenure, (place.position, place.event_id), ViewChange(_ATTEMPT, None))

    async def _try_carefully(self, tenure: Tenure, item: Item) -> None:
        event, last = item.event, self._attempt
        count = last.count if last is not None and last.position == event.position else 0
        if count < DEATHS:
            self._attempt = _Attempt(event.position, count + 1)
            place = tenure.checkpoint
            attempt = ViewChange(_ATTEMPT, msgspec.json.encode(self._attempt))
            await self._save(tenure, (place.position, place.event_id), attempt)
            if self._wants(item):
                await self._handle(tenure, [item])
        else:
            # Where this stops the subscription, a resume is a new try.
            self._attempt = None
            place = tenure.checkpoint
            await self._save(tenure, (place.position, place.event_id), ViewChange(_ATTEMPT, None))
            self._failed(tenure, item, took_the_process(count))
        await self._save(tenure, (event.position, event.id))

    # ---- errands

    async def replay(self, tenure: Tenure, key: str | None) -> int:
        """Call the handler for what is parked, of one key or of all; returns how many events were handled."""
        done = 0
        for one in [key] if key is not None else self._parked.keys():
            while parked := self._parked.of(one):
                is_done = await self._replay_one(tenure, parked[0])
                await self._save_beside(tenure)
                if not is_done:
                    break
                done += 1
        return done

    async def _replay_one(self, tenure: Tenure, parked: Parked) -> bool:
        event = await tenure.event_at(parked.position)
        try:
            if event is None or event.id != parked.event_id:
                raise LookupError(f"the log does not hold event {parked.event_id!r} at its position")
            await self._call([self._envelopes.of(event)])
        except Exception as error:  # noqa: BLE001 - whatever the user's code raises
            self._parked.failed_again(parked, describe(error))
            return False
        self._parked.release(parked)
        return True

    async def drop(self, tenure: Tenure, key: str | None) -> int:
        """Forget what is parked, of one key or of all; returns how many events were."""
        done = 0
        for one in [key] if key is not None else self._parked.keys():
            for parked in self._parked.of(one):
                self._parked.release(parked)
                done += 1
        await self._save_beside(tenure)
        return done

    async def _save_beside(self, tenure: Tenure) -> None:
        """Save what is parked where the place is."""
        await self._save(tenure, (tenure.checkpoint.position, tenure.checkpoint.event_id))


@contextmanager
def cancelled_is_failed() -> Generator[None]:
    """Here runs a handler. Where something that it waited for was cancelled it has failed: nobody has cancelled it."""
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise RuntimeError("what the handler waited for was cancelled") from error


def _filter(subscription: Subscription, envelopes: Envelopes) -> LogFilter:
    """What the store hands out: of the aggregates of the App, if nothing else is said."""
    streams = frozenset(subscription.streams)
    names = frozenset(aggregate.name for aggregate in subscription.aggregates)
    if not streams and not names:
        names = frozenset(envelopes.codecs)
    return LogFilter(streams=streams, aggregates=names, without=unwanted_of(subscription, envelopes.codecs))


def _place(event: StoredEvent) -> str:
    return f"{event.stream} version {event.version} ({event.type}) at position {event.position:,}"
