"""When SQLite's log of writes (WAL) is moved into the database.

Most of the pages in it are there many times, and moved once. So the longer it is, the less there is to move for each
commit; but the longer is the pause in which nothing is committed, and the more there is to read after a crash.
"""

from __future__ import annotations

from typing import Final

FEWEST_PAGES: Final = 1_000
"""A log shorter than this, 4 MiB, is not worth moving."""
MOST_PAGES: Final = 12_000
"""A log longer than this, 48 MiB, is moved whatever it takes."""
MOST_TIME: Final = 0.04
"""The part of the time for which moving may take: where it takes more, the log gets twice as long."""
LONG_PAUSE: Final = 0.1
"""Seconds that moving may take at once: where it takes half of them, the log does not get longer, and else shorter."""

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
        self._began = 0.0
        self._ended = 0.0

    def grew(self, size: int, appends: int) -> None:
        """So many bytes of so many appends were committed."""
        self._bytes += size
        self._appends += appends

    def is_long(self) -> bool:
        """Whether it is time to move it."""
        return self._appends * self._pages_per_append + self._bytes // _PAGE >= self.limit

    def moving(self, now: float) -> None:
        """It is being moved."""
        self._began = now

    def moved(self, now: float, pages: int) -> None:
        """It was moved, and had so many pages."""
        took, since = now - self._began, self._began - self._ended
        if took > LONG_PAUSE:
            self.limit = max(self.limit // 2, FEWEST_PAGES)
        elif took > since * MOST_TIME and took < LONG_PAUSE / 2:
            self.limit = min(self.limit * 2, MOST_PAGES)
        if self._appends:
            others = pages - self._bytes // _PAGE
            self._pages_per_append = min(max(others / self._appends, 1 / 64), _MOST_PER_APPEND)
        self._ended = now

    def begins_anew(self) -> None:
        """Count from here on."""
        self._appends = 0
        self._bytes = 0
