"""Laws of names: what may be one, that two are never taken for one, and that others are refused everywhere alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import pytest

from rehydrate.domain.streams import MAX_ID_BYTES, MAX_STREAM_BYTES
from rehydrate.errors import InvalidIdError, RehydrateError
from rehydrate.store.port import ANY_VERSION, LogFilter, Store, ViewChange
from rehydrate.testing.conformance.checkpoints import checkpoint
from rehydrate.testing.conformance.law import law
from rehydrate.testing.conformance.material import event, events, ids, sound_log, stream_events
from rehydrate.testing.conformance.snapshots import snapshot
from rehydrate.testing.conformance.under_test import StoreUnderTest

LOOK_ALIKES = {
    "separators": ["a/b", "a:b", "a\\b", "a.b", "a-b", "a_b", "a|b", "a b", "a+b", "a%2Fb", "a--b"],
    "case": ["straße", "STRASSE", "Straße", "strasse", "STRAßE", "\u0131", "I", "i", "\u0130"],
    "ends": ["a", "a.", "a..", "a ", " a", "a\n", "a\t", "a-", "-a", "--", ".", "..", "../a", "./a", "a/"],
    "forms of one letter": ["é", "e\u0301", "\u212b", "\u00c5", "A\u030a", "\ufb01", "fi", "\u2460", "1"],
    "nothing to see": ["a", "a\u200b", "a\u00ad", "a\ufeff", "\u202ea", "a\u0301", "a\ufe0f"],
    "wildcards": ["*", ">", "%", "_", "?", "a*", "a%", "a_", "ab", "a.b", "a.*", "$", "$all", "#"],
    "numbers": ["1", "01", "1.0", "+1", "1e0", "٣", "3", "\u00b2", "2", "-0", "0"],
    "quotes": ["'", '"', "''", "';--", "\\'", "`", "\\", "\\\\", "\\n", "\n"],
    "long": ["x" * 255, "x" * 256, "x" * 257, "x" * (MAX_ID_BYTES - 1), "x" * MAX_ID_BYTES],
    "long in bytes": ["é" * 256, "é" * 255 + "ee", "\U0001f98a" * 128],
}
BAD_IDS = {
    "empty": "",
    "U+0000": "a\0b",
    "U+0000 at its end": "a\0",
    "a lone surrogate": "a\ud800b",
    "the other surrogate": "\udfff",
}


class IdLaws(StoreUnderTest):
    @pytest.mark.parametrize("names", LOOK_ALIKES.values(), ids=LOOK_ALIKES)
    @law()
    async def test_streams_that_look_alike_are_different_streams(
        self, store: Store, names: list[str]
    ) -> None:
        streams = [f"account-{name}" for name in names]
        sent = {stream: events(n % 2 + 1) for n, stream in enumerate(streams)}
        for stream, new in sent.items():
            await store.append(stream, new, expected_version=0)
        log = await sound_log(store)
        assert await store.versions(streams) == [len(new) for new in sent.values()]
        for stream, new in sent.items():
            assert ids(await stream_events(store, stream)) == ids(new)
            mine = await store.read_all(where=LogFilter(streams=frozenset({stream})))
            assert ids(mine.events) == ids(new)
        assert len(log) == sum(map(len, sent.values()))

    @law()
    async def test_streams_that_begin_or_end_with_each_others_names_are_different_streams(
        self, store: Store
    ) -> None:
        streams = [
            *("account-1", "savings_account-1", "account-11", "account-1-1", "account-account-1", "t-1"),
            *("Account-1", "account-", "account", "-1", "account1", "1"),
        ]
        for n, stream in enumerate(streams, 1):
            await store.append(stream, events(n), expected_version=0)
        await sound_log(store)
        assert await store.versions(streams) == list(range(1, len(streams) + 1))

    @pytest.mark.parametrize("names", LOOK_ALIKES.values(), ids=LOOK_ALIKES)
    @law()
    async def test_snapshots_checkpoints_and_views_of_names_that_look_alike_are_different(
        self, store: Store, names: list[str]
    ) -> None:
        for n, name in enumerate(names):
            await store.save_snapshot(snapshot(f"account-{name}", 7, data=b"%d" % n), keep=1)
            saved = checkpoint(name, n + 1)
            assert await store.save_checkpoint(saved, previous=None, views=[ViewChange(name, b"%d" % n)])
        for n, name in enumerate(names):
            found = await store.load_snapshot(f"account-{name}")
            assert found == snapshot(f"account-{name}", 7, data=b"%d" % n)
            assert await store.load_checkpoint(name) == checkpoint(name, n + 1)
            assert await store.list_views(name) == [(name, b"%d" % n)]
        assert [one.name for one in await store.list_checkpoints()] == sorted(names)

    @law()
    async def test_the_longest_names_are_stored(self, store: Store) -> None:
        stream = "a" * (MAX_STREAM_BYTES - MAX_ID_BYTES) + "é" * (MAX_ID_BYTES // 2)
        new = [event("T" * MAX_ID_BYTES, id="i" * MAX_ID_BYTES), event("é" * 256, id="é" * 256)]
        await store.append(stream, new, expected_version=0)
        stored = await sound_log(store)
        assert [(e.stream, e.type, e.id) for e in stored] == [(stream, e.type, e.id) for e in new]

    @pytest.mark.parametrize("bad", [*BAD_IDS.values(), "x" * 513, "é" * 257], ids=[*BAD_IDS, "513", "514"])
    @law()
    async def test_an_event_with_a_bad_id_or_type_is_refused_and_nothing_is_stored(
        self, store: Store, bad: str
    ) -> None:
        for wrong in (event(id=bad), event(type=bad)):
            for expected in (0, ANY_VERSION):
                with pytest.raises(InvalidIdError):
                    await store.append("account-1", [event(), wrong], expected_version=expected)
        assert await sound_log(store) == []

    @pytest.mark.parametrize(
        "bad", [*BAD_IDS.values(), "x" * (MAX_STREAM_BYTES + 1)], ids=[*BAD_IDS, "too long"]
    )
    @law()
    async def test_a_stream_with_a_bad_name_is_refused_and_nothing_is_stored(
        self, store: Store, bad: str
    ) -> None:
        for new in (events(1), []):
            with pytest.raises(InvalidIdError):
                await store.append(bad, new, expected_version=0)
        assert await sound_log(store) == []

    @pytest.mark.parametrize("bad", [*BAD_IDS.values(), "x" * 513], ids=[*BAD_IDS, "too long"])
    @law()
    async def test_a_consumer_with_a_bad_name_is_refused(self, store: Store, bad: str) -> None:
        with pytest.raises(InvalidIdError):
            await store.save_checkpoint(checkpoint(bad, 1), previous=None)
        assert await store.list_checkpoints() == []

    @pytest.mark.parametrize("bad", ["a\0b", "a\ud800b"], ids=["U+0000", "a lone surrogate"])
    @law()
    async def test_a_view_with_a_bad_key_is_refused_and_nothing_is_saved(
        self, store: Store, bad: str
    ) -> None:
        with pytest.raises(InvalidIdError):
            await store.save_checkpoint(
                checkpoint("balances", 1),
                previous=None,
                views=[ViewChange("ada", b"1"), ViewChange(bad, b"1")],
            )
        assert await store.load_checkpoint("balances") is None
        assert await store.list_views("balances") == []

    @pytest.mark.parametrize("bad", [*BAD_IDS.values(), "x" * 10_000], ids=[*BAD_IDS, "too long"])
    @law()
    async def test_whoever_asks_for_a_bad_name_meets_no_error_of_a_driver(
        self, store: Store, bad: str
    ) -> None:
        await store.append("account-1", events(2), expected_version=0)
        asked: list[Callable[[], Awaitable[object]]] = [
            lambda: store.versions([bad, "account-1"]),
            lambda: store.read_stream(bad),
            lambda: store.replay(bad),
            lambda: store.read_all(where=LogFilter(streams=frozenset({bad}))),
            lambda: store.read_all(where=LogFilter(aggregates=frozenset({bad}))),
            lambda: store.read_all(where=LogFilter(types=frozenset({bad}))),
            lambda: store.read_all(where=LogFilter(without=frozenset({(bad, bad), ("account", bad)}))),
            lambda: store.streams(prefix=bad, after=bad),
            lambda: store.load_snapshot(bad),
            lambda: store.save_snapshot(snapshot(bad, 1), keep=1),
            lambda: store.save_snapshot(
                msgspec.structs.replace(snapshot("account-1", 1), event_id=bad), keep=1
            ),
            lambda: store.delete_snapshots(bad),
            lambda: store.load_checkpoint(bad),
            lambda: store.save_checkpoint(checkpoint("a", 1), previous=None, views=[ViewChange(bad, b"")]),
            lambda: store.reset_checkpoint(bad),
            lambda: store.remove_checkpoint(bad),
            lambda: store.load_view(bad, bad),
            lambda: store.load_views(bad, [bad]),
            lambda: store.list_views(bad, prefix=bad, after=bad),
        ]
        for ask in asked:
            try:
                await ask()
            except RehydrateError:
                pass
        assert len(await sound_log(store)) == 2
