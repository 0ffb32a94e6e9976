"""Questions to a store whose answer may have to be waited for: an error that passes, a replica that lags behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from rehydrate.cli.run.sending import PAUSES
from rehydrate.errors import StoreUnavailableError
from rehydrate.store.port import PAGE_SIZE, Checkpoint, Store, StoredEvent

T = TypeVar("T")


async def persistently(ask: Callable[[], Awaitable[T]]) -> T:
    """The answer to a question that may be asked twice; an error that may pass is waited out, for seconds."""
    for pause in PAUSES:
        try:
            return await ask()
        except StoreUnavailableError as error:
            if not error.retryable:
                raise
        await asyncio.sleep(pause)
    return await ask()


async def events_behind(
    store: Store, after: int, *, newest: int, limit: int = PAGE_SIZE
) -> list[StoredEvent]:
    """The next events of a log that is known to hold one at the position `newest`, behind `after`: at least one.

    Raises `StoreUnavailableError` if it does not show any within seconds: a replica may lag behind.
    """
    return await persistently(partial(_events_behind, store, after, newest, limit))


async def event_at(store: Store, checkpoint: Checkpoint) -> StoredEvent | None:
    """The event at which a checkpoint stands; None if the log ends before it, or holds another one there.

    Raises `StoreUnavailableError` if the log is not shown so far within seconds: a replica may lag behind.
    """
    # Never from a replica: so where the log is not read up to here, it is the reader who is behind.
    head = await persistently(store.head)
    if checkpoint.position > head.position:
        return None
    event = (await events_behind(store, checkpoint.position - 1, newest=head.position, limit=1))[0]
    is_its = (event.position, event.id) == (checkpoint.position, checkpoint.event_id)
    return event if is_its else None


async def _events_behind(store: Store, after: int, newest: int, limit: int) -> list[StoredEvent]:
    page = await store.read_all(after=after, limit=limit)
    if not page.events:
        raise StoreUnavailableError(
            f"{store.url} shows no event behind position {after:,}, and its newest one is at {newest:,}: "
            "if a replica answers, it lags behind; try again"
        )
    return page.events
