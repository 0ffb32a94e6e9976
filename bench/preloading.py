"""What is in the store before the clock runs, where that is much: written in large appends, and read back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from bench.appending import new_events
from bench.bank import Bank
from bench.sample import require
from rehydrate.runtime.runtime import Runtime
from rehydrate.store.port import Store

AMOUNT: Final = 10
"""Of each deposit."""
_WRITERS: Final = 64
_APPEND: Final = 1_000


async def preload(
    store: Store, streams: int, events: int, *, after: int = 0, most: int = _APPEND
) -> list[str]:
    """So many deposits, each with an id of its own, for so many accounts, after what they have; their ids.

    An append has `most` of them at most.
    """
    ids = [f"account-{number}" for number in range(streams)]
    left = iter(ids)

    async def write() -> None:
        for id in left:
            for version in range(after, after + events, most):
                new = new_events(min(most, after + events - version))
                await store.append(f"bank_account-{id}", new, expected_version=version)

    await asyncio.gather(*[write() for _ in range(min(_WRITERS, streams))])
    stored = await stored_events(store, ids)
    require(stored=stored, expected=streams * (after + events), what=f"{store.url}, preloaded")
    return ids


async def stored_events(store: Store, ids: Sequence[str]) -> int:
    """How many events the streams of these accounts hold."""
    return sum(
        [
            sum(await store.versions([f"bank_account-{id}" for id in ids[start : start + _APPEND]]))
            for start in range(0, len(ids), _APPEND)
        ]
    )


async def wake(runtime: Runtime, bank: Bank, ids: Sequence[str]) -> None:
    """Have these accounts in memory."""
    left = iter(ids)

    async def ask() -> None:
        for id in left:
            await runtime.state(bank.account, id)

    await asyncio.gather(*[ask() for _ in range(_WRITERS)])
