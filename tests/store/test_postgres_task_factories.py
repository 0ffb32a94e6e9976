"""The task that writes is made by no factory of the loop's: one may have tasks begin at once, in the middle of starting it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rehydrate.errors import StoreError
from rehydrate.store.port import Appended, NewEvent, Store
from rehydrate.store.postgres.writer import Writer
from rehydrate.store.url import open_store
from rehydrate.testing.conformance.material import events
from tests.store.groups_by_hand import Waiter

EAGER = getattr(asyncio, "eager_task_factory", None)


async def test_it_is_made_without_the_factory(postgres_url: str) -> None:
    made: list[str] = []

    def factory(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(work.__qualname__)
        return asyncio.Task(work, loop=loop, **options)

    asyncio.get_running_loop().set_task_factory(factory)
    store = await open_store(postgres_url)
    await store.append("account-1", events(1), expected_version=0)
    await store.close()
    assert made
    assert Writer._work.__qualname__ not in made  # pyright: ignore[reportPrivateUsage]


@pytest.mark.skipif(EAGER is None, reason="only from Python 3.12 on a task may begin at once")
async def test_behind_an_append_that_cannot_be_sent_others_go_out(postgres_url: str) -> None:
    asyncio.get_running_loop().set_task_factory(EAGER)
    store = await open_store(postgres_url)
    assert isinstance(await _submitted(store, NewEvent("a", "Deposited", b"{}")), Appended)
    assert isinstance(await _submitted(store, NewEvent("b", "\ud800", b"{}")), StoreError)
    assert isinstance(await _submitted(store, NewEvent("c", "Deposited", b"{}")), Appended)
    await store.close()


async def _submitted(store: Store, event: NewEvent) -> object:
    heard = asyncio.Event()
    waiter = Waiter(heard.set)
    assert store.submit(f"account-{event.id}", [event], 0, waiter) is None
    async with asyncio.timeout(30):
        await heard.wait()
    return waiter.outcomes[0]
