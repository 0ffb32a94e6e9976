"""Laws of opening, closing and forking."""

from __future__ import annotations

import asyncio
import os
import sys

import msgspec
import pytest

from rehydrate.errors import StoreClosedError, StoreUnavailableError
from rehydrate.store.port import Appended, Store
from rehydrate.testing.clock import settle
from rehydrate.testing.conformance.appends import HeardOnce
from rehydrate.testing.conformance.calls import CALLS, prepare
from rehydrate.testing.conformance.law import law
from rehydrate.testing.conformance.material import events, fill, lot, sound_log, whole_lots
from rehydrate.testing.conformance.under_test import Another, StoreUnderTest
from rehydrate.testing.conformance.worker import Flood
from rehydrate.testing.conformance.writers import Writers, environment


class LifecycleLaws(StoreUnderTest):
    @law(needs=("durable",))
    async def test_reopening_shows_everything(self, store: Store, another: Another) -> None:
        await fill(store, "account-1", 5, each=2)
        await fill(store, "account-2", 2)
        log = await sound_log(store)
        await store.close()
        reopened = await another()
        assert await sound_log(reopened) == log
        await fill(reopened, "account-1", 1)
        await reopened.close()
        once_more = await another()
        assert (await sound_log(once_more))[:-1] == log
        assert await once_more.versions(["account-1", "account-2"]) == [6, 2]

    @law(lacks=("single_writer",))
    async def test_several_opened_stores_at_one_place_see_each_others_writes(
        self, store: Store, another: Another
    ) -> None:
        second = await another()
        await prepare(store)
        assert await sound_log(second) == await sound_log(store)
        assert await second.load_snapshot("account-1") == await store.load_snapshot("account-1")
        assert await second.list_checkpoints() == await store.list_checkpoints()
        assert await second.list_views("balances") == await store.list_views("balances")
        await second.close()
        await fill(store, "account-1", 1)
        assert len(await sound_log(store)) == 4

    @law(lacks=("single_writer",))
    async def test_opening_an_initialised_store_many_times_at_once_is_fine(
        self, store: Store, another: Another
    ) -> None:
        await fill(store, "account-1", 1)
        stores = await asyncio.gather(*[another() for _ in range(5)])
        for n, opened in enumerate(stores):
            assert (await opened.append("account-1", events(1), expected_version=n + 1)).version == n + 2

    @law()
    async def test_a_new_place_may_be_opened_many_times_at_once(self, another: Another) -> None:
        """Each finds no tables there, and makes them."""
        stores = await asyncio.gather(*[another() for _ in range(6)])
        for n, opened in enumerate(stores):
            await fill(opened, f"account-{n}", 2)
        shared = not stores[0].capabilities.single_writer
        for n, opened in enumerate(stores):
            found = await opened.versions([f"account-{m}" for m in range(6)])
            assert found == [2 if shared or m == n else 0 for m in range(6)]
        await sound_log(stores[0])

    @pytest.mark.processes
    @law(hang_limit=60.0)
    async def test_a_new_place_may_be_opened_by_several_processes_at_once(
        self, another: Another, writers: Writers
    ) -> None:
        flood = Flood(name="", streams=["account-shared"], appends=3)
        writing = await writers.start_each(
            *[[msgspec.structs.replace(flood, name=f"writer {n}")] for n in range(3)]
        )
        for writer in writing:
            await writer.told(ended=1)
            await writer.stop()
        store = await another()
        if store.capabilities.multi_process and store.capabilities.durable:
            assert len(whole_lots(await sound_log(store))) == 9

    @law()
    async def test_a_store_does_everything_at_once(self, store: Store) -> None:
        """Appends, snapshots, checkpoints and questions do not get into each other's way."""
        await prepare(store)
        for n in range(5):
            names = [name for name in CALLS if name != "save_checkpoint"]
            await asyncio.gather(
                *[CALLS[name](store) for name in names * 3],
                *[fill(store, f"account-{n}-{m}", 2) for m in range(20)],
            )
        assert len(await sound_log(store)) == 3 + 5 * (3 * 3 + 20 * 2)

    @law()
    async def test_closing_twice_is_fine(self, store: Store) -> None:
        await fill(store, "account-1", 1)
        await store.close()
        await store.close()
        await asyncio.gather(store.close(), store.close())

    @law()
    async def test_closing_twice_at_once_is_fine(self, store: Store) -> None:
        await fill(store, "account-1", 1)
        await asyncio.gather(store.close(), store.close(), store.close())

    @pytest.mark.parametrize("name", CALLS)
    @law()
    async def test_after_closing_every_call_is_refused(self, store: Store, name: str) -> None:
        await prepare(store)
        await store.close()
        with pytest.raises(StoreClosedError):
            await CALLS[name](store)

    @law()
    async def test_after_closing_submit_is_refused(self, store: Store) -> None:
        await store.close()
        waiter = HeardOnce()
        outcome = store.submit("account-1", events(1), 0, waiter)
        assert waiter.outcomes == []
        assert isinstance(outcome or await waiter.heard(), StoreClosedError)

    @law()
    async def test_closing_wakes_whoever_waits(self, store: Store) -> None:
        waiting = [asyncio.create_task(store.wait(after=0)) for _ in range(3)]
        await settle()
        await store.close()
        for task in waiting:
            with pytest.raises(StoreClosedError):
                await task

    @law()
    async def test_every_append_under_way_is_answered_when_the_store_is_closed(
        self, store: Store, another: Another
    ) -> None:
        """And each answer is true: an append that was answered as done is there, a refused one is not."""
        lots = {f"lot {n}": lot(f"lot {n}", n % 3 + 1) for n in range(60)}
        appending = {
            name: asyncio.create_task(store.append(f"account-{name}", new, expected_version=0))
            for name, new in lots.items()
        }
        await asyncio.sleep(0)
        closing = asyncio.create_task(store.close())
        outcomes = await asyncio.gather(*appending.values(), return_exceptions=True)
        await closing
        done = {name: one for name, one in zip(lots, outcomes, strict=True) if isinstance(one, Appended)}
        unknown: set[str] = set()
        for name, outcome in zip(lots, outcomes, strict=True):
            if isinstance(outcome, StoreUnavailableError) and outcome.stored is None:
                unknown.add(name)
            else:
                assert isinstance(outcome, Appended | StoreClosedError), outcome
        if store.capabilities.durable:
            there = whole_lots(await sound_log(await another()))
            assert {name: one for name, one in there.items() if name not in unknown} == done

    @pytest.mark.processes
    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
    @law()
    async def test_in_a_forked_child_the_store_is_closed_and_the_parent_goes_on(
        self, store: Store, url: str
    ) -> None:
        await store.close()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "rehydrate.testing.conformance.forked", self.opener, url),
            stdout=asyncio.subprocess.PIPE,
            env=environment(),
        )
        told, _ = await process.communicate()
        assert process.returncode == 0
        outcomes = msgspec.json.decode(told, type=dict[str, str])
        assert outcomes == dict.fromkeys([*CALLS, "submit"], "StoreClosedError")
