"""Whether all nodes of a cluster have one store: a command that is run by another node must land where its caller looks."""

from __future__ import annotations

from collections.abc import Iterable

from rehydrate.cluster.table import NodeCard
from rehydrate.store.port import Store


async def who_has_another_store(store: Store, cards: Iterable[NodeCard]) -> NodeCard | None:
    """A node whose newest event is not in this store. What has no event yet cannot be told from another store."""
    for card in cards:
        if card.head_position:
            page = await store.read_all(after=card.head_position - 1, limit=1)
            found = [(event.position, event.id) for event in page.events]
            if found != [(card.head_position, card.head_id)]:
                return card
    return None
