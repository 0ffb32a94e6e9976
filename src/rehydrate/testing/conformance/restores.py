"""Laws of a store that is brought back to an older copy while processes have it open.

The kit cannot know how a store is copied; a backend says it in `copy` and `restore`.
"""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from rehydrate.errors import RehydrateError, StoreUnavailableError, VersionConflictError
from rehydrate.store.port import Appended, Head, Store, StreamEnd
from rehydrate.testing.conformance.appends import submitted
from rehydrate.testing.conformance.checkpoints import checkpoint
from rehydrate.testing.conformance.law import law
from rehydrate.testing.conformance.material import event, events, fill, ids, sound_log, stream_events
from rehydrate.testing.conformance.snapshots import counts, snapshot
from rehydrate.testing.conformance.under_test import Another, StoreUnderTest
from rehydrate.testing.conformance.worker import AppendOnce, Flood
from rehydrate.testing.conformance.writers import Writers

_LIMIT = 60.0


class RestoreLaws(StoreUnderTest):
    @law()
    async def test_after_a_restore_an_append_above_the_head_is_a_conflict_with_the_true_version(
        self, store: Store, url: str
    ) -> None:
        """The store went back below what this process knows: a conflict must not be papered over."""
        await fill(store, "account-1", 3)
        copied = await self.copy(url)
        await fill(store, "account-1", 4, each=2)
        await fill(store, "account-2", 2)
        lost = await sound_log(store)
        await self.restore(url, copied)
        for stream, known, actual in (("account-1", 7, 3), ("account-1", 5, 3), ("account-2", 2, 0)):
            with pytest.raises(VersionConflictError) as conflict:
                await store.append(stream, events(1), expected_version=known)
            assert (conflict.value.expected, conflict.value.actual) == (known, actual)
        assert await sound_log(store) == lost[:3]
        assert (await store.append("account-1", events(1), expected_version=3)).version == 4
        await sound_log(store)

    @law()
    async def test_after_a_restore_positions_go_on_from_the_head(self, store: Store, url: str) -> None:
        """A hole would be filled later behind a reader; a position above it would skip what comes."""
        await fill(store, "account-1", 3)
        head = await store.head()
        copied = await self.copy(url)
        await fill(store, "account-1", 10)
        lost = await store.head()
        await self.restore(url, copied)
        done = await store.append("account-2", events(2), expected_version=0)
        assert head.position < done.position <= lost.position
        log = await sound_log(store)
        assert [stored.stream for stored in log] == ["account-1"] * 3 + ["account-2"] * 2

    @law()
    async def test_after_a_restore_every_read_tells_what_is_there(self, store: Store, url: str) -> None:
        await fill(store, "account-1", 3)
        before = await sound_log(store)
        copied = await self.copy(url)
        await fill(store, "account-1", 2)
        await fill(store, "account-2", 2)
        await store.save_snapshot(snapshot("account-1", 5), keep=1)
        await self.restore(url, copied)
        assert await store.versions(["account-1", "account-2"]) == [3, 0]
        assert await store.head() == Head(before[-1].position, before[-1].id)
        assert (await store.read_stream("account-1", after=3)).events == []
        assert (await store.replay("account-1", after=2)).last_id == before[-1].id
        assert await store.load_snapshot("account-1") is None
        assert await sound_log(store) == before

    @law()
    async def test_after_a_restore_an_append_that_was_lost_is_stored_when_it_is_sent_again(
        self, store: Store, url: str
    ) -> None:
        await fill(store, "account-1", 3)
        copied = await self.copy(url)
        lost, behind = events(2), events(1)
        await store.append("account-1", lost, expected_version=3)
        await store.append("account-1", behind, expected_version=5)
        await self.restore(url, copied)
        with pytest.raises(VersionConflictError):
            await store.append("account-1", behind, expected_version=5)
        for _ in range(2):
            assert (await store.append("account-1", lost, expected_version=3)).version == 5
        assert ids(await sound_log(store))[3:] == ids(lost)

    @law()
    async def test_after_a_restore_the_log_does_not_hold_the_event_of_a_reader_that_was_ahead(
        self, store: Store, url: str
    ) -> None:
        await fill(store, "account-1", 3)
        copied = await self.copy(url)
        await fill(store, "account-1", 2)
        read = await store.read_all()
        await self.restore(url, copied)
        assert (await store.read_all(after=read.position - 1)).events == []
        await fill(store, "account-2", 5)
        there = await store.read_all(after=read.position - 1, limit=1)
        assert there.position == read.position
        assert there.event_id != read.event_id

    @law()
    async def test_after_a_restore_a_consumer_that_was_ahead_saves_nothing(
        self, store: Store, url: str
    ) -> None:
        old = checkpoint("balances", 3)
        assert await store.save_checkpoint(old, previous=None)
        copied = await self.copy(url)
        ahead = checkpoint("balances", 5)
        assert await store.save_checkpoint(ahead, previous=old)
        await self.restore(url, copied)
        assert await store.load_checkpoint("balances") == old
        assert not await store.save_checkpoint(checkpoint("balances", 6), previous=ahead)
        assert await store.load_checkpoint("balances") == old

    @law()
    async def test_after_a_restore_another_history_of_the_same_length_is_told_apart(
        self, store: Store, url: str, another: Another
    ) -> None:
        """The version is the same, and the event there is not: a state of before the restore must not go on."""
        await fill(store, "account-1", 3)
        copied = await self.copy(url)
        mine = events(2)
        await store.append("account-1", mine, expected_version=3)
        await self.restore(url, copied)
        theirs = events(2)
        await (await another()).append("account-1", theirs, expected_version=3)
        assert await store.ends(["account-1"]) == [StreamEnd(5, theirs[-1].id)]
        outcome = await submitted(store, "account-1", events(1), 5, mine[-1].id)
        assert isinstance(outcome, VersionConflictError)
        assert (outcome.actual, outcome.is_another_history) == (5, True)
        assert isinstance(await submitted(store, "account-1", events(1), 5, theirs[-1].id), Appended)

    @law()
    async def test_a_snapshot_ahead_of_a_log_that_was_restored_does_not_count(
        self, store: Store, url: str
    ) -> None:
        """Snapshots may lie in a store of their own, which nobody restored."""
        await fill(store, "account-1", 3)
        copied = await self.copy(url)
        await fill(store, "account-1", 2)
        last = (await stream_events(store, "account-1"))[-1]
        ahead = msgspec.structs.replace(
            snapshot("account-1", last.version), position=last.position, event_id=last.id
        )
        assert await counts(store, ahead)
        await self.restore(url, copied)
        assert not await counts(store, ahead)
        await fill(store, "account-1", 4)
        assert not await counts(store, ahead), "other events stand there now"

    @law()
    async def test_a_restore_under_appends_leaves_each_whole_or_not_there(
        self, store: Store, url: str
    ) -> None:
        """What is under way lands before the restore and is gone, or after it, or is refused.

        Whoever reads meanwhile may be refused, too, and meets no other error.
        """
        await fill(store, "account-0", 3)
        copied = await self.copy(url)
        reading = asyncio.create_task(_read_on(store))
        for n in range(3):
            appending = [
                asyncio.create_task(store.append(f"account-{n}-{m}", events(3), expected_version=0))
                for m in range(30)
            ]
            await asyncio.sleep(0)
            await self.restore(url, copied)
            outcomes = await asyncio.gather(*appending, return_exceptions=True)
            for outcome in outcomes:
                assert isinstance(outcome, Appended | StoreUnavailableError), outcome
            log = await sound_log(store)
            assert len(log) % 3 == 0
            new = event()
            assert (await store.append("account-after", [new], expected_version=0)).version == 1
            assert (await sound_log(store))[-1].id == new.id
            await self.restore(url, copied)
        assert not reading.done(), reading.exception()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)

    @pytest.mark.processes
    @law(needs=("multi_process",), hang_limit=_LIMIT)
    async def test_after_a_restore_another_process_goes_on_from_the_head(
        self, store: Store, url: str, writers: Writers
    ) -> None:
        streams = [f"account-{n}" for n in range(4)]
        await fill(store, "account-0", 3)
        copied = await self.copy(url)
        writer = await writers.start(
            AppendOnce(name="lost", stream="account-0", ids=["lost/0/1"], expected_version=3),
            Flood(name="before", streams=streams[1:], tasks=4, appends=10),
        )
        await writer.told(ended=1, acked=41)
        await self.restore(url, copied)
        await writer.order(
            AppendOnce(name="above", stream="account-0", ids=["above/0/1"], expected_version=4)
        )
        await writer.told(refused=1)
        assert [(one.name, one.error, one.actual) for one in writer.refused] == [
            ("above", "VersionConflictError", 3)
        ]
        await writer.order(Flood(name="after", streams=streams, tasks=4, appends=10))
        await writer.told(ended=2)
        await writer.stop()
        log = await sound_log(store)
        assert {stored.id.partition(".")[0] for stored in log[3:]} == {"after"}
        assert len({stored.id.partition("/")[0] for stored in log[3:]}) == 40


async def _read_on(store: Store) -> None:
    """Read everything again and again; a refusal is fine."""
    while True:
        try:
            await store.read_all(limit=7)
            await store.replay("account-0")
            await store.read_all(after=3, limit=1_000)
            await store.streams()
            await store.head()
            await store.versions(["account-0", "account-1-1"])
        except RehydrateError:
            pass
        await asyncio.sleep(0)
