"""Laws of sending an append again, as everybody has to who does not know how it ended."""

from __future__ import annotations

import asyncio

import pytest

from rehydrate.errors import VersionConflictError
from rehydrate.store.port import Appended, NewEvent, Store
from rehydrate.testing.conformance.law import law
from rehydrate.testing.conformance.material import event, events, fill, ids, sound_log, stream_events
from rehydrate.testing.conformance.under_test import Another, StoreUnderTest


class IdempotencyLaws(StoreUnderTest):
    @law()
    async def test_an_append_sent_again_returns_its_first_result(self, store: Store) -> None:
        await fill(store, "account-1", 2)
        new = events(3)
        first = await store.append("account-1", new, expected_version=2)
        for _ in range(3):
            assert await store.append("account-1", new, expected_version=2) == first
        assert len(await sound_log(store)) == 5

    @law()
    async def test_an_append_sent_again_returns_its_first_result_with_others_behind_it(
        self, store: Store
    ) -> None:
        new = events(2)
        first = await store.append("account-1", new, expected_version=0)
        await fill(store, "account-2", 5)
        await fill(store, "account-1", 300, each=100)
        before = await sound_log(store)
        assert await store.append("account-1", new, expected_version=0) == first
        assert await sound_log(store) == before

    @law()
    async def test_an_append_of_many_events_sent_again_returns_its_first_result(self, store: Store) -> None:
        new = events(min(1_500, store.capabilities.max_append_events))
        first = await store.append("account-1", new, expected_version=0)
        await fill(store, "account-1", 1)
        assert await store.append("account-1", new, expected_version=0) == first
        assert len(await sound_log(store)) == len(new) + 1

    @law()
    async def test_what_is_stored_of_an_append_sent_again_is_what_was_sent_first(self, store: Store) -> None:
        first = NewEvent(id="the id", type="First", data=b"first")
        again = NewEvent(id="the id", type="Second", data=b"second")
        await store.append("account-1", [first], expected_version=0)
        await store.append("account-1", [again], expected_version=0)
        (stored,) = await sound_log(store)
        assert (stored.type, stored.data) == ("First", b"first")

    @law()
    async def test_an_append_sent_many_times_at_once_is_stored_once(self, store: Store) -> None:
        new = events(3)
        await _send_at_once([store] * 20, new)

    @law(lacks=("single_writer",))
    async def test_an_append_sent_at_once_by_several_opened_stores_is_stored_once(
        self, store: Store, another: Another
    ) -> None:
        new = events(3)
        await _send_at_once([store, await another(), await another()] * 5, new)

    @law(lacks=("single_writer",))
    async def test_an_append_sent_again_by_another_opened_store_returns_its_first_result(
        self, store: Store, another: Another
    ) -> None:
        second = await another()
        new = events(2)
        first = await store.append("account-1", new, expected_version=0)
        assert await second.append("account-1", new, expected_version=0) == first
        await fill(second, "account-1", 2)
        assert await store.append("account-1", new, expected_version=0) == first
        assert await second.append("account-1", new, expected_version=0) == first
        assert len(await sound_log(store)) == 4

    @law(needs=("durable",))
    async def test_an_append_sent_again_after_reopening_returns_its_first_result(
        self, store: Store, another: Another
    ) -> None:
        new = events(2)
        first = await store.append("account-1", new, expected_version=0)
        await fill(store, "account-1", 1)
        await store.close()
        reopened = await another()
        assert await reopened.append("account-1", new, expected_version=0) == first
        assert len(await sound_log(reopened)) == 3

    @law()
    async def test_a_partly_different_append_is_a_conflict(self, store: Store) -> None:
        first, second = events(2)
        await store.append("account-1", [first, second], expected_version=0)
        for different in (
            [first, event()],
            [event(), second],
            [second, first],
            [first, second, event()],
            [event()],
        ):
            with pytest.raises(VersionConflictError) as conflict:
                await store.append("account-1", different, expected_version=0)
            assert conflict.value.actual == 2
        await fill(store, "account-1", 2)
        for different in ([first, event()], [event(), second], [first, second, event(), event()]):
            with pytest.raises(VersionConflictError):
                await store.append("account-1", different, expected_version=0)
        assert len(await sound_log(store)) == 4

    @law()
    async def test_a_repeat_and_a_stranger_at_one_version_are_told_apart(self, store: Store) -> None:
        """Ten appends at one version, each sent three times, all at once: one is stored, all its copies hear so."""
        contenders = [events(n % 3 + 1) for n in range(10)]
        sent = contenders * 3
        outcomes = await asyncio.gather(
            *[store.append("account-1", new, expected_version=0) for new in sent], return_exceptions=True
        )
        log = await sound_log(store)
        for new, outcome in zip(sent, outcomes, strict=True):
            if ids(new) == ids(log):
                assert outcome == Appended(len(log), log[-1].position)
            else:
                assert isinstance(outcome, VersionConflictError), outcome

    @law()
    async def test_repeats_among_other_appends_disturb_nobody(self, store: Store) -> None:
        old = {n: events(2) for n in range(40)}
        first = [await store.append(f"account-{n}", new, expected_version=0) for n, new in old.items()]
        outcomes = await asyncio.gather(
            *[store.append(f"account-{n}", new, expected_version=0) for n, new in old.items()],
            *[store.append(f"account-{n}", events(1), expected_version=0) for n in range(40, 80)],
            *[store.append(f"account-{n}", events(1), expected_version=1) for n in range(40)],
            return_exceptions=True,
        )
        assert outcomes[:40] == first
        assert all(isinstance(outcome, Appended) for outcome in outcomes[40:80])
        assert all(isinstance(outcome, VersionConflictError) for outcome in outcomes[80:])
        assert len(await sound_log(store)) == 120


async def _send_at_once(stores: list[Store], new: list[NewEvent]) -> None:
    results = await asyncio.gather(*[store.append("account-1", new, expected_version=0) for store in stores])
    log = await sound_log(stores[0])
    assert set(results) == {Appended(len(new), log[-1].position)}
    assert ids(log) == ids(new)
    assert ids(await stream_events(stores[-1], "account-1")) == ids(new)
