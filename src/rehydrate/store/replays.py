"""Reading streams for rehydration: many in one go, or one that is read on while it is being folded."""

from __future__ import annotations

import asyncio
from typing import Final, TypeAlias

from rehydrate.store.port import ReplayPage
from rehydrate.store.together import Asked, Together

MAX_PAGES: Final = 10
"""How many pages are read on in one go; together they should have no more bytes than one may have."""

Answer: TypeAlias = asyncio.Future[ReplayPage | None]
"""A page; None where it has to be asked for, which the first page of a question never is."""
Question: TypeAlias = Asked[tuple[str, int], ReplayPage | None]
"""For a page of a stream after a version."""


class Replays(Together[tuple[str, int], ReplayPage | None]):
    """The questions of all who rehydrate. Who is alone gets the next pages, too, each as soon as it is there."""

    async def page(self, stream: str, after: int) -> ReplayPage:
        """A page of a stream, without what rehydration does not need."""
        page = await self.ask((stream, after))
        assert page is not None
        return page
