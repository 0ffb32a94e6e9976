"""Stores in memory, each with one mistake: the laws have to notice it."""

import asyncio
import random
from collections.abc import Sequence
from functools import partial

import msgspec

from rehydrate.errors import StoreError, StoreSealedError, VersionConflictError
from rehydrate.store.memory import MemoryStore
from rehydrate.store.port import (
    PAGE_SIZE,
    Appended,
    AppendWaiter,
    Checkpoint,
    Head,
    LogFilter,
    LogPage,
    NewEvent,
    Store,
    StoredEvent,
    StoredSnapshot,
    StreamPage,
    ViewChange,
)
from rehydrate.store.url import open_store

Outcome = Appended | StoreError | None


class Mutant(MemoryStore):
    @classmethod
    async def open_mutant(cls, url: str) -> Store:
        store = await open_store(url)
        store.__class__ = cls
        return store


class _Hiding(Mutant):
    """Shows some events later than others that come behind them."""

    def _what_is_late(self, positions: range) -> dict[int, int]:
        """The turns of the event loop after which each of these positions is shown."""
        raise NotImplementedError

    @property
    def _hidden(self) -> set[int]:
        hidden: set[int] = vars(self._opened).setdefault("hidden", set())
        return hidden

    def submit(
        self,
        stream: str,
        events: Sequence[NewEvent],
        expected_version: int,
        waiter: AppendWaiter,
        last_id: str = "",
        last_position: int = 0,
    ) -> Outcome:
        before = len(self._opened.log)
        outcome = super().submit(stream, events, expected_version, waiter, last_id, last_position)
        late = self._what_is_late(range(before + 1, len(self._opened.log) + 1))
        if not late:
            return outcome
        self._hidden.update(late)
        self._show(late, waiter, outcome, turn=0)
        return None

    def _show(self, late: dict[int, int], waiter: AppendWaiter, outcome: Outcome, *, turn: int) -> None:
        hidden, memory = self._hidden, self._opened
        hidden.difference_update(position for position, turns in late.items() if turns <= turn)
        if turn < max(late.values()):
            asyncio.get_running_loop().call_soon(partial(self._show, late, waiter, outcome, turn=turn + 1))
            return
        assert outcome is not None
        memory.wake()
        waiter.append_done(outcome)

    def _shown(self, events: list[StoredEvent]) -> list[StoredEvent]:
        hidden = self._hidden
        return [event for event in events if event.position not in hidden] if hidden else events

    async def versions(self, streams: Sequence[str]) -> list[int]:
        await asyncio.sleep(0)  # Whoever asks again until it is shown has to let it be shown.
        stored = self._memory.streams
        return [len(self._shown(stored.get(stream, []))) for stream in streams]

    async def read_stream(
        self,
        stream: str,
        *,
        after: int = 0,
        limit: int = PAGE_SIZE,
        near: int | None = None,
        may_lag: bool = False,
    ) -> StreamPage:
        stored, limit = self._shown(self._memory.streams.get(stream, [])), max(limit, 0)
        return StreamPage(stored[after : after + limit], after + limit >= len(stored))

    async def read_all(
        self, *, after: int = 0, limit: int = PAGE_SIZE, where: LogFilter | None = None
    ) -> LogPage:
        if not self._hidden or where is not None:
            return await super().read_all(after=after, limit=limit, where=where)
        behind = self._shown(self._memory.log[after:])
        position, event_id = (behind[:limit][-1].position, behind[:limit][-1].id) if behind else (after, "")
        return LogPage(behind[:limit], position, event_id, is_last=len(behind) <= limit)

    async def head(self) -> Head:
        log = self._shown(self._memory.log)
        return Head(log[-1].position, log[-1].id) if log else Head(0, "")


class PositionsBeforeCommit(_Hiding):
    def _what_is_late(self, positions: range) -> dict[int, int]:
        turns = random.Random(positions.start).randint(0, 5)
        return dict.fromkeys(positions, turns) if turns else {}


class HalvesApart(_Hiding):
    def _what_is_late(self, positions: range) -> dict[int, int]:
        return dict.fromkeys(positions[(len(positions) + 1) // 2 :], 3)


class SecondHalfLost(Mutant):
    """Loses the second half of what comes in the same turn of the event loop as the append of another task."""

    def submit(
        self,
        stream: str,
        events: Sequence[NewEvent],
        expected_version: int,
        waiter: AppendWaiter,
        last_id: str = "",
        last_position: int = 0,
    ) -> Outcome:
        tasks: set[object] = vars(self).setdefault("tasks", set())
        tasks.add(asyncio.current_task())
        asyncio.get_running_loop().call_soon(tasks.clear)
        kept = events if len(tasks) == 1 else events[: (len(events) + 1) // 2]
        outcome = super().submit(stream, kept, expected_version, waiter, last_id, last_position)
        if not isinstance(outcome, Appended):
            return outcome
        lost = len(events) - len(kept)
        return Appended(outcome.version + lost, outcome.position + lost)


class StaleVersionAccepted(Mutant):
    """One behind is near enough."""

    def submit(
        self,
        stream: str,
        events: Sequence[NewEvent],
        expected_version: int,
        waiter: AppendWaiter,
        last_id: str = "",
        last_position: int = 0,
    ) -> Outcome:
        outcome = super().submit(stream, events, expected_version, waiter, last_id, last_position)
        if isinstance(outcome, VersionConflictError) and outcome.actual == expected_version + 1:
            return super().submit(stream, events, outcome.actual, waiter, last_id, last_position)
        return outcome


class HeadsNotRefreshed(Mutant):
    """Each opened store believes the versions that it knows."""

    def submit(
        self,
        stream: str,
        events: Sequence[NewEvent],
        expected_version: int,
        waiter: AppendWaiter,
        last_id: str = "",
        last_position: int = 0,
    ) -> Outcome:
        known: dict[str, int] = vars(self).setdefault("known", {})
        outcome = super().submit(stream, events, expected_version, waiter, last_id, last_position)
        if isinstance(outcome, VersionConflictError) and known.get(stream) == expected_version:
            outcome = super().submit(stream, events, outcome.actual, waiter, last_id, last_position)
        if isinstance(outcome, Appended):
            known[stream] = max(outcome.version, known.get(stream, 0))
        return outcome


class RepeatStoredTwice(Mutant):
    def submit(
        self,
        stream: str,
        events: Sequence[NewEvent],
        expected_version: int,
        waiter: AppendWaiter,
        last_id: str = "",
        last_position: int = 0,
    ) -> Outcome:
        before = len(self._opened.log)
        outcome = super().submit(stream, events, expected_version, waiter, last_id, last_position)
        if isinstance(outcome, Appended) and len(self._opened.log) == before:
            return super().submit(stream, events, len(self._opened.streams[stream]), waiter)
        return outcome


class RepeatKnownAtTheEndOnly(Mutant):
    """Compares with the newest events, not with those behind the version that was expected."""

    def submit(
        self,
        stream: str,
        events: Sequence[NewEvent],
        expected_version: int,
        waiter: AppendWaiter,
        last_id: str = "",
        last_position: int = 0,
    ) -> Outcome:
        outcome = super().submit(stream, events, expected_version, waiter, last_id, last_position)
        version = len(self._opened.streams.get(stream, []))
        if isinstance(outcome, Appended) and outcome.version < version:
            return VersionConflictError(stream, expected_version, version)
        return outcome


class RepeatKnownByItsFirstEvent(Mutant):
    def submit(
        self,
        stream: str,
        events: Sequence[NewEvent],
        expected_version: int,
        waiter: AppendWaiter,
        last_id: str = "",
        last_position: int = 0,
    ) -> Outcome:
        outcome = super().submit(stream, events, expected_version, waiter, last_id, last_position)
        there = self._opened.streams.get(stream, [])[max(expected_version, 0) :][: len(events)]
        if isinstance(outcome, VersionConflictError) and there and there[0].id == events[0].id:
            return Appended(there[-1].version, there[-1].position)
        return outcome


class SnapshotGoesBack(Mutant):
    async def save_snapshot(self, snapshot: StoredSnapshot, *, keep: int) -> None:
        self._memory.snapshots.setdefault(snapshot.stream, []).append(snapshot)


class CheckpointWithoutEpoch(Mutant):
    async def save_checkpoint(
        self, checkpoint: Checkpoint, *, previous: Checkpoint | None, views: Sequence[ViewChange] = ()
    ) -> bool:
        there = await self.load_checkpoint(checkpoint.name)
        if there and previous and there.position == previous.position:
            previous = msgspec.structs.replace(previous, epoch=min(there.epoch, checkpoint.epoch))
            self._memory.checkpoints[checkpoint.name] = previous
        return await super().save_checkpoint(checkpoint, previous=previous, views=views)


class ViewsBesideTheCheckpoint(Mutant):
    """Writes the views first, and then sees whether the checkpoint can be moved."""

    async def save_checkpoint(
        self, checkpoint: Checkpoint, *, previous: Checkpoint | None, views: Sequence[ViewChange] = ()
    ) -> bool:
        kept = self._memory.views.setdefault(checkpoint.name, {})
        for view in views:
            if view.data is None:
                kept.pop(view.key, None)
            else:
                kept[view.key] = view.data
        return await super().save_checkpoint(checkpoint, previous=previous)


class FilteredReaderStandsStill(Mutant):
    """A page ends at the last event that matched."""

    async def read_all(
        self, *, after: int = 0, limit: int = PAGE_SIZE, where: LogFilter | None = None
    ) -> LogPage:
        page = await super().read_all(after=after, limit=limit, where=where)
        if where is None or not page.events:
            return page
        last = page.events[-1]
        return LogPage(page.events, last.position, last.id, page.is_last)


class LeavesOutByTypeAlone(Mutant):
    """A type that one aggregate's events are not wanted of is left out of all."""

    async def read_all(
        self, *, after: int = 0, limit: int = PAGE_SIZE, where: LogFilter | None = None
    ) -> LogPage:
        if where is not None:
            aggregates = {event.stream.partition("-")[0] for event in self._memory.log}
            everywhere = frozenset((any_of, type) for any_of in aggregates for _, type in where.without)
            where = msgspec.structs.replace(where, without=everywhere)
        return await super().read_all(after=after, limit=limit, where=where)


class LastPageTooEarly(Mutant):
    """Takes a page that is exactly full for the last."""

    async def read_stream(
        self,
        stream: str,
        *,
        after: int = 0,
        limit: int = PAGE_SIZE,
        near: int | None = None,
        may_lag: bool = False,
    ) -> StreamPage:
        page = await super().read_stream(stream, after=after, limit=limit)
        return StreamPage(page.events, is_last=True)


class NegativeLimitMeansAll(Mutant):
    """Takes a negative limit for none, as some databases do."""

    async def read_all(
        self, *, after: int = 0, limit: int = PAGE_SIZE, where: LogFilter | None = None
    ) -> LogPage:
        return await super().read_all(after=after, limit=PAGE_SIZE if limit < 0 else limit, where=where)


class WakeMissed(Mutant):
    """Begins to wait a turn of the loop after it has looked."""

    async def wait(self, *, after: int) -> None:
        if len(self._memory.log) > after:
            return
        await asyncio.sleep(0)
        await super().wait(after=len(self._memory.log))


class CancelledHalfWay(Mutant):
    """Stores event by event, and lets others run between them."""

    async def append(
        self, stream: str, events: Sequence[NewEvent], *, expected_version: int | str
    ) -> Appended:
        if not isinstance(expected_version, int) or not 1 < len(events) < 4:
            return await super().append(stream, events, expected_version=expected_version)  # type: ignore[arg-type]
        first = await super().append(stream, events[:1], expected_version=expected_version)
        await asyncio.sleep(0)
        return await super().append(stream, events[1:], expected_version=first.version)


class AnotherHistoryAccepted(Mutant):
    """Looks at the number of a version, and not at the event there."""

    def submit(
        self,
        stream: str,
        events: Sequence[NewEvent],
        expected_version: int,
        waiter: AppendWaiter,
        last_id: str = "",
        last_position: int = 0,
    ) -> Outcome:
        return super().submit(stream, events, expected_version, waiter)


class SealsOnlyItself(Mutant):
    """Keeps the seal in the opened store, and not beside what is stored."""

    async def seal(self) -> None:
        vars(self)["sealed"] = True

    def submit(
        self,
        stream: str,
        events: Sequence[NewEvent],
        expected_version: int,
        waiter: AppendWaiter,
        last_id: str = "",
        last_position: int = 0,
    ) -> Outcome:
        self._opened.sealed = vars(self).get("sealed", False)
        try:
            return super().submit(stream, events, expected_version, waiter, last_id, last_position)
        finally:
            self._opened.sealed = False


class SealForgetsRepeats(Mutant):
    """A sealed store refuses what it has stored itself."""

    def submit(
        self,
        stream: str,
        events: Sequence[NewEvent],
        expected_version: int,
        waiter: AppendWaiter,
        last_id: str = "",
        last_position: int = 0,
    ) -> Outcome:
        if self._opened.sealed:
            return StoreSealedError(self.url)
        return super().submit(stream, events, expected_version, waiter, last_id, last_position)


class ReadableAfterClosing(Mutant):
    """Checks every call but one."""

    async def head(self) -> Head:
        log = self._opened.log
        return Head(log[-1].position, log[-1].id) if log else Head(0, "")
