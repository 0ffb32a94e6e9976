"""Names in pages: the server tells all of them at once and in no order, so a listing is kept for who asks on."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Awaitable, Callable
from typing import Final

_KEPT: Final = 4
"""Listings of so many readers."""


class Listing:
    """Pages of names in code point order. Whoever goes on behind a page sees what there was when he began."""

    def __init__(self, list_all: Callable[[str], Awaitable[list[str]]]) -> None:
        self._list_all = list_all
        self._kept: dict[tuple[str, str, str], list[str]] = {}
        """By pattern, prefix, and the name that was handed out last."""

    async def page(self, pattern: str, prefix: str, after: str, limit: int) -> list[str]:
        """Names of a pattern that have a prefix, behind a name."""
        if limit <= 0:
            return []
        names = self._kept.pop((pattern, prefix, after), None) if after else None
        if names is None:
            names = sorted(name for name in await self._list_all(pattern) if name.startswith(prefix))
        start = bisect_right(names, after)
        page = names[start : start + limit]
        if start + limit < len(names):
            self._kept[pattern, prefix, page[-1]] = names
            while len(self._kept) > _KEPT:
                del self._kept[next(iter(self._kept))]
        return page
