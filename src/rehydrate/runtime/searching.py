"""A search for a command in the stream of a target that has become long since: it goes on where it was."""

from __future__ import annotations

from rehydrate.runtime.tenure import Tenure
from rehydrate.runtime.window import command_id_of
from rehydrate.store.port import PAGE_SIZE


class Search:
    """For one command, from the event that caused it on, which it cannot stand before."""

    def __init__(self, stream: str, command_id: str, *, caused_at: int) -> None:
        self.position = caused_at
        """Up to there the command is not in the stream, and never will be: no event is ever stored there any more."""
        self._stream = stream
        self._command_id = command_id
        self._version: int | None = None
        """Of the last event that was looked at; None before the search has begun."""

    async def finds(self, tenure: Tenure) -> bool:
        """Search what has been stored since the last time; whether the command is there."""
        if self._version is None:
            self._version = await self._version_at(tenure, self.position)
        while True:
            page = await tenure.persist(
                lambda: tenure.store.read_stream(self._stream, after=self._version or 0, limit=PAGE_SIZE)
            )
            if any(command_id_of(event) == self._command_id for event in page.events):
                return True
            if page.events:
                self._version, self.position = page.events[-1].version, page.events[-1].position
            if page.is_last or not page.events:
                return False

    async def _version_at(self, tenure: Tenure, position: int) -> int:
        """The version of the last event at or before a position; 0 if there is none."""
        (end,) = await tenure.persist(lambda: tenure.store.versions([self._stream]))
        first = 0
        while first < end:
            middle = (first + end + 1) // 2
            page = await tenure.persist(
                lambda: tenure.store.read_stream(self._stream, after=middle - 1, limit=1)  # noqa: B023
            )
            if page.events and page.events[0].position <= position:
                first = middle
            else:
                end = middle - 1
        return first
