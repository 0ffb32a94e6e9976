"""What fires the timers of a process manager: its pending timers are views, by when they are due, of what it has stored.

A timer is due when the wall clock says so, and the wait for that is counted on the monotonic clock. A timer never fires
early: where the wall clock jumps forward by more than a minute, time goes on at the pace of before until the jump has
stood for a minute. Where it jumps back, timers wait until it is there again.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import Any, Final

import msgspec

from rehydrate.codec.process import CANCELLED, DUE, SENT, Cancelled, Due, Fire, Sent
from rehydrate.domain.streams import split_stream_name
from rehydrate.errors import StoreSealedError
from rehydrate.runtime.decision import describe
from rehydrate.runtime.process import Process
from rehydrate.runtime.runtime import Runtime
from rehydrate.runtime.tenure import ClosingError, StoppedError, Tenure, Wait, sleep
from rehydrate.runtime.window import metadata_in
from rehydrate.store.port import (
    PAGE_SIZE,
    CheckpointStore,
    LogFilter,
    LogPage,
    Store,
    StoredEvent,
    ViewChange,
)

_log = logging.getLogger(__name__)

LOT: Final = 64
"""How many timers are fired at the same time."""
LOOK: Final = 1.0
"""Seconds between two looks at the clocks while a timer is pending."""
JUMP: Final = 60.0
"""Seconds that the wall clock may gain at once without being doubted."""
DOUBT: Final = 60.0
"""Seconds after which a jump of the wall clock is believed."""
SAVE_EVERY: Final = 1.0
"""Seconds after which a place is saved at which nothing changed."""
SAVE_EVENTS: Final = 10_000
"""Positions after which it is."""
AGAIN: Final = 5.0
"""Seconds after which a timer is tried again whose instance could not take it."""
_MOST_CHANGES: Final = 900


class _Pending(msgspec.Struct, frozen=True):
    """A pending timer, as it is stored: all that firing it takes."""

    stream: str
    number: int
    sent_id: str
    aggregate: str
    id: str
    type: str
    command: msgspec.Raw
    correlation_id: str | None


_write = msgspec.json.Encoder().encode
_read = msgspec.json.Decoder(_Pending).decode
_records: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    SENT: msgspec.json.Decoder(Sent),
    CANCELLED: msgspec.json.Decoder(Cancelled),
    DUE: msgspec.json.Decoder(Due),
}


class Timers:
    """The work of firing the timers of one process manager."""

    kind = "timers"

    def __init__(self, process: Process, runtime: Runtime) -> None:
        self.name = timers_of(process.name)
        self._process = process
        self._runtime = runtime
        self._where = LogFilter(aggregates=frozenset({process.name}), types=frozenset(_records))
        self._changes: dict[str, bytes | None] = {}
        self._done = 0, ""
        self._next: int | None = None
        """When the first pending timer is due; None if there is none."""
        self._saved_at = 0.0
        self._clocks = 0, 0.0
        """The wall clock, as far as it is believed, and the monotonic one at that moment."""
        self._doubted: float | None = None
        """Since when the wall clock is too far ahead, on the monotonic one."""

    async def first(self, store: Store) -> tuple[int, str]:  # noqa: ARG002
        """All timers there ever were."""
        return 0, ""

    async def enter(self, tenure: Tenure) -> None:
        self._changes.clear()
        self._done = tenure.checkpoint.position, tenure.checkpoint.event_id
        self._clocks = tenure.clock.wall(), tenure.clock.monotonic()
        self._doubted = None
        self._saved_at = tenure.clock.monotonic()
        await self._look_up_next(tenure)

    async def run(self, tenure: Tenure) -> None:
        limit = min(
            PAGE_SIZE, getattr(tenure.store.capabilities, "max_view_changes", _MOST_CHANGES), _MOST_CHANGES
        )
        try:
            while True:
                await tenure.attend()
                page = await tenure.read(after=self._done[0], where=self._where, limit=limit)
                await self._fold(tenure, page)
                while self._is_due(tenure):
                    await self._fire_lot(tenure)
                if page.is_last:
                    await self._wait(tenure)
        except ClosingError:
            if self._changes or self._is_ahead(tenure):
                await self._save(tenure)
            raise

    async def replay(self, tenure: Tenure, key: str | None) -> int:  # noqa: ARG002
        """Nothing is ever parked here."""
        return 0

    async def drop(self, tenure: Tenure, key: str | None) -> int:  # noqa: ARG002
        """Nothing is ever parked here."""
        return 0

    # ---- which timers there are

    async def _fold(self, tenure: Tenure, page: LogPage) -> None:
        for event in page.events:
            record: Sent | Cancelled | Due = _records[event.type].decode(event.data)
            if record.due is None:
                continue
            if isinstance(record, Sent):
                self._changes[_key(record.due, event.stream, record.number)] = _write(_pending(event, record))
                self._next = record.due if self._next is None else min(self._next, record.due)
            else:
                self._changes[_key(record.due, event.stream, record.number)] = None
        tenure.progress.handled += len(page.events)
        if page.event_id:
            self._done = page.position, page.event_id
        if self._changes or (self._is_ahead(tenure) and self._is_time_to_save(tenure)):
            await self._save(tenure, built=page.is_last or tenure.kept.built)
        else:
            tenure.progress.move(self._done[0])

    def _is_time_to_save(self, tenure: Tenure) -> bool:
        behind = self._done[0] - tenure.checkpoint.position
        return behind >= SAVE_EVENTS or tenure.clock.monotonic() - self._saved_at >= SAVE_EVERY

    def _is_ahead(self, tenure: Tenure) -> bool:
        """Whether more was read than is saved."""
        return self._done[0] > tenure.checkpoint.position

    async def _save(self, tenure: Tenure, *, built: bool | None = None) -> None:
        changes = [ViewChange(key, data) for key, data in self._changes.items()]
        self._changes.clear()
        await tenure.save(*self._done, views=changes, built=built)
        self._saved_at = tenure.clock.monotonic()

    async def _look_up_next(self, tenure: Tenure) -> None:
        first = await tenure.persist(lambda: tenure.store.list_views(self.name, limit=1))
        self._next = _due_in(first[0][0]) if first else None

    # ---- what is due

    def _is_due(self, tenure: Tenure) -> bool:
        return self._next is not None and self._next <= self._now(tenure)

    async def _fire_lot(self, tenure: Tenure) -> None:
        """Fire the first of those that are due, whatever becomes of each."""
        now = self._now(tenure)
        page = await tenure.persist(lambda: tenure.store.list_views(self.name, limit=LOT))
        due = [(key, _read(data)) for key, data in page if _due_in(key) <= now]
        fired = await asyncio.gather(*[self._fire(pending) for _, pending in due])
        for outcome in fired:
            if isinstance(outcome, StoreSealedError):
                # For good: they stay due, and one word about that is enough.
                raise StoppedError(str(outcome))
        for (key, pending), is_fired in zip(due, fired, strict=True):
            self._changes[key] = None
            if not is_fired:
                again = now + round(AGAIN * 1e6)
                self._changes[_key(again, pending.stream, pending.number)] = _write(pending)
        if self._changes:
            await self._save(tenure)
        await self._look_up_next(tenure)

    async def _fire(self, pending: _Pending) -> bool | StoreSealedError:
        """Have the instance say that it is due; one that was cancelled, or fired before, is no more. Then it is done."""
        fire = Fire(pending.number, pending.aggregate, pending.id, pending.type, bytes(pending.command))
        try:
            await self._runtime.dispatch(
                self._process.instances,
                split_stream_name(pending.stream)[1],
                fire,
                correlation_id=pending.correlation_id,
                causation_id=pending.sent_id,
            )
        except StoreSealedError as error:
            return error
        except Exception as error:  # noqa: BLE001 - the other timers must not wait for this one
            _log.warning(
                "timers of %s: one of %s could not be fired, and is tried again in %g s: %s",
                self._process.name,
                pending.stream,
                AGAIN,
                describe(error),
            )
            return False
        return True

    async def _wait(self, tenure: Tenure) -> None:
        """Until there may be more events, or a timer is due, or there is an errand."""
        while not self._is_due(tenure):
            waits: list[Wait] = [lambda: tenure.arrival(after=self._done[0]), tenure.called.wait]
            seconds = LOOK
            if self._next is not None:
                seconds = min(LOOK, (self._next - self._now(tenure)) / 1e6)
            if self._next is not None or self._is_ahead(tenure):
                waits.append(lambda: sleep(tenure.clock, seconds))  # noqa: B023
            ended = await tenure.first_of(*waits)
            if ended & {0, 1}:
                return
            if self._is_ahead(tenure) and self._is_time_to_save(tenure):
                await self._save(tenure)

    def _now(self, tenure: Tenure) -> int:
        """The time of day in microseconds, as far as the wall clock is believed."""
        wall, monotonic = tenure.clock.wall(), tenure.clock.monotonic()
        expected = self._clocks[0] + round((monotonic - self._clocks[1]) * 1e6)
        if wall - expected <= JUMP * 1e6:
            self._doubted = None
            now = wall
        elif self._doubted is None:
            self._doubted = monotonic
            _log.warning(
                "timers of %s: the clock of this machine jumped forward by %.0f s, which is believed if it stays so for %g s",
                self._process.name,
                (wall - expected) / 1e6,
                DOUBT,
            )
            now = expected
        elif monotonic - self._doubted >= DOUBT:
            self._doubted = None
            now = wall
        else:
            now = expected
        self._clocks = now, monotonic
        return now


def timers_of(process: str) -> str:
    """The name of the checkpoint that the pending timers of a process manager lie beside."""
    return f"{process}:timers"


async def count_pending(store: CheckpointStore, consumer: str) -> int:
    """How many timers lie beside the checkpoint of a consumer: those that are pending, as far as it has read."""
    if not consumer.endswith(":timers"):
        return 0
    count, after = 0, ""
    while True:
        page = await store.list_views(consumer, after=after, limit=PAGE_SIZE)
        count += len(page)
        if len(page) < PAGE_SIZE:
            return count
        after = page[-1][0]


def _pending(event: StoredEvent, sent: Sent) -> _Pending:
    return _Pending(
        event.stream,
        sent.number,
        event.id,
        sent.aggregate,
        sent.id,
        sent.type,
        sent.command,
        metadata_in(event).correlation_id,
    )


def _key(due: int, stream: str, number: int) -> str:
    digest = hashlib.blake2b(f"{stream}/{number}".encode(), digest_size=16).hexdigest()
    return f"{max(due, 0):020d}/{digest}"


def _due_in(key: str) -> int:
    return int(key[:20])
