"""Whether all nodes of a cluster have one store: a command that is run by another node must land where its caller looks."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping

from rehydrate.cluster.table import NodeCard
from rehydrate.store.port import Store

_log = logging.getLogger(__name__)


async def who_has_another_store(store: Store, cards: Iterable[NodeCard]) -> NodeCard | None:
    """A node whose newest event is not in this store. What has no event yet cannot be told from another store."""
    for card in cards:
        if card.head_position:
            page = await store.read_all(after=card.head_position - 1, limit=1)
            found = [(event.position, event.id) for event in page.events]
            if found != [(card.head_position, card.head_id)]:
                return card
    return None


async def tell_of_other_stores(
    store: Store,
    others: Callable[[], Mapping[str, NodeCard]],
    pause: Callable[[], Awaitable[None]],
    cluster: str,
) -> None:
    """Compare for as long as this node is there: stores that were empty when their nodes met can be told apart only later."""
    compared: set[str] = set()
    suspected = ""
    while True:
        await pause()
        new = {node: card for node, card in others().items() if card.head_position}
        compared &= new.keys()
        try:
            other = await who_has_another_store(store, [new[node] for node in new.keys() - compared])
        except Exception as error:  # noqa: BLE001 - it is compared again
            _log.debug("%s: the stores of its nodes cannot be compared now: %s", cluster, error)
            continue
        if other is None:
            compared |= new.keys()
            suspected = ""
        elif other.label == suspected:
            _log.error(
                "%s: %s has another store, which has an event at position %s that is not in this one, so that what is asked "
                "of one node is stored where another does not see it: stop them, and give all nodes of a cluster the same "
                "store",
                cluster,
                other.label,
                f"{other.head_position:,}",
            )
        else:
            # A replica may lag.
            suspected = other.label
