"""Events on their way through several workers: in order within a lane, side by side between lanes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

from rehydrate.domain.envelope import EventEnvelope
from rehydrate.store.port import StoredEvent

MOST_BYTES: Final = 16 * 1024 * 1024
"""Of the events under way, as stored; a page more may be on its way."""


class Item:
    """An event under way."""

    __slots__ = ("envelope", "error", "event", "is_done", "key", "lane")

    def __init__(self, event: StoredEvent) -> None:
        self.event = event
        self.envelope: EventEnvelope[Any] | None = None
        self.error: Exception | None = None
        """Why there is no envelope, or no key."""
        self.key: str | None = None
        """Whose events wait if this one is parked; None if that cannot be told."""
        self.lane = ""
        self.is_done = False


class Lanes:
    """Hands out events to workers, and knows up to where all are done."""

    def __init__(
        self,
        handle: Callable[[list[Item]], Awaitable[None]],
        *,
        workers: int,
        batch: int,
        room: int,
        done: tuple[int, str],
    ) -> None:
        self.under_way = 0
        self._bytes = 0
        """Of those that are under way."""
        self._most = room
        self.failure: BaseException | None = None
        """What a worker failed with; nothing is begun after that."""
        self.changed = asyncio.Event()
        """Set when something was done, or a worker failed."""
        self.done = done
        """Up to where everything is done: a position and the id of the event there."""
        self._handle = handle
        self._workers = workers
        self._batch = batch
        self._lanes: dict[str, deque[Item]] = {}
        """Only lanes that have something, in hand or waiting."""
        self._ready: deque[str] = deque()
        """Lanes that have something and no worker."""
        self._order: deque[Item | tuple[int, str]] = deque()
        """What is under way in the order of the log, and the ends of pages between."""
        self._running: set[asyncio.Task[None]] = set()

    @property
    def room(self) -> int:
        """How many more may be under way."""
        return self._most - self.under_way if self._bytes < MOST_BYTES else 0

    @property
    def has_room(self) -> bool:
        return self.room > 0

    def add(self, item: Item) -> None:
        """Have it handled, after what was added to its lane before."""
        self._order.append(item)
        self.under_way += 1
        self._bytes += len(item.event.data)
        lane = self._lanes.get(item.lane)
        if lane is None:
            self._lanes[item.lane] = deque([item])
            self._ready.append(item.lane)
            self._start()
        else:
            lane.append(item)

    def mark(self, position: int, event_id: str) -> None:
        """The log was read up to here."""
        self._order.append((position, event_id))
        self._advance()

    async def finish(self) -> None:
        """Let what is in hand come to its end, and begin nothing else."""
        self._ready.clear()
        self._workers = 0
        while self._running:
            await asyncio.wait(set(self._running))

    async def cancel(self) -> None:
        """End what is in hand where it stands."""
        self._workers = 0
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _start(self) -> None:
        while self._ready and len(self._running) < self._workers and self.failure is None:
            task = asyncio.ensure_future(self._work())
            self._running.add(task)
            task.add_done_callback(self._ended)

    async def _work(self) -> None:
        """Take lane after lane, as long as there is one."""
        while self._ready and self._workers and self.failure is None:
            lane = self._ready.popleft()
            waiting = self._lanes[lane]
            items = [waiting.popleft() for _ in range(min(self._batch, len(waiting)))]
            await self._handle(items)
            for item in items:
                item.is_done = True
                self._bytes -= len(item.event.data)
            self.under_way -= len(items)
            if waiting:
                self._ready.append(lane)
            else:
                del self._lanes[lane]
            self._advance()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self.failure = self.failure or failure
        self.changed.set()
        self._start()

    def _advance(self) -> None:
        order = self._order
        while order:
            first = order[0]
            if not isinstance(first, Item):
                self.done = first
            elif first.is_done:
                self.done = first.event.position, first.event.id
            else:
                break
            order.popleft()
        self.changed.set()
