"""Laws of sealing: what was moved to another store is read here, and never grows again."""

from __future__ import annotations

import asyncio

import pytest

from rehydrate.errors import StoreSealedError, VersionConflictError
from rehydrate.store.port import ANY_VERSION, STREAM_EXISTS, Appended, ExpectedVersion, Store
from rehydrate.testing.conformance.checkpoints import checkpoint
from rehydrate.testing.conformance.law import law
from rehydrate.testing.conformance.material import event, events, fill, lot, sound_log, stream_events
from rehydrate.testing.conformance.snapshots import snapshot
from rehydrate.testing.conformance.under_test import Another, StoreUnderTest
from rehydrate.testing.conformance.worker import AppendOnce
from rehydrate.testing.conformance.writers import Writers


class SealingLaws(StoreUnderTest):
    @pytest.mark.parametrize("expected", [2, ANY_VERSION, STREAM_EXISTS])
    @law()
    async def test_a_sealed_store_takes_no_more_appends(
        self, store: Store, expected: ExpectedVersion
    ) -> None:
        await fill(store, "account-1", 2)
        before = await sound_log(store)
        await store.seal()
        with pytest.raises(StoreSealedError) as refused:
            await store.append("account-1", events(1), expected_version=expected)
        assert refused.value.store
        with pytest.raises(StoreSealedError):
            await store.append("account-2", events(2), expected_version=0)
        assert await sound_log(store) == before
        assert await store.versions(["account-1", "account-2"]) == [2, 0]

    @law()
    async def test_sealing_twice_is_fine_and_an_empty_store_can_be_sealed(self, store: Store) -> None:
        await store.seal()
        await store.seal()
        with pytest.raises(StoreSealedError):
            await store.append("account-1", events(1), expected_version=0)
        assert await sound_log(store) == []
        assert (await store.head()).position == 0
        assert await store.streams() == []

    @law()
    async def test_an_append_that_was_stored_before_the_seal_still_returns_its_first_result(
        self, store: Store
    ) -> None:
        new, behind = events(2), events(1)
        done = await store.append("account-1", new, expected_version=0)
        await store.append("account-1", behind, expected_version=2)
        await store.seal()
        assert await store.append("account-1", new, expected_version=0) == done
        assert (await store.append("account-1", behind, expected_version=2)).version == 3
        with pytest.raises(StoreSealedError):
            await store.append("account-1", events(2), expected_version=0)

    @law()
    async def test_a_sealed_store_is_read_and_keeps_snapshots_checkpoints_and_views(
        self, store: Store
    ) -> None:
        await fill(store, "account-1", 3)
        await store.seal()
        assert len(await stream_events(store, "account-1")) == 3
        assert len((await store.replay("account-1")).rows) == 3
        assert (await store.head()).position == (await sound_log(store))[-1].position
        await store.save_snapshot(snapshot("account-1", 3), keep=1)
        assert await store.load_snapshot("account-1") == snapshot("account-1", 3)
        place = checkpoint("balances", 3)
        assert await store.save_checkpoint(place, previous=None)
        assert await store.load_checkpoint("balances") == place

    @law(lacks=("single_writer",))
    async def test_a_store_that_is_sealed_by_another_opening_takes_no_more_appends(
        self, store: Store, another: Another
    ) -> None:
        """Also where the one that is sealed under our hands had its connections and its knowledge already."""
        await fill(store, "account-1", 3)
        other = await another()
        await fill(other, "account-2", 1)
        await other.seal()
        for opened in (store, other, await another()):
            with pytest.raises(StoreSealedError):
                await opened.append("account-1", events(1), expected_version=3)
        assert len(await sound_log(store)) == 4

    @law(lacks=("single_writer",))
    async def test_of_appends_under_way_each_is_acknowledged_and_there_or_refused_and_not(
        self, store: Store, another: Another
    ) -> None:
        """When `seal` has returned, nothing more comes in."""
        other, sealing = await another(), await another()
        enough = asyncio.Event()
        acked: dict[str, Appended] = {}
        refused: list[str] = []

        async def writer(opened: Store, stream: str) -> None:
            version = 0
            while len(acked) < 2_000:
                await asyncio.sleep(0)
                name = f"{stream}.{version}"
                try:
                    done = await opened.append(stream, lot(name, 2), expected_version=version)
                except StoreSealedError:
                    refused.append(name)
                    return
                acked[name] = done
                if len(acked) == 20:
                    enough.set()
                version = done.version

        async with asyncio.TaskGroup() as tasks:
            for n in range(4):
                tasks.create_task(writer((store, other)[n % 2], f"account-{n}"))
            await enough.wait()
            await sealing.seal()
            sealed = await sound_log(store)
        assert len(refused) == 4
        assert await sound_log(store) == sealed
        assert {stored.id for stored in sealed} == {f"{name}/{n}/2" for name in acked for n in range(2)}, (
            "what was acknowledged is there, and what was refused is not"
        )

    @pytest.mark.processes
    @law(needs=("multi_process",), hang_limit=60.0)
    async def test_a_seal_holds_in_every_process_and_after_a_restart(
        self, store: Store, another: Another, writers: Writers
    ) -> None:
        writer = await writers.start()
        first = AppendOnce(name="first", stream="account-1", ids=["first/0/1"], expected_version=0)
        await writer.order(first)
        await writer.answered("first")
        await store.seal()
        await writer.order(AppendOnce(name="late", stream="account-1", ids=["late/0/1"], expected_version=1))
        await writer.answered("late")
        assert [(one.name, one.error) for one in writer.refused] == [("late", "StoreSealedError")]
        await writer.stop()
        await store.close()
        reopened = await another()
        with pytest.raises(StoreSealedError):
            await reopened.append("account-1", [event()], expected_version=1)
        assert len(await sound_log(reopened)) == 1

    @law()
    async def test_a_wrong_expectation_of_a_sealed_store_is_refused_for_the_seal(self, store: Store) -> None:
        """A conflict would have the caller decide again, for nothing."""
        await fill(store, "account-1", 2)
        with pytest.raises(VersionConflictError):
            await store.append("account-1", events(1), expected_version=1)
        await store.seal()
        for expected in (0, 1, 3):
            with pytest.raises(StoreSealedError):
                await store.append("account-1", events(1), expected_version=expected)
