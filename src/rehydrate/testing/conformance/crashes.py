"""Laws of processes that die or stand still in the middle of what they do."""

from __future__ import annotations

import asyncio
import random

import pytest

from rehydrate.errors import StoreUnavailableError
from rehydrate.store.port import Appended, Checkpoint, NewEvent, Store
from rehydrate.testing.conformance.law import law
from rehydrate.testing.conformance.material import Follower, ids, lot, sound_log, whole_lots
from rehydrate.testing.conformance.under_test import Another, StoreUnderTest
from rehydrate.testing.conformance.worker import AppendOnce, Consume, Flood
from rehydrate.testing.conformance.writers import Writer, Writers

_LIMIT = 90.0
"""Seconds: starting processes takes a while on a busy machine."""
_MOST_PAUSES = 60
_LOOKS_STUCK = 0.5
"""Seconds after which an append is taken to wait for a lock: nothing is asserted of it."""


class CrashLaws(StoreUnderTest):
    @pytest.mark.processes
    @law(needs=("durable", "multi_process"), hang_limit=_LIMIT)
    async def test_what_was_acknowledged_survives_a_kill_in_the_middle_of_appends(
        self, store: Store, writers: Writers, another: Another
    ) -> None:
        """Each append of the dead is there whole or not at all, and nothing is there twice."""
        chance = random.Random(4)
        acked: dict[str, Appended] = {}
        for n in range(3):
            # Nobody else has the store open in the first rounds: the first to come has to clean up.
            if n == 0:
                await store.close()
            streams = [f"account-{m}" for m in range(6)]
            floods = [Flood(name=f"{n}.{m}", streams=streams, tasks=6, sizes=(1, 3, 40)) for m in range(2)]
            writing = await writers.start_each(*[[flood] for flood in floods])
            for writer in writing:
                await writer.told(acked=chance.randint(1, 60))
                await writer.kill()
                acked |= writer.acked
            reopened = await another()
            assert acked.items() <= whole_lots(await sound_log(reopened)).items()
            await reopened.close()

    @pytest.mark.processes
    @law(needs=("durable", "multi_process"), hang_limit=_LIMIT)
    async def test_what_a_killed_writer_left_unanswered_is_stored_once_when_it_is_sent_again(
        self, store: Store, writers: Writers
    ) -> None:
        chance = random.Random(5)
        for n in range(3):
            sent = {f"{n}.{m}": lot(f"{n}.{m}", m % 4 + 1) for m in range(40)}
            orders = [
                AppendOnce(name=name, stream=f"account-{name}", ids=ids(new), expected_version=0)
                for name, new in sent.items()
            ]
            writer = await writers.start(*orders)
            await writer.told(acked=chance.randint(1, 5))
            await writer.kill()
            again = {
                name: await _until_answered(store, f"account-{name}", new, 0) for name, new in sent.items()
            }
            assert writer.acked.items() <= again.items()
            log = [stored for stored in await sound_log(store) if stored.id.startswith(f"{n}.")]
            assert whole_lots(log) == again

    @pytest.mark.processes
    @law(needs=("multi_process",), hang_limit=_LIMIT)
    async def test_a_killed_writer_stalls_neither_readers_nor_writers(
        self, store: Store, writers: Writers
    ) -> None:
        async with Follower(store, pause=0.001) as reader:
            survivor = await writers.start(Flood(name="survivor", streams=["account-0"], tasks=3))
            for n in range(3):
                # One of its tasks begins with the stream of the survivor, and may lose to it for as long as that does not
                # rest. The others come there behind six appends to their own, which nobody disputes.
                own = [f"account-{n + 1}-{m}" for m in range(3)]
                dying = await writers.start(Flood(name=f"dying {n}", streams=["account-0", *own], tasks=4))
                await dying.told(acked=2 * n + 1)
                await dying.kill()
                await _goes_on(survivor)
                await _until_answered(store, f"mine-{n}", lot(f"mine {n}", 2), 0)
            await survivor.stop()
            log = await sound_log(store)
            await reader.finish(log)
        assert survivor.acked.items() <= whole_lots(log).items()

    @pytest.mark.processes
    @law(needs=("multi_process",), lacks=("stopped_writer_holds_lock",), hang_limit=_LIMIT)
    async def test_a_stopped_writer_stalls_neither_readers_nor_writers(
        self, store: Store, writers: Writers
    ) -> None:
        chance = random.Random(6)
        async with Follower(store, pause=0.001) as reader:
            # One append at a time: of several to a stream those behind are late by the time that it is their turn, and may
            # lose to the other process for as long as it does not rest.
            floods = [Flood(name=name, streams=["account-0", "account-1"]) for name in "ab"]
            stopped, survivor = await writers.start_each(*[[flood] for flood in floods])
            for n in range(10):
                await stopped.told(acked=len(stopped.acked) + chance.randint(1, 5))
                stopped.pause()
                await _goes_on(survivor)
                await store.append(f"mine-{n}", lot(f"mine {n}", 2), expected_version=0)
                await reader.reaches((await store.head()).position)
                stopped.resume()
            await stopped.stop()
            await survivor.stop()
            log = await sound_log(store)
            await reader.finish(log)
        assert (stopped.acked | survivor.acked).items() <= whole_lots(log).items()

    @pytest.mark.parametrize("ends", ["goes on", "is killed"])
    @pytest.mark.processes
    @law(needs=("multi_process", "stopped_writer_holds_lock"), hang_limit=_LIMIT)
    async def test_a_stopped_writer_that_holds_the_lock_stalls_no_reader_and_writers_recover_when_it(
        self, store: Store, writers: Writers, ends: str
    ) -> None:
        stopped = await writers.start(Flood(name="stopped", streams=["account-0"], sizes=(30,)))
        stuck = await _stop_inside_a_commit(store, stopped)
        await _readers_go_on(store)
        if ends == "goes on":
            # Only once: it takes the whole of the time that the store waits for a lock.
            with pytest.raises(StoreUnavailableError) as unavailable:
                await stuck.appending
            assert unavailable.value.retryable
            await _readers_go_on(store)
            stopped.resume()
            done = await _until_answered(store, stuck.stream, stuck.new, 0)
            await _goes_on(stopped)
            await stopped.stop()
        else:
            await stopped.kill()
            done = await stuck.appending
        lots = whole_lots(await sound_log(store))
        assert lots[stuck.stream] == done
        assert stopped.acked.items() <= lots.items()

    @pytest.mark.processes
    @law(needs=("durable", "multi_process"), hang_limit=_LIMIT)
    async def test_a_checkpoint_and_its_views_survive_a_kill_as_one(
        self, store: Store, writers: Writers
    ) -> None:
        chance = random.Random(7)
        views = [f"view {n}" for n in range(30)]
        for _ in range(4):
            consumer = await writers.start(Consume(consumer="balances", views=views))
            await consumer.told(saved=chance.randint(1, 20))
            await consumer.kill()
            saved, kept = await _place_and_views(store)
            assert (saved.position, saved.epoch) >= (consumer.saved[-1].position, consumer.saved[-1].epoch)
            number = b"%d" % saved.position
            assert kept == sorted((view, number) for view in views)


async def _place_and_views(store: Store) -> tuple[Checkpoint, list[tuple[str, bytes]]]:
    """Both as of one moment: what the server had received before its client was killed may land between two questions."""
    while True:
        saved = await store.load_checkpoint("balances")
        kept = await store.list_views("balances")
        if saved is not None and saved == await store.load_checkpoint("balances"):
            return saved, kept


class _Stuck:
    """An append that waits for what a stopped process holds."""

    def __init__(self, store: Store, n: int) -> None:
        self.stream = f"mine-{n}"
        self.new = lot(self.stream, 2)
        self.appending = asyncio.create_task(store.append(self.stream, self.new, expected_version=0))


async def _stop_inside_a_commit(store: Store, writer: Writer) -> _Stuck:
    """Stop a busy writer again and again until it holds the lock then: an append of another waits for it."""
    chance = random.Random(8)
    for n in range(_MOST_PAUSES):
        await writer.told(acked=len(writer.acked) + chance.randint(1, 3))
        writer.pause()
        stuck = _Stuck(store, n)
        await asyncio.wait([stuck.appending], timeout=_LOOKS_STUCK)
        if not stuck.appending.done():
            return stuck
        assert stuck.appending.result().version == 2
        writer.resume()
    pytest.fail(f"it never held a lock when it was stopped {_MOST_PAUSES} times: then why does it say so?")


async def _readers_go_on(store: Store) -> None:
    """All reads are answered while the lock is held."""
    log = (await store.read_all(limit=1_000)).events
    assert log
    assert (await store.read_stream("account-0")).events
    assert (await store.replay("account-0")).rows
    assert await store.versions(["account-0"]) >= [log[-1].version]
    assert (await store.head()).position >= log[-1].position
    assert await store.streams()
    assert await store.load_snapshot("account-0") is None
    assert await store.load_checkpoint("balances") is None
    assert await store.list_views("balances") == []


async def _goes_on(writer: Writer) -> None:
    """Wait until a writer has got some more appends acknowledged."""
    await writer.told(acked=len(writer.acked) + 5)


async def _until_answered(store: Store, stream: str, new: list[NewEvent], expected: int) -> Appended:
    """Send an append again until the store says how it ended, as an actor does."""
    while True:
        try:
            return await store.append(stream, new, expected_version=expected)
        except StoreUnavailableError:
            await asyncio.sleep(0.01)
