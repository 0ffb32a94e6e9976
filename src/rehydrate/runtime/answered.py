"""Which commands instances were told of, that they were refused or changed nothing: looked for before one is sent again.

The events of a long instance are read once for all its commands, and not from each of them to the end.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from rehydrate.codec.process import REFUSED, UNCHANGED, Refused, Unchanged
from rehydrate.domain.envelope import EventEnvelope
from rehydrate.runtime.limits import TRAIL_IDS
from rehydrate.runtime.tenure import Tenure
from rehydrate.runtime.trail import Trail
from rehydrate.store.port import PAGE_SIZE, StoredEvent, StreamPage

_INSTANCES: Final = 10_000
"""Of how many instances it is kept what was read."""

_answers: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    REFUSED: msgspec.json.Decoder(Refused),
    UNCHANGED: msgspec.json.Decoder(Unchanged),
}
"""What an instance is told of commands that leave no trace at their targets."""


class Answered:
    """The commands that instances were told of, as far as somebody has asked."""

    def __init__(self) -> None:
        self._instances: OrderedDict[str, _Instance] = OrderedDict()
        self._ids = 0

    async def holds(self, tenure: Tenure, envelope: EventEnvelope[Any]) -> bool:
        """Whether the instance was told of the command that an event of it asks for."""
        instance = self._instances.get(envelope.stream)
        if instance is None:
            instance = self._instances[envelope.stream] = _Instance(envelope.stream, envelope.version)
        self._instances.move_to_end(envelope.stream)
        try:
            return await instance.was_told(tenure, envelope.id, envelope.version)
        finally:
            if self._instances.get(envelope.stream) is instance:
                self._ids += instance.count()
            self._forget()

    def _forget(self) -> None:
        """Forget those that were not asked of for the longest time."""
        while len(self._instances) > _INSTANCES or (self._ids > TRAIL_IDS and len(self._instances) > 1):
            _, instance = self._instances.popitem(last=False)
            self._ids -= instance.counted


class _Instance:
    """What one instance was told, in the part of its stream that was read."""

    def __init__(self, stream: str, after: int) -> None:
        self.counted = 0
        self._stream = stream
        self._turn = asyncio.Lock()
        self._begin(after)

    def _begin(self, after: int) -> None:
        self._trail = Trail(after, 0)
        self._until = after
        self._last_id = ""
        """Of the event at version `until`, once that was read."""

    def count(self) -> int:
        """How many more ids it has than when it was counted before."""
        more = len(self._trail) - self.counted
        self.counted += more
        return more

    async def was_told(self, tenure: Tenure, sent_id: str, after: int) -> bool:
        """Whether it was told of that command, behind version `after`.

        That is never more to read than from there up to what it was told, or to the end.
        """
        async with self._turn:
            if await self._knows(tenure, sent_id):
                return True
            if after > self._until:
                self._begin(after)
            elif after < self._trail.since and await self._read_before(tenure, sent_id, after):
                return True
            return await self._read_on(tenure, sent_id, after)

    async def _knows(self, tenure: Tenure, sent_id: str) -> bool:
        for version in self._trail.find(sent_id):
            page = await self._page(tenure, version - 1, limit=1)
            if any(id == sent_id for id, _ in _told_in(page.events)):
                return True
        return False

    async def _read_before(self, tenure: Tenure, sent_id: str, after: int) -> bool:
        """Read what stands before what was read; where the command is there, only up to it, and nothing of that is kept."""
        until = self._trail.since
        older: deque[tuple[list[tuple[str, int]], int]] = deque()
        count = 0
        while after < until:
            page = await self._page(tenure, after, limit=min(PAGE_SIZE, until - after))
            if not page.events:
                return False
            ids = _told_in(page.events)
            if any(id == sent_id for id, _ in ids):
                return True
            older.append((ids, after))
            count += len(ids)
            while count > TRAIL_IDS and len(older) > 1:
                # There is no room for what is oldest.
                count -= len(older.popleft()[0])
            after = page.events[-1].version
        for ids, since in reversed(older):
            if not self._trail.extend_back(ids, since, 0):
                break
        return False

    async def _read_on(self, tenure: Tenure, sent_id: str, after: int) -> bool:
        """Read on behind what was read, up to where the command is, or to the end."""
        while True:
            # Again with the last event of what was read, by which it shows whether it still is the same history.
            page = await self._page(tenure, max(self._until - 1, 0))
            new = page.events
            if self._until > 0:
                if not new and self._until == after:
                    return False  # Not even what asks for it is there any more.
                if not new or self._last_id not in {"", new[0].id}:
                    self._begin(after)
                    continue
                self._last_id = new[0].id
                new = new[1:]
                if not new and not page.is_last:
                    # It is so large that there was no room for another.
                    page = await self._page(tenure, self._until)
                    new = page.events
            ids = _told_in(new)
            self._trail.extend(ids, self._until, 0)
            if new:
                self._until, self._last_id = new[-1].version, new[-1].id
            if any(id == sent_id for id, _ in ids):
                return True
            if page.is_last or not new:
                return False

    async def _page(self, tenure: Tenure, after: int, limit: int = PAGE_SIZE) -> StreamPage:
        await asyncio.sleep(0)  # A store may answer at once, and there may be very many pages.
        return await tenure.persist(lambda: tenure.store.read_stream(self._stream, after=after, limit=limit))


def _told_in(events: Iterable[StoredEvent]) -> list[tuple[str, int]]:
    """The commands that events tell of, each with the version of its event."""
    return [
        (_answers[event.type].decode(event.data).sent_id, event.version)
        for event in events
        if event.type in _answers
    ]
