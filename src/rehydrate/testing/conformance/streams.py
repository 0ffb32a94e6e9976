"""Laws of reading streams: pages, ends, heads, and the list of all streams."""

from __future__ import annotations

from contextlib import suppress

import pytest
from msgspec.structs import replace

from rehydrate.store.port import LogFilter, ReplayPage, Store, StoredEvent, StreamHead, ViewChange
from rehydrate.testing.conformance.checkpoints import checkpoint
from rehydrate.testing.conformance.law import law
from rehydrate.testing.conformance.material import (
    event,
    events,
    fill,
    log_events,
    stream_events,
    stream_heads,
)
from rehydrate.testing.conformance.under_test import StoreUnderTest


class StreamLaws(StoreUnderTest):
    @law()
    async def test_an_unknown_stream_is_empty_and_reading_it_is_no_error(self, store: Store) -> None:
        await fill(store, "account-1", 1)
        page = await store.read_stream("account-2")
        assert (page.events, page.is_last) == ([], True)
        assert await store.replay("account-2") == ReplayPage([], "", "", 0, is_last=True)
        assert await store.versions(["account-2"]) == [0]
        assert (await store.read_stream("account-2", after=7)).events == []

    @law()
    async def test_after_is_exclusive_and_a_page_begins_right_behind_it(self, store: Store) -> None:
        await fill(store, "account-1", 10, each=3)
        for after in range(12):
            page = await store.read_stream("account-1", after=after)
            assert [e.version for e in page.events] == list(range(after + 1, 11))
            assert page.is_last

    @law()
    async def test_a_page_holds_at_most_as_many_as_asked_for_and_at_least_one_if_there_is_one(
        self, store: Store
    ) -> None:
        await fill(store, "account-1", 10, each=3)
        for limit in (1, 2, 3, 9, 10, 11):
            for after in range(10):
                page = await store.read_stream("account-1", after=after, limit=limit)
                assert 1 <= len(page.events) <= limit
                assert [e.version for e in page.events] == list(
                    range(after + 1, after + 1 + len(page.events))
                )

    @law()
    async def test_reading_a_stream_in_pages_equals_reading_it_at_once(self, store: Store) -> None:
        await _two_streams(store, 150)
        at_once = (await store.read_stream("account-1", limit=1_000)).events
        assert [e.version for e in at_once] == list(range(1, 151))
        for limit in (1, 7, 50, 149, 150, 151):
            assert await _in_pages(store, "account-1", limit) == at_once

    @law()
    async def test_a_page_says_that_it_is_the_last_only_where_the_stream_ends(self, store: Store) -> None:
        await _two_streams(store, 20)
        for after in range(20):
            for limit in (1, 19, 20, 21):
                page = await store.read_stream("account-1", after=after, limit=limit)
                if page.is_last:
                    assert page.events[-1].version == 20
        assert (await store.read_stream("account-1", after=20)).is_last
        assert (await store.read_stream("account-1", after=20, limit=1)).is_last

    @law()
    async def test_where_to_search_changes_nothing_that_is_found(self, store: Store) -> None:
        """`near`: any position at or before the first event asked for."""
        await _two_streams(store, 12)
        all_of_it = await stream_events(store, "account-1")
        for n, first in enumerate(all_of_it):
            rest = all_of_it[n:]
            hints = {0, 1, first.position // 2, first.position - 1, first.position}
            for near in hints | {earlier.position for earlier in all_of_it[:n]}:
                page = await store.read_stream("account-1", after=n, near=near)
                assert page.events == rest
                replayed = await store.replay("account-1", after=n, near=near)
                assert replayed == _replay_of(rest)
        at_end = await store.read_stream("account-1", after=12, near=all_of_it[-1].position)
        assert (at_end.events, at_end.is_last) == ([], True)

    @law()
    async def test_a_replay_holds_what_the_stream_holds(self, store: Store) -> None:
        await _two_streams(store, 25)
        all_of_it = await stream_events(store, "account-1")
        for after in (0, 1, 24):
            assert await store.replay("account-1", after=after) == _replay_of(all_of_it[after:])
        assert await store.replay("account-1", after=25) == ReplayPage([], "", "", 0, is_last=True)

    @law()
    async def test_a_long_stream_is_replayed_in_pages_that_get_to_its_end(self, store: Store) -> None:
        await fill(store, "account-1", 2_500, each=500)
        rows: list[tuple[int, str, bytes]] = []
        page = await store.replay("account-1")
        first_id = page.first_id
        while True:
            rows += page.rows
            if page.is_last:
                break
            assert page.rows, "a page that is not the last has to get on"
            behind = await store.replay("account-1", after=rows[-1][0], near=page.last_position)
            if page.rest is not None and (read_already := await page.rest) is not None:
                assert replace(read_already, rest=None) == replace(behind, rest=None)
            page = behind
        all_of_it = await stream_events(store, "account-1")
        assert rows == [(e.version, e.type, e.data) for e in all_of_it]
        assert (first_id, page.last_id, page.last_position) == (
            all_of_it[0].id,
            all_of_it[-1].id,
            all_of_it[-1].position,
        )

    @law()
    async def test_large_events_are_read_in_pages_that_get_to_the_end(self, store: Store) -> None:
        """A page may be shorter than asked for, so that it fits into memory or a message."""
        size = min(2**20, store.capabilities.max_append_bytes) - 100
        for n in range(24):
            await store.append("account-1", [event(data=bytes([n]) * size)], expected_version=n)
        marks = list(range(24))
        assert [e.data[0] for e in await stream_events(store, "account-1")] == marks
        assert [e.data[0] for e in await log_events(store)] == marks
        replayed: list[int] = []
        is_last = False
        while not is_last:
            page = await store.replay("account-1", after=len(replayed))
            replayed += [data[0] for _, _, data in page.rows]
            assert page.rows
            assert len({page.first_id, page.last_id}) == min(2, len(page.rows))
            is_last = page.is_last
        assert replayed == marks

    @law()
    async def test_versions_come_in_the_order_asked_for(self, store: Store) -> None:
        await fill(store, "account-1", 3, each=2)
        await fill(store, "account-2", 1)
        assert await store.versions([]) == []
        asked = ["account-2", "account-none", "account-1", "account-2", "ACCOUNT-1"]
        assert await store.versions(asked) == [1, 0, 3, 1, 0]

    @law()
    async def test_versions_of_very_many_streams_are_answered(self, store: Store) -> None:
        """More than a database takes parameters in one statement."""
        await fill(store, "account-7", 2)
        await fill(store, "account-39999", 1)
        versions = await store.versions([f"account-{n}" for n in range(40_000)])
        assert {n: version for n, version in enumerate(versions) if version} == {7: 2, 39_999: 1}

    @law()
    async def test_streams_are_listed_in_code_point_order(self, store: Store) -> None:
        """Not in the order of a language, of UTF-16 or of bytes that count as signed."""
        tails = [
            "",
            "0",
            "A",
            "Z",
            "_",
            "a",
            "z",
            "é",
            "ß",
            "Ω",
            "\u3042",
            "\uffff",
            "\U00010000",
            "\U0001f600",
        ]
        names = [f"account-1{tail}" for tail in tails]
        for name in reversed(names):
            await fill(store, name, 1)
        assert await stream_heads(store) == [StreamHead(name, 1) for name in sorted(names)]
        assert await stream_heads(store, limit=1) == [StreamHead(name, 1) for name in sorted(names)]

    @law()
    async def test_streams_are_listed_by_prefix_in_pages_with_their_versions(self, store: Store) -> None:
        for n in range(1, 31):
            await fill(store, f"account-{n:02}", n % 3 + 1)
        await fill(store, "accounts-1", 1)
        await fill(store, "Account-1", 1)
        await fill(store, "order-1", 1)
        expected = [StreamHead(f"account-{n:02}", n % 3 + 1) for n in range(1, 31)]
        for limit in (1, 7, 29, 30, 31):
            assert await stream_heads(store, prefix="account-", limit=limit) == expected
        assert await store.streams(prefix="account-", after="account-28", limit=10) == expected[28:]
        assert await store.streams(prefix="account-1", after="a", limit=2) == expected[9:11]
        assert await store.streams(prefix="account-", after="b") == []
        assert await store.streams(prefix="none") == []

    @pytest.mark.parametrize(
        "prefix", ["100%", "100_", "a*", "a.", "[ab]", "a\\", "'", "\uffff", "\U0010ffff"]
    )
    @law()
    async def test_a_prefix_is_taken_literally(self, store: Store, prefix: str) -> None:
        for name in (f"x-{prefix}", f"x-{prefix}1", "x-100", "x-1000", "x-a", "x-ab", "x-\ufffe", "x-z"):
            await fill(store, name, 1)
        found = await stream_heads(store, prefix=f"x-{prefix}")
        assert found == [StreamHead(f"x-{prefix}", 1), StreamHead(f"x-{prefix}1", 1)]

    @law()
    async def test_a_limit_of_nothing_is_refused_or_answered_with_nothing(self, store: Store) -> None:
        """It never means all, and leads nobody to believe that the end was reached; a negative one neither."""
        await fill(store, "account-1", 10)
        await fill(store, "account-2", 1)
        new = checkpoint("balances", 1)
        await store.save_checkpoint(
            new, previous=None, views=[ViewChange("ada", b"1"), ViewChange("bob", b"2")]
        )
        mine = LogFilter(streams=frozenset({"account-1"}))
        for limit in (0, -1, -5, -(2**31), -(2**63)):
            # Each by itself: that one is refused proves nothing of the next.
            with suppress(ValueError):
                page = await store.read_stream("account-1", limit=limit)
                assert (page.events, page.is_last) == ([], False)
            with suppress(ValueError):
                log = await store.read_all(limit=limit)
                assert (log.events, log.is_last, log.position) == ([], False, 0)
            with suppress(ValueError):
                assert (await store.read_all(limit=limit, where=mine)).events == []
            with suppress(ValueError):
                assert await store.streams(prefix="account-", limit=limit) == []
            with suppress(ValueError):
                assert await store.list_views("balances", limit=limit) == []


async def _two_streams(store: Store, count: int) -> None:
    """A stream whose neighbours in the log are another's events, now and then."""
    while (await store.versions(["account-1"]))[0] < count:
        (version,) = await store.versions(["account-1"])
        await fill(store, "account-1", min(5, count - version), each=2)
        await store.append(f"other-{version}", events(2), expected_version=0)


async def _in_pages(store: Store, stream: str, limit: int) -> list[StoredEvent]:
    read: list[StoredEvent] = []
    while True:
        page = await store.read_stream(stream, after=len(read), limit=limit)
        assert len(page.events) <= limit
        read += page.events
        if page.is_last:
            return read
        assert page.events, "a page that is not the last has to get on"


def _replay_of(stored: list[StoredEvent]) -> ReplayPage:
    rows = [(e.version, e.type, e.data) for e in stored]
    return ReplayPage(rows, stored[0].id, stored[-1].id, stored[-1].position, is_last=True)
