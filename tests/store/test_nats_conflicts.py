"""What it costs to find out that another process was faster."""

# pyright: reportPrivateUsage=false

from typing import Any

import pytest

from rehydrate.errors import StoreUnavailableError, VersionConflictError
from rehydrate.store.nats.store import NatsStore
from rehydrate.store.url import open_store
from rehydrate.testing.conformance.material import events


async def test_a_conflict_is_found_with_two_questions_however_much_stands_behind(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more of them whoever lost once loses again for as long as the other one does not rest."""
    store = await open_store(nats_url)
    assert isinstance(store, NatsStore)
    await store.append("account-1", events(1), expected_version=0)
    faster = await open_store(nats_url)
    try:
        for n in range(1, 40):
            await faster.append("account-1", events(1), expected_version=n)
    finally:
        await faster.close()
    asked: list[str] = []
    call = store._connection.call

    def noted(subject: str, *arguments: Any, **options: Any) -> None:
        asked.append(subject)
        call(subject, *arguments, **options)

    monkeypatch.setattr(store._connection, "call", noted)
    with pytest.raises(VersionConflictError) as conflict:
        await store.append("account-1", events(1), expected_version=1)
    assert conflict.value.actual == 40
    publish, *questions = asked
    assert publish.endswith(".e.account.1")
    assert len(questions) == 2
    await store.close()


async def test_a_server_that_lacks_what_another_has_told_of_is_no_corrupt_store(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a leader does, for a moment, who has been replaced: he answers from the past."""
    store = await open_store(nats_url)
    assert isinstance(store, NatsStore)
    for n in range(8):
        await store.append("account-1", events(1), expected_version=n)
    history = store._reader._history

    async def from_the_past(_pattern: str, _number: int) -> None:
        return None

    monkeypatch.setattr(history, "next", from_the_past)
    with pytest.raises(StoreUnavailableError, match="lacks message"):
        await store.read_stream("account-1", after=3)
    monkeypatch.undo()
    assert len((await store.read_stream("account-1", after=3)).events) == 5
    await store.close()
