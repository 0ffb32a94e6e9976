"""When SQLite's log of writes (WAL) is moved into the database.

Most of the pages in it are there many times, and moved once. So the longer it is, the less there is to move for each
commit; but the longer the disk is busy with it at a time, and the more there is to read after a crash.
"""

from __future__ import annotations

from typing import Final

FEWEST_PAGES: Final = 1_000
"""A log shorter than this, 4 MiB, is not worth moving."""
MOST_PAGES: Final = 12_000
"""A log longer than this, 48 MiB, is moved whatever it takes."""
TOO_MANY_PAGES: Final = 15_000
"""A log that is longer than this, 60 MiB, although it is being moved, grows faster than it is: then the writer waits."""
MOST_TIME: Final = 0.04
"""The part of the time for which moving may take: where it takes more, the log gets twice as long."""
LONG_MOVE: Final = 0.1
"""Seconds that moving may take: where it takes half of them, the log does not get longer, and else shorter."""

_PAGE: Final = 4_096
_MOST_PER_APPEND: Final = 4.0


class LogOfWrites:
    """How long it is, as its writer knows: SQLite tells only when it is moved."""

    def __init__(self) -> None:
        self.limit = FEWEST_PAGES
        self._appends = 0
        self._bytes = 0
        self._pages_per_append = 3.0
        """Beside those of its data: of an append to a stream that was long idle, one of each index and of the table."""
        self._counted = 0, 0
        """Appends and bytes when moving began."""
        self._beginnings: int | None = None
        """How often it had begun anew when it was looked at last."""
        self._began = 0.0
        self._ended = 0.0

    def grew(self, size: int, appends: int) -> None:
        """So many bytes of so many appends were committed."""
        self._bytes += size
        self._appends += appends

    def is_long(self) -> bool:
        """Whether it is time to move it."""
        return self._pages() >= self.limit

    def is_too_long(self) -> bool:
        """Whether it grows faster than it is moved."""
        return self._pages() >= TOO_MANY_PAGES

    def moving(self, now: float) -> None:
        """It begins to be moved."""
        self._began = now
        self._counted = self._appends, self._bytes

    def had(self, pages: int, beginnings: int) -> None:
        """So many pages it had about then, and so often it has begun anew in all."""
        if not pages:
            return
        appends, size = self._counted
        before, self._beginnings = self._beginnings, beginnings
        if before is not None and beginnings - before > 1:
            # It was so long that a commit moved it, before it was thought to be long: these are the pages since then.
            self._pages_per_append = min(self._pages_per_append * 2, _MOST_PER_APPEND)
        elif appends:
            others = pages - size // _PAGE
            self._pages_per_append = min(max(others / appends, 1 / 64), _MOST_PER_APPEND)

    def moved(self, now: float) -> None:
        """It was moved."""
        took, since = now - self._began, self._began - self._ended
        if took > LONG_MOVE:
            self.limit = max(self.limit // 2, FEWEST_PAGES)
        elif took > since * MOST_TIME and took < LONG_MOVE / 2:
            self.limit = min(self.limit * 2, MOST_PAGES)
        self._ended = now

    def begins_anew(self) -> None:
        """Count from here on."""
        self._appends = 0
        self._bytes = 0

    def _pages(self) -> float:
        return self._appends * self._pages_per_append + self._bytes // _PAGE
