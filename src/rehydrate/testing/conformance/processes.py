"""Laws of several processes that write to one store at once."""

from __future__ import annotations

import asyncio

import pytest

from rehydrate.store.port import Appended, Store
from rehydrate.testing.clock import settle
from rehydrate.testing.conformance.law import law
from rehydrate.testing.conformance.material import Follower, event, fill, ids, sound_log, whole_lots
from rehydrate.testing.conformance.under_test import StoreUnderTest
from rehydrate.testing.conformance.worker import AppendOnce, Consume, Flood, WaitFor
from rehydrate.testing.conformance.writers import Writer, Writers

_LIMIT = 60.0
"""Seconds: starting processes takes a while on a busy machine."""


class ProcessLaws(StoreUnderTest):
    @pytest.mark.processes
    @law(needs=("multi_process",), hang_limit=_LIMIT)
    async def test_of_appends_at_one_version_from_several_processes_exactly_one_succeeds(
        self, store: Store, writers: Writers
    ) -> None:
        rounds, contenders = 12, await writers.start_each([], [], [])
        for version in range(rounds):
            orders = [
                AppendOnce(
                    name=f"{version}.{n}",
                    stream="account-1",
                    ids=[f"{version}.{n}/0/1"],
                    expected_version=version,
                )
                for n in range(3)
            ]
            for contender, order in zip(contenders, orders, strict=True):
                await contender.order(order)
            for contender, order in zip(contenders, orders, strict=True):
                await contender.answered(order.name)
        acked = _acked(contenders)
        assert len(acked) == rounds
        assert whole_lots(await sound_log(store)) == acked
        for contender in contenders:
            for refused in contender.refused:
                version = int(refused.name.partition(".")[0])
                assert (refused.error, refused.actual) == ("VersionConflictError", version + 1)
            await contender.stop()

    @pytest.mark.parametrize("streams", ["account-{writer}-{n}", "account-{n}"], ids=["their own", "shared"])
    @pytest.mark.processes
    @law(needs=("multi_process",), hang_limit=_LIMIT)
    async def test_no_position_of_another_process_appears_behind_a_reader(
        self, store: Store, writers: Writers, streams: str
    ) -> None:
        floods = [
            Flood(
                name=f"writer {writer}",
                streams=[streams.format(writer=writer, n=n) for n in range(4)],
                tasks=5,
                appends=12,
            )
            for writer in range(3)
        ]
        async with Follower(store, pause=0.001) as reader:
            writing = await writers.start_each(*[[flood] for flood in floods])
            for writer in writing:
                await writer.told(ended=1)
            log = await sound_log(store)
            await reader.finish(log)
        assert len(_acked(writing)) == 3 * 5 * 12
        assert whole_lots(log) == _acked(writing)
        for writer in writing:
            await writer.stop()

    @pytest.mark.processes
    @law(needs=("multi_process",), hang_limit=_LIMIT)
    async def test_an_append_sent_by_several_processes_is_stored_once(
        self, store: Store, writers: Writers
    ) -> None:
        contenders = await writers.start_each([], [])
        for version in range(0, 20, 2):
            new = [event(id=f"lot {version}/{n}/2") for n in range(2)]
            order = AppendOnce(name=f"{version}", stream="account-1", ids=ids(new), expected_version=version)
            for contender in contenders:
                await contender.order(order)
            mine = await store.append("account-1", new, expected_version=version)
            assert mine.version == version + 2
            for contender in contenders:
                await contender.answered(order.name)
                assert contender.acked[order.name] == mine
        assert len(await sound_log(store)) == 20
        for contender in contenders:
            await contender.stop()

    @pytest.mark.processes
    @law(needs=("multi_process",), hang_limit=_LIMIT)
    async def test_an_append_ends_the_waiting_in_other_processes(
        self, store: Store, writers: Writers
    ) -> None:
        other = await writers.start(WaitFor(after=0))
        here = asyncio.create_task(store.wait(after=0))
        await settle()
        await other.order(AppendOnce(name="first", stream="account-1", ids=["first/0/1"], expected_version=0))
        await here
        await other.told(ended=1)
        head = await store.head()
        await other.order(WaitFor(after=head.position))
        await fill(store, "account-2", 1)
        await other.told(ended=2)
        await other.stop()

    @pytest.mark.processes
    @law(needs=("multi_process",), hang_limit=_LIMIT)
    async def test_of_consumers_in_several_processes_each_place_is_saved_by_one(
        self, store: Store, writers: Writers
    ) -> None:
        """Whoever was overtaken stops; no position is saved twice, and the epoch never goes back."""
        consumers = await writers.start_each(
            *[[Consume(consumer="balances", views=["ada", "bob"], saves=50)] for _ in range(3)]
        )
        for consumer in consumers:
            await consumer.told(ended=1)
        saved = sorted(
            ((one.position, one.epoch) for consumer in consumers for one in consumer.saved),
            key=lambda one: one[0],
        )
        assert [position for position, _ in saved] == list(range(1, len(saved) + 1))
        epochs = [epoch for _, epoch in saved]
        assert epochs == sorted(epochs)
        last = await store.load_checkpoint("balances")
        assert last is not None
        assert (last.position, last.epoch) == saved[-1]
        number = b"%d" % last.position
        assert await store.list_views("balances") == [("ada", number), ("bob", number)]
        for consumer in consumers:
            await consumer.stop()


def _acked(writers: list[Writer]) -> dict[str, Appended]:
    return {name: done for writer in writers for name, done in writer.acked.items()}
