"""What runs a projection: reads the log in pages, folds, and saves the changed views with the checkpoint as one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Coroutine, Iterable
from functools import partial
from typing import Any, Final, NamedTuple

from rehydrate.codec.difference import difference, why_not_stored
from rehydrate.codec.json import JsonValueCodec
from rehydrate.domain.envelope import EventEnvelope
from rehydrate.domain.policy import Park, Skip
from rehydrate.domain.projection import Projection
from rehydrate.runtime.deaths import CAREFUL, DEATHS, took_the_process
from rehydrate.runtime.decision import describe
from rehydrate.runtime.envelopes import Envelopes
from rehydrate.runtime.folding import ChangedInPlaceError, Folding
from rehydrate.runtime.parking import Parked, ParkedEvents, list_parked
from rehydrate.runtime.tenure import ClosingError, StoppedError, Tenure
from rehydrate.runtime.view_type import check_view_type
from rehydrate.store.port import PAGE_SIZE, LogPage, Store, StoredEvent, ViewChange

_log = logging.getLogger(__name__)

CACHED_VIEWS: Final = 20_000
"""How many views a projector keeps in memory."""
CACHED_BYTES: Final = 64 * 1024 * 1024
"""Of these views, as stored."""
CHANGED_BYTES: Final = 8 * 1024 * 1024
"""Of the views that are saved with one checkpoint, as far as their size is known before they are encoded."""
MOST_CHANGES: Final = 900
"""How many views are saved with one checkpoint, unless a single event changes more."""
_FOLD_SLICE: Final = 256
"""Events that are folded between two turns of the event loop."""
LOADED_BYTES: Final = 8 * 1024 * 1024
"""Of the views that are loaded at once, as far as their size is known before."""
_FIRST_LOT: Final = 32
"""How many views are loaded at once before anything is known of their size."""
SAVE_CHANGES_EVERY: Final = 0.1
"""Seconds after which changed views are saved while there is more to read."""
SAVE_EVERY: Final = 1.0
"""Seconds after which a place is saved at which nothing changed."""
SAVE_EVENTS: Final = 10_000
"""Positions after which a place is saved at which nothing changed."""

_NEAR: Final = 10_000
"""A projection that is no more than so many positions behind is not being built any more."""


class _Step(NamedTuple):
    """An event, and the views that it changes."""

    event: StoredEvent
    envelope: EventEnvelope[Any] | None
    keys: tuple[str, ...]
    error: Exception | None = None
    """Why it cannot be told which views it changes."""
    fatal: Exception | None = None
    """Why it is not folded, though that could be told."""


class Projector:
    """The work of one projection."""

    kind = "projection"

    def __init__(self, projection: Projection[Any, Any], codec: JsonValueCodec, envelopes: Envelopes) -> None:
        self.name = projection.consumer
        self.projection = projection
        self._codec = codec
        self._folding = Folding(projection)
        self._envelopes = envelopes
        self._views: OrderedDict[str, Any] = OrderedDict()
        """The views that were used last; None for a key that has none."""
        self._sizes: dict[str, int] = {}
        """Of the views in memory, as they were stored last."""
        self._bytes = 0
        self._changed_bytes = 0
        self._has_all = False
        """Whether every view that is stored is also in memory."""
        self._parked = ParkedEvents()
        self._changed: dict[str, Any] = {}
        self._limit = self._most = MOST_CHANGES
        self._done = 0, ""
        """Up to where the log is folded: a position and the id of the event there."""
        self._saved_at = 0.0

    async def first(self, store: Store) -> tuple[int, str]:  # noqa: ARG002
        """A projection is of all events."""
        return 0, ""

    async def enter(self, tenure: Tenure) -> None:
        check_view_type(self.projection, self._codec, tenure.checkpoint)
        tenure.keep(fingerprint=self._codec.fingerprint)
        self._views.clear()
        self._sizes.clear()
        self._bytes = 0
        self._changed.clear()
        self._changed_bytes = 0
        # A projection that begins has no views yet, and one whose views all fit has to ask for none.
        self._has_all = tenure.checkpoint.position == 0
        self._parked = ParkedEvents(await list_parked(tenure.store, self.name))
        # The checkpoint is saved with them.
        self._limit = tenure.store.capabilities.max_view_changes - 1
        self._most = min(self._limit, MOST_CHANGES)
        self._done = tenure.checkpoint.position, tenure.checkpoint.event_id
        self._saved_at = tenure.clock.monotonic()
        tenure.progress.parked = len(self._parked)
        if tenure.is_unclean:
            # Counted before anything is folded that may be the end of this process, too.
            tenure.keep(deaths=tenure.kept.deaths + 1)
            await tenure.save(*self._done)

    async def run(self, tenure: Tenure) -> None:
        if tenure.kept.deaths > 1:
            await self._carefully(tenure)
        reading = asyncio.ensure_future(self._read(tenure, self._done[0]))
        try:
            while True:
                await tenure.attend()
                page = await reading
                tenure.check_closing()
                if not page.is_last:
                    # Read on while this page is folded and saved.
                    reading = asyncio.ensure_future(self._read(tenure, page.position))
                await self._fold(tenure, page)
                if page.is_last:
                    await self._at_the_end(tenure)
                    reading = asyncio.ensure_future(self._read(tenure, self._done[0]))
        except ClosingError:
            if self._changed or self._parked.unsaved or self._done[0] > tenure.checkpoint.position:
                await self._save(tenure)
            raise
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    def _read(self, tenure: Tenure, after: int, limit: int = PAGE_SIZE) -> Coroutine[Any, Any, LogPage]:
        return tenure.read(after=after, where=self._folding.where, limit=limit)

    async def _at_the_end(self, tenure: Tenure) -> None:
        """Everything is folded: wait for more."""
        unsaved = self._done[0] > tenure.checkpoint.position
        await tenure.more(after=self._done[0], within=SAVE_EVERY if unsaved else None)
        await self._save_place(tenure)

    # ---- folding

    async def _fold(self, tenure: Tenure, page: LogPage, steps: list[_Step] | None = None) -> None:
        if steps is None:
            steps = [self._prepared(event) for event in page.events]
        await self._load(tenure, {key: None for step in steps for key in step.keys})
        for number, step in enumerate(steps, 1):
            try:
                new = self._folded(tenure, step)
                if (
                    len(self._changed) + len(new) + self._parked.unsaved > self._most
                    or self._changed_bytes > CHANGED_BYTES
                ):
                    await self._save(tenure)
            except StoppedError:
                # What came before it counts, and the place shows where it stands still.
                await self._save(tenure)
                raise
            self._take(new)
            self._done = step.event.position, step.event.id
            tenure.progress.handled += 1
            if number % _FOLD_SLICE == 0:
                await asyncio.sleep(0)
        if page.event_id:
            self._done = page.position, page.event_id
        is_built = tenure.kept.built or page.is_last or await self._is_near_the_end(tenure)
        deaths = 0 if page.is_last else tenure.kept.deaths
        if is_built != tenure.kept.built or deaths != tenure.kept.deaths:
            tenure.keep(deaths=deaths)
            await self._save(tenure, built=is_built)
        elif not self._changed and not self._parked.unsaved:
            await self._save_place(tenure)
        elif page.is_last or deaths or tenure.clock.monotonic() - self._saved_at >= SAVE_CHANGES_EVERY:
            # Else the next page comes first: the views that are changed most are saved once for both.
            await self._save(tenure)
        self._forget_some()

    async def _is_near_the_end(self, tenure: Tenure) -> bool:
        """Whether this has caught up as far as it ever will while others write all the time."""
        if self._done[0] < tenure.progress.head:
            return False
        tenure.progress.head = (await tenure.persist(tenure.store.head)).position
        return tenure.progress.head - self._done[0] <= _NEAR

    async def _save_place(self, tenure: Tenure) -> None:
        """Nothing changed up to here, which readers in this process may know at once, and others before long."""
        position = self._done[0]
        behind = position - tenure.checkpoint.position
        if behind and (behind >= SAVE_EVENTS or tenure.clock.monotonic() - self._saved_at >= SAVE_EVERY):
            await self._save(tenure)
        else:
            tenure.progress.move(position)

    def _prepared(self, event: StoredEvent) -> _Step:
        try:
            envelope = self._envelopes.of(event)
            return _Step(event, envelope, self._folding.keys(envelope))
        except Exception as error:  # noqa: BLE001 - whatever the user's code raises
            return _Step(event, None, (), error)

    def _folded(self, tenure: Tenure, step: _Step) -> dict[str, Any]:
        """The views that one event changes, as they are after it."""
        event = step.event
        if step.error is not None:
            # Without a key it cannot be told whose later events it would hold back, so it cannot be parked either.
            if not isinstance(self.projection.on_error, Skip):
                raise self._stopped(event, step.error) from step.error
            self._say_skipped(event, step.error)
        new: dict[str, Any] = {}
        for key in step.keys:
            if key in self._parked:
                self._park(tenure, event, key, "")
                continue
            try:
                if step.fatal is not None:
                    raise step.fatal
                assert step.envelope is not None
                new[key] = self._folding.evolved(self._views[key], step.envelope)
            except ChangedInPlaceError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever the user's code raises
                self._failed(tenure, event, key, error)
        if len(new) > self._limit:
            raise StoppedError(
                f"{_place(event)} changes {len(new):,} views, and the store saves {self._limit:,} with one checkpoint"
            )
        return new

    def _take(self, new: dict[str, Any]) -> None:
        for key, view in new.items():
            if key not in self._changed:
                self._changed_bytes += self._sizes.get(key, 0)
            self._views[key] = self._changed[key] = view

    # ---- after holders that may have died of an event

    async def _carefully(self, tenure: Tenure) -> None:
        """Fold events one by one, each attempt counted before it is made."""
        try:
            for _ in range(CAREFUL):
                await tenure.attend()
                page = await self._read(tenure, self._done[0], limit=1)
                await self._fold(
                    tenure, page, [await self._attempted(tenure, event) for event in page.events]
                )
                await self._save(tenure)
                if page.is_last:
                    break
        except StoppedError:
            # A resume is a new try.
            tenure.keep(deaths=0, attempted=0, attempts=0)
            await self._save(tenure)
            raise
        # The next pages are saved one by one, as after one such end.
        tenure.keep(deaths=min(tenure.kept.deaths, 1), attempted=0, attempts=0)
        await self._save(tenure)

    async def _attempted(self, tenure: Tenure, event: StoredEvent) -> _Step:
        """An event to be folded, or, after so many attempts, only to be parked; or to be left alone altogether."""
        kept = tenure.kept
        count = kept.attempts if kept.attempted == event.position else 0
        error = took_the_process(count)
        if count > DEATHS or (count == DEATHS and not isinstance(self.projection.on_error, Park)):
            return _Step(event, None, (), error)
        # The key, which parking has to know, is of the user's code, too.
        tenure.keep(attempted=event.position, attempts=count + 1)
        await self._save(tenure)
        step = self._prepared(event)
        return step._replace(fatal=error) if count == DEATHS else step

    # ---- views in memory

    async def _load(self, tenure: Tenure, needed: Iterable[str]) -> None:
        """Have these views in memory, as the last that are let go."""
        views = self._views
        missing: list[str] = []
        for key in needed:
            if key in views:
                views.move_to_end(key)
            else:
                missing.append(key)
        if self._has_all:
            for key in missing:
                views[key] = None
            return
        while missing:
            lot, missing = missing[: self._lot()], missing[self._lot() :]
            found = await tenure.persist(partial(tenure.store.load_views, self.name, lot))
            for key in lot:
                data = found.get(key)
                views[key] = None if data is None else self._codec.decode(data)
                self._measure(key, data)

    def _lot(self) -> int:
        """How many views to load at once, by how large they are so far."""
        if not self._sizes:
            return _FIRST_LOT
        return max(_FIRST_LOT, min(PAGE_SIZE, LOADED_BYTES * len(self._sizes) // max(1, self._bytes)))

    def _measure(self, key: str, data: bytes | None) -> None:
        """Remember how large a view in memory is."""
        size = 0 if data is None else len(data)
        self._bytes += size - self._sizes.get(key, 0)
        self._sizes[key] = size

    def _forget_some(self) -> None:
        """Keep the memory bounded: only what is saved can go."""
        if self._changed:
            return
        while len(self._views) > CACHED_VIEWS or self._bytes > CACHED_BYTES:
            key, _ = self._views.popitem(last=False)
            self._bytes -= self._sizes.pop(key, 0)
            self._has_all = False

    # ---- saving

    async def _save(self, tenure: Tenure, *, built: bool | None = None) -> None:
        changes = [
            ViewChange(key, None if view is None else self._encoded(key, view))
            for key, view in self._changed.items()
        ]
        for change in changes:
            self._measure(change.key, change.data)
        self._changed.clear()
        self._changed_bytes = 0
        tenure.progress.parked = len(self._parked)
        while self._parked.unsaved > self._most:
            # What is parked may be saved ahead of the place, never behind it.
            place = tenure.checkpoint
            await tenure.save(place.position, place.event_id, views=self._parked.take_changes(self._most))
        position, event_id = self._done
        await tenure.save(position, event_id, views=[*changes, *self._parked.take_changes()], built=built)
        self._saved_at = tenure.clock.monotonic()

    def _encoded(self, key: str, view: Any) -> bytes:
        place = f"the view of {key!r} cannot be stored after position {self._done[0]:,}"
        try:
            data = self._codec.encode(view)
        except Exception as error:
            raise StoppedError(f"{place}: {describe(error)}") from error
        if self._codec.holds_floats and b"null" in data and (why := self._why_not_back(view, data)):
            raise StoppedError(f"{place}: {why}")
        return data

    def _why_not_back(self, view: Any, data: bytes) -> str:
        """Why a view in which a null stands, which may be a NaN, does not come back; empty if it does."""
        try:
            back = self._codec.decode(data)
        except Exception as error:  # noqa: BLE001 - whatever the user's classes raise
            return why_not_stored(view, describe(error))
        # To compare the two is cheaper than to look for a NaN in all of it.
        with contextlib.suppress(Exception):
            if difference(view, back) is None:
                return ""
        return why_not_stored(view, "")

    # ---- what it fails at

    def _failed(self, tenure: Tenure, event: StoredEvent, key: str, error: Exception) -> None:
        match self.projection.on_error:
            case Park(most=most) if len(self._parked) < most:
                _log.error(
                    "projection %s: %s is parked for the view of %r: %s",
                    self.name,
                    _place(event),
                    key,
                    describe(error),
                )
                self._park(tenure, event, key, describe(error))
            case Skip():
                self._say_skipped(event, error)
            case _:
                raise self._stopped(event, error) from error

    def _park(self, tenure: Tenure, event: StoredEvent, key: str, reason: str) -> None:
        policy = self.projection.on_error
        if isinstance(policy, Park) and len(self._parked) >= policy.most:
            raise StoppedError(f"{policy.most:,} events are parked already; replay or drop them")
        self._parked.add(key, event, reason, tenure.clock.wall())

    def _say_skipped(self, event: StoredEvent, error: Exception) -> None:
        _log.warning("projection %s: %s is skipped: %s", self.name, _place(event), describe(error))

    def _stopped(self, event: StoredEvent, error: Exception) -> StoppedError:
        return StoppedError(f"{_place(event)} cannot be folded: {describe(error)}")

    # ---- errands

    async def replay(self, tenure: Tenure, key: str | None) -> int:
        """Fold what is parked, of one key or of all; returns how many events were."""
        done = 0
        for one in [key] if key is not None else self._parked.keys():
            await self._load(tenure, [one])
            for parked in self._parked.of(one):
                if not await self._replay_one(tenure, parked):
                    break
                done += 1
                if len(self._changed) + self._parked.unsaved >= self._most - 1:
                    await self._save(tenure)
            await self._save(tenure)
        return done

    async def _replay_one(self, tenure: Tenure, parked: Parked) -> bool:
        event = await tenure.event_at(parked.position)
        try:
            if event is None or event.id != parked.event_id:
                raise LookupError(f"the log does not hold event {parked.event_id!r} at its position")
            envelope = self._envelopes.of(event)
            self._take({parked.key: self._folding.evolved(self._views[parked.key], envelope)})
        except ChangedInPlaceError:
            raise
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
                if self._parked.unsaved >= self._most:
                    await self._save(tenure)
        await self._save(tenure)
        return done


def _place(event: StoredEvent) -> str:
    return f"{event.stream} version {event.version} ({event.type}) at position {event.position:,}"
