"""Places of consumers in NATS: whoever saved one last knows where it is, and is never wrong about it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from rehydrate import open_store
from rehydrate.store.port import Store, ViewChange
from rehydrate.testing.conformance.checkpoints import checkpoint


@pytest.fixture
async def stores(nats_url: str) -> AsyncIterator[tuple[Store, Store]]:
    one, other = await open_store(nats_url), await open_store(nats_url)
    yield one, other
    await one.close()
    await other.close()


def count_questions(store: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []
    jetstream = store._consumers._jetstream
    last = jetstream.last

    async def counted(stream: str, subject: str) -> Any:
        asked.append(subject)
        return await last(stream, subject)

    monkeypatch.setattr(jetstream, "last", counted)
    return asked


async def test_a_save_after_a_save_asks_nothing_before(
    stores: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = stores
    assert await store.save_checkpoint(checkpoint("balances", 1), previous=None)
    asked = count_questions(store, monkeypatch)
    for n in range(2, 6):
        views = [ViewChange("ada", b"%d" % n), ViewChange("bob", None)] if n % 2 else []
        assert await store.save_checkpoint(
            checkpoint("balances", n), previous=checkpoint("balances", n - 1), views=views
        )
    assert asked == []
    assert await other.load_checkpoint("balances") == checkpoint("balances", 5)
    assert await other.list_views("balances") == [("ada", b"5")]


async def test_what_others_did_to_it_meanwhile_is_found(stores: tuple[Store, Store]) -> None:
    store, other = stores
    first, second, third = (checkpoint("balances", n) for n in (1, 2, 3))
    assert await store.save_checkpoint(first, previous=None, views=[ViewChange("ada", b"1")])
    assert await other.save_checkpoint(second, previous=first)
    assert not await store.save_checkpoint(third, previous=first)
    assert await store.save_checkpoint(third, previous=second)
    await other.remove_checkpoint("balances")
    assert not await store.save_checkpoint(checkpoint("balances", 4), previous=third)
    assert await store.save_checkpoint(first, previous=None)
    await other.remove_checkpoint("balances")
    # Known here, and not there any more.
    assert await store.save_checkpoint(first, previous=None)
    await other.reset_checkpoint("balances")
    assert not await store.save_checkpoint(second, previous=first, views=[ViewChange("ada", b"2")])
    assert await store.list_views("balances") == []
