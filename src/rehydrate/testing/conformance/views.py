"""Laws of views: what a consumer keeps beside its checkpoint, saved with it as one."""

from __future__ import annotations

import pytest

from rehydrate.store.port import NO_LIMIT, PAGE_SIZE, Checkpoint, Store, ViewChange
from rehydrate.testing.conformance.checkpoints import checkpoint
from rehydrate.testing.conformance.law import law
from rehydrate.testing.conformance.under_test import StoreUnderTest


class ViewLaws(StoreUnderTest):
    @law()
    async def test_a_view_is_written_overwritten_and_removed(self, store: Store) -> None:
        assert await store.load_view("balances", "ada") is None
        place = await _save(store, None, ViewChange("ada", b"1"), ViewChange("bob", b"2"))
        assert await store.load_view("balances", "ada") == b"1"
        place = await _save(store, place, ViewChange("ada", b"3"), ViewChange("bob", None))
        assert await store.load_view("balances", "ada") == b"3"
        assert await store.load_view("balances", "bob") is None
        place = await _save(store, place, ViewChange("bob", None), ViewChange("nobody", None))
        await _save(store, place)
        assert await store.list_views("balances") == [("ada", b"3")]

    @pytest.mark.parametrize("data", [b"", b"\0", bytes(range(256)), bytes(1024 * 1024)], ids=len)
    @law()
    async def test_a_view_comes_back_as_given(self, store: Store, data: bytes) -> None:
        """An empty one is there, and not the same as none."""
        await _save(store, None, ViewChange("ada", data))
        found = await store.load_view("balances", "ada")
        assert type(found) is bytes
        assert found == data
        assert await store.list_views("balances") == [("ada", data)]

    @law()
    async def test_many_views_are_saved_as_one(self, store: Store) -> None:
        many = min(2_000, store.capabilities.max_view_changes)
        changes = [ViewChange(f"key {n:04}", b"%d" % n) for n in range(many)]
        place = await _save(store, None, *changes)
        assert await _in_pages(store, limit=300) == [(one.key, one.data) for one in changes]
        await _save(store, place, *[ViewChange(one.key, None) for one in changes[:-1]])
        assert await store.list_views("balances") == [(changes[-1].key, changes[-1].data)]

    @law()
    async def test_more_views_than_a_store_takes_are_refused_and_nothing_is_saved(self, store: Store) -> None:
        limit = store.capabilities.max_view_changes
        if limit == NO_LIMIT:
            pytest.skip("this store takes any number")
        place = await _save(store, None, ViewChange("ada", b"there"))
        changes = [ViewChange(f"key {n:04}", b"") for n in range(limit + 1)]
        with pytest.raises(ValueError, match=f"{limit:,}"):
            await _save(store, place, *changes)
        assert await store.load_checkpoint("balances") == place
        assert await store.list_views("balances") == [("ada", b"there")]

    @law()
    async def test_views_of_one_consumer_are_not_those_of_another(self, store: Store) -> None:
        for name in ("balances", "balances2", "balance", "Balances", "balances-1"):
            views = [ViewChange("ada", name.encode()), ViewChange(f"1-{name}", b"")]
            assert await store.save_checkpoint(checkpoint(name, 1), previous=None, views=views)
        for name in ("balances", "balances2", "balance", "Balances", "balances-1"):
            assert await store.load_view(name, "ada") == name.encode()
            assert await store.list_views(name) == [(f"1-{name}", b""), ("ada", name.encode())]

    @law()
    async def test_views_are_listed_in_code_point_order_in_pages(self, store: Store) -> None:
        keys = [
            "b",
            "a",
            "B",
            "ab",
            "a-b",
            "a b",
            "é",
            "\uffff",
            "\U00010000",
            "\U0001f98a",
            "10",
            "9",
            "%",
            "_",
        ]
        await _save(store, None, *[ViewChange(key, key.encode()) for key in keys])
        expected = [(key, key.encode()) for key in sorted(keys)]
        for limit in (1, 3, len(keys) - 1, len(keys), len(keys) + 1):
            assert await _in_pages(store, limit=limit) == expected
        assert (
            await store.list_views("balances", after="a b", limit=2)
            == expected[sorted(keys).index("a b") + 1 :][:2]
        )

    @pytest.mark.parametrize(
        "prefix", ["100%", "100_", "a*", "a.", "a\\", "'", "\uffff", "\U0010ffff", "é", "A"]
    )
    @law()
    async def test_a_prefix_of_keys_is_taken_literally(self, store: Store, prefix: str) -> None:
        others = ["100", "1000", "100x1", "a", "ab", "\ufffe", "e", "z", "ä"]
        mine = [prefix, f"{prefix}1", f"{prefix}\U0010ffff"]
        await _save(store, None, *[ViewChange(key, b"") for key in [*others, *mine]])
        assert [key for key, _ in await store.list_views("balances", prefix=prefix)] == mine
        after_first = await store.list_views("balances", prefix=prefix, after=prefix, limit=1)
        assert after_first == [(f"{prefix}1", b"")]
        assert await store.list_views("balances", prefix=prefix, after=mine[-1]) == []

    @law()
    async def test_views_of_some_keys_are_those_that_are_there(self, store: Store) -> None:
        many = min(PAGE_SIZE, store.capabilities.max_view_changes) - 3
        changes = [ViewChange(f"key {n:04}", b"%d" % n) for n in range(many)]
        others = [ViewChange("a'b", b""), ViewChange("\U0001f98a", b"fox")]
        place = await _save(store, None, *changes, *others)
        await _save(store, place, ViewChange("key 0007", None))
        there = {change.key: change.data for change in [*changes, *others] if change.key != "key 0007"}
        keys = [change.key for change in changes] + ["a'b", "\U0001f98a", "nobody"]
        assert await store.load_views("balances", keys) == there
        assert await store.load_views("balances", ["key 0001", "nobody", "key 0001"]) == {"key 0001": b"1"}
        assert await store.load_views("balances", []) == {}
        assert await store.load_views("unknown", keys) == {}

    @law()
    async def test_large_views_of_some_keys_are_loaded(self, store: Store) -> None:
        """More of them than one answer of a server may hold."""
        place: Checkpoint | None = None
        there: dict[str, bytes] = {}
        for n in range(20):
            there[f"key {n}"] = bytes([n]) * 1024 * 1024
            place = await _save(store, place, ViewChange(f"key {n}", there[f"key {n}"]))
        assert await store.load_views("balances", list(there)) == there

    @law()
    async def test_an_unknown_consumer_has_no_views(self, store: Store) -> None:
        await _save(store, None, ViewChange("ada", b"1"))
        assert await store.load_view("unknown", "ada") is None
        assert await store.list_views("unknown") == []


async def _save(store: Store, previous: Checkpoint | None, *changes: ViewChange) -> Checkpoint:
    place = checkpoint("balances", previous.position + 1 if previous else 1)
    assert await store.save_checkpoint(place, previous=previous, views=changes)
    return place


async def _in_pages(store: Store, *, limit: int) -> list[tuple[str, bytes]]:
    read: list[tuple[str, bytes]] = []
    after = ""
    while page := await store.list_views("balances", after=after, limit=limit):
        assert len(page) <= limit
        assert page[0][0] > after, "a page has to get on"
        read += page
        after = page[-1][0]
    return read
