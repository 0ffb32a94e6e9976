"""Laws of snapshots, and what makes one count."""

from __future__ import annotations

import asyncio
import random

import msgspec
import pytest

from rehydrate.store.port import Store, StoredSnapshot
from rehydrate.testing.conformance.law import law
from rehydrate.testing.conformance.material import fill, sound_log, stream_events
from rehydrate.testing.conformance.under_test import Another, StoreUnderTest


def snapshot(stream: str, version: int, *, data: bytes = b"{}") -> StoredSnapshot:
    return StoredSnapshot(
        stream=stream,
        version=version,
        position=version * 3,
        event_id=f"event {version}",
        schema=1,
        fingerprint="a fingerprint",
        data=data,
        recorded_at=1_700_000_000_000_000 + version,
    )


async def counts(store: Store, saved: StoredSnapshot) -> bool:
    """Whether the stream still holds the event that the snapshot names, at its version.

    If not, the snapshot is of another log: the store was restored to an older copy, say. Whoever rehydrates from
    it all the same shows a state that never was.
    """
    page = await store.read_stream(saved.stream, after=saved.version - 1, limit=1)
    return [event.id for event in page.events] == [saved.event_id]


class SnapshotCase(msgspec.Struct, frozen=True):
    """A snapshot of a stream, and whether it counts."""

    what: str
    snapshot: StoredSnapshot
    counts: bool


async def snapshot_cases(store: Store, stream: str) -> list[SnapshotCase]:
    """Snapshots of a stream with at least three events that rehydration has to tell apart.

    Save one, rehydrate, delete it, and go on to the next: what `counts` is used, and the others are not.
    """
    *_, second, third, last = await stream_events(store, stream)
    good = msgspec.structs.replace(
        snapshot(stream, third.version), position=third.position, event_id=third.id
    )
    newest = msgspec.structs.replace(good, version=last.version, position=last.position, event_id=last.id)
    ahead = msgspec.structs.replace(newest, version=last.version + 1, position=last.position + 1)
    return [
        SnapshotCase("of an event before the last", good, counts=True),
        SnapshotCase("of the last event", newest, counts=True),
        SnapshotCase("ahead of the stream", msgspec.structs.replace(ahead, event_id="lost"), counts=False),
        SnapshotCase("far ahead", msgspec.structs.replace(ahead, version=last.version + 1_000), counts=False),
        SnapshotCase("ahead, of an event that stands elsewhere", ahead, counts=False),
        SnapshotCase(
            "of an event that was replaced", msgspec.structs.replace(good, event_id="lost"), counts=False
        ),
        SnapshotCase(
            "of an event one earlier", msgspec.structs.replace(good, event_id=second.id), counts=False
        ),
    ]


class SnapshotLaws(StoreUnderTest):
    @law()
    async def test_a_stream_without_snapshots_has_none(self, store: Store) -> None:
        await fill(store, "account-1", 3)
        assert await store.load_snapshot("account-1") is None

    @pytest.mark.parametrize("data", [b"", bytes(range(256)), bytes(1024 * 1024)], ids=len)
    @law()
    async def test_a_snapshot_comes_back_as_given(self, store: Store, data: bytes) -> None:
        saved = StoredSnapshot(
            stream="account-\U0001f98a",
            version=2**31 + 7,
            position=2**53 + 1,
            event_id="Übung '1'",
            schema=2**31 - 1,
            fingerprint="söme text\n\x01",
            data=data,
            recorded_at=2**53 + 1,
        )
        await store.save_snapshot(saved, keep=1)
        found = await store.load_snapshot("account-\U0001f98a")
        assert found is not None
        assert type(found.data) is bytes
        assert found == saved

    @pytest.mark.parametrize("keep", [1, 2, 5])
    @law()
    async def test_the_newest_snapshot_wins(self, store: Store, keep: int) -> None:
        for version in (3, 5, 9, 10, 100):
            await store.save_snapshot(snapshot("account-1", version), keep=keep)
            assert await store.load_snapshot("account-1") == snapshot("account-1", version)

    @pytest.mark.parametrize("keep", [1, 2, 5])
    @law()
    async def test_an_older_snapshot_never_replaces_a_newer(self, store: Store, keep: int) -> None:
        await store.save_snapshot(snapshot("account-1", 10), keep=keep)
        for version in (9, 1, 5, 2):
            await store.save_snapshot(snapshot("account-1", version), keep=keep)
            assert await store.load_snapshot("account-1") == snapshot("account-1", 10)

    @law()
    async def test_a_snapshot_at_the_same_version_replaces_the_one_there(self, store: Store) -> None:
        """The type of the state changed, or the log was restored: the one there would be refused for ever."""
        await store.save_snapshot(snapshot("account-1", 10), keep=2)
        again = msgspec.structs.replace(
            snapshot("account-1", 10, data=b"new"), schema=2, fingerprint="another", event_id="another"
        )
        await store.save_snapshot(again, keep=2)
        assert await store.load_snapshot("account-1") == again

    @law()
    async def test_of_snapshots_saved_at_once_the_newest_wins(self, store: Store) -> None:
        versions = list(range(1, 31))
        random.Random(7).shuffle(versions)
        await asyncio.gather(
            *[store.save_snapshot(snapshot("account-1", version), keep=2) for version in versions]
        )
        assert await store.load_snapshot("account-1") == snapshot("account-1", 30)

    @law(lacks=("single_writer",))
    async def test_of_snapshots_saved_through_several_opened_stores_the_newest_wins(
        self, store: Store, another: Another
    ) -> None:
        second = await another()
        for version in (5, 3, 9, 7):
            saving = store if version in {5, 7} else second
            await saving.save_snapshot(snapshot("account-1", version), keep=2)
        for opened in (store, second):
            assert await opened.load_snapshot("account-1") == snapshot("account-1", 9)

    @law()
    async def test_snapshots_of_one_stream_leave_others_alone(self, store: Store) -> None:
        await store.save_snapshot(snapshot("account-1", 10), keep=1)
        await store.save_snapshot(snapshot("account-2", 5), keep=1)
        await store.save_snapshot(snapshot("account-11", 3), keep=1)
        await store.delete_snapshots("account-1")
        assert await store.load_snapshot("account-1") is None
        assert await store.load_snapshot("account-2") == snapshot("account-2", 5)
        assert await store.load_snapshot("account-11") == snapshot("account-11", 3)

    @law()
    async def test_after_deleting_any_snapshot_is_the_newest(self, store: Store) -> None:
        await store.delete_snapshots("account-1")
        for version in (8, 9, 10):
            await store.save_snapshot(snapshot("account-1", version), keep=5)
        await store.delete_snapshots("account-1")
        assert await store.load_snapshot("account-1") is None
        await store.save_snapshot(snapshot("account-1", 2), keep=5)
        assert await store.load_snapshot("account-1") == snapshot("account-1", 2)

    @law()
    async def test_snapshots_leave_the_events_alone(self, store: Store) -> None:
        await fill(store, "account-1", 5)
        before = await sound_log(store)
        await store.save_snapshot(snapshot("account-1", 5), keep=1)
        await store.save_snapshot(snapshot("account-none", 3), keep=1)
        await store.delete_snapshots("account-1")
        assert await sound_log(store) == before

    @law(needs=("durable",))
    async def test_a_snapshot_survives_reopening(self, store: Store, another: Another) -> None:
        await store.save_snapshot(snapshot("account-1", 10), keep=2)
        await store.close()
        reopened = await another()
        assert await reopened.load_snapshot("account-1") == snapshot("account-1", 10)
        await reopened.save_snapshot(snapshot("account-1", 9), keep=2)
        assert await reopened.load_snapshot("account-1") == snapshot("account-1", 10)

    @law()
    async def test_a_snapshot_counts_only_if_the_stream_holds_its_event_at_its_version(
        self, store: Store
    ) -> None:
        await fill(store, "account-1", 4)
        for case in await snapshot_cases(store, "account-1"):
            await store.save_snapshot(case.snapshot, keep=1)
            saved = await store.load_snapshot("account-1")
            assert saved is not None
            assert saved == case.snapshot
            assert await counts(store, saved) is case.counts, case.what
            await store.delete_snapshots("account-1")
