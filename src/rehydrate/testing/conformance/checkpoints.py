"""Laws of checkpoints: a consumer's place moves forward, for one consumer at a time."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from rehydrate.store.port import Checkpoint, Store, ViewChange
from rehydrate.testing.conformance.law import law
from rehydrate.testing.conformance.under_test import Another, StoreUnderTest


def checkpoint(name: str, position: int, *, epoch: int = 1, data: bytes = b"") -> Checkpoint:
    return Checkpoint(name=name, position=position, event_id=f"event {position}", epoch=epoch, data=data)


class CheckpointLaws(StoreUnderTest):
    @law()
    async def test_an_unknown_consumer_has_no_checkpoint(self, store: Store) -> None:
        assert await store.load_checkpoint("balances") is None
        assert await store.list_checkpoints() == []

    @law()
    async def test_a_checkpoint_comes_back_as_given(self, store: Store) -> None:
        saved = Checkpoint(
            name="Übersicht '1'",
            position=2**53 + 1,
            event_id="\U0001f98a",
            epoch=2**31 + 1,
            data=bytes(range(256)) * 1_000,
        )
        assert await store.save_checkpoint(saved, previous=None)
        assert await store.load_checkpoint(saved.name) == saved
        assert await store.list_checkpoints() == [saved]

    @law()
    async def test_a_consumer_begins_at_position_0(self, store: Store) -> None:
        begun = Checkpoint(name="balances", position=0, event_id="", epoch=1)
        assert await store.save_checkpoint(begun, previous=None)
        assert await store.load_checkpoint("balances") == begun
        assert await store.save_checkpoint(checkpoint("balances", 5), previous=begun)
        assert await store.load_checkpoint("balances") == checkpoint("balances", 5)

    @law()
    async def test_a_checkpoint_moves_on_from_where_it_was(self, store: Store) -> None:
        previous: Checkpoint | None = None
        for position in (1, 2, 10, 1_000):
            saved = checkpoint("balances", position, data=b"%d" % position)
            assert await store.save_checkpoint(saved, previous=previous)
            assert await store.load_checkpoint("balances") == saved
            previous = saved

    @law()
    async def test_a_checkpoint_may_be_saved_where_it_is_with_other_data(self, store: Store) -> None:
        first = checkpoint("balances", 5, data=b"1")
        second = checkpoint("balances", 5, data=b"2")
        assert await store.save_checkpoint(first, previous=None)
        assert await store.save_checkpoint(second, previous=first)
        assert await store.load_checkpoint("balances") == second

    @pytest.mark.parametrize(
        "previous",
        [
            None,
            checkpoint("balances", 4),
            checkpoint("balances", 6),
            checkpoint("balances", 5, epoch=2),
            checkpoint("balances", 5, epoch=4),
        ],
        ids=["none", "an earlier place", "a later place", "an earlier epoch", "a later epoch"],
    )
    @law()
    async def test_whoever_last_saw_another_place_or_epoch_saves_nothing(
        self, store: Store, previous: Checkpoint | None
    ) -> None:
        there = checkpoint("balances", 5, epoch=3, data=b"there")
        assert await store.save_checkpoint(there, previous=None, views=[ViewChange("ada", b"there")])
        saved = await store.save_checkpoint(
            checkpoint("balances", 9, epoch=5),
            previous=previous,
            views=[ViewChange("ada", b"late"), ViewChange("bob", b"late")],
        )
        assert saved is False
        assert await store.load_checkpoint("balances") == there
        assert await store.list_views("balances") == [("ada", b"there")]

    @law()
    async def test_whoever_saw_a_checkpoint_that_was_removed_saves_nothing(self, store: Store) -> None:
        first = checkpoint("balances", 5)
        assert await store.save_checkpoint(first, previous=None)
        await store.remove_checkpoint("balances")
        late = await store.save_checkpoint(
            checkpoint("balances", 6), previous=first, views=[ViewChange("ada", b"late")]
        )
        assert late is False
        assert await store.load_checkpoint("balances") is None
        assert await store.list_views("balances") == []

    @law()
    async def test_whoever_takes_over_raises_the_epoch_and_the_other_stops(self, store: Store) -> None:
        old = checkpoint("balances", 5)
        assert await store.save_checkpoint(old, previous=None)
        taken = checkpoint("balances", 5, epoch=2)
        assert await store.save_checkpoint(taken, previous=old)
        assert not await store.save_checkpoint(checkpoint("balances", 6), previous=old)
        assert await store.save_checkpoint(checkpoint("balances", 6, epoch=2), previous=taken)

    @pytest.mark.parametrize(
        "back",
        [checkpoint("balances", 4, epoch=3), checkpoint("balances", 9, epoch=2), checkpoint("balances", 0)],
        ids=["to an earlier place", "to an earlier epoch", "to the beginning"],
    )
    @law()
    async def test_a_checkpoint_never_moves_back(self, store: Store, back: Checkpoint) -> None:
        there = checkpoint("balances", 5, epoch=3)
        assert await store.save_checkpoint(there, previous=None, views=[ViewChange("ada", b"there")])
        with pytest.raises(ValueError, match=r"."):
            await store.save_checkpoint(back, previous=there, views=[ViewChange("ada", b"back")])
        assert await store.load_checkpoint("balances") == there
        assert await store.load_view("balances", "ada") == b"there"

    @law()
    async def test_of_consumers_that_save_at_once_exactly_one_wins(self, store: Store) -> None:
        await _race([store] * 20)

    @law(lacks=("single_writer",))
    async def test_of_consumers_on_several_opened_stores_that_save_at_once_exactly_one_wins(
        self, store: Store, another: Another
    ) -> None:
        await _race([store, await another(), await another()] * 4)

    @law()
    async def test_a_reset_leads_back_to_the_beginning_and_stops_whoever_runs(self, store: Store) -> None:
        running = checkpoint("balances", 5, epoch=3, data=b"mine")
        await store.save_checkpoint(running, previous=None, views=[ViewChange("ada", b"1")])
        await store.save_checkpoint(checkpoint("others", 7), previous=None, views=[ViewChange("ada", b"2")])
        await store.reset_checkpoint("balances")
        reset = await store.load_checkpoint("balances")
        assert reset is not None
        assert (reset.position, reset.event_id, reset.data) == (0, "", b"")
        assert reset.epoch > running.epoch
        assert await store.list_views("balances") == []
        late = checkpoint("balances", 6, epoch=3)
        assert not await store.save_checkpoint(late, previous=running, views=[ViewChange("ada", b"late")])
        assert await store.load_view("balances", "ada") is None
        again = msgspec.structs.replace(reset, position=1, event_id="event 1")
        assert await store.save_checkpoint(again, previous=reset)
        assert await store.load_checkpoint("others") == checkpoint("others", 7)
        assert await store.load_view("others", "ada") == b"2"

    @law()
    async def test_a_second_reset_raises_the_epoch_again(self, store: Store) -> None:
        await store.save_checkpoint(checkpoint("balances", 5), previous=None)
        epochs: list[int] = []
        for _ in range(3):
            await store.reset_checkpoint("balances")
            reset = await store.load_checkpoint("balances")
            assert reset is not None
            epochs.append(reset.epoch)
        assert 1 < epochs[0] < epochs[1] < epochs[2]

    @law()
    async def test_a_removed_consumer_leaves_nothing(self, store: Store) -> None:
        await store.save_checkpoint(checkpoint("balances", 5), previous=None, views=[ViewChange("ada", b"1")])
        await store.save_checkpoint(checkpoint("others", 7), previous=None, views=[ViewChange("ada", b"2")])
        await store.remove_checkpoint("balances")
        await store.remove_checkpoint("unknown")
        assert await store.load_checkpoint("balances") is None
        assert await store.list_checkpoints() == [checkpoint("others", 7)]
        assert await store.load_view("balances", "ada") is None
        assert await store.load_view("others", "ada") == b"2"
        assert await store.save_checkpoint(checkpoint("balances", 1), previous=None)
        assert await store.list_views("balances") == []

    @law()
    async def test_checkpoints_are_listed_by_name_in_code_point_order(self, store: Store) -> None:
        names = ["b", "a", "B", "ab", "a-b", "é", "\U0001f98a", "\uffff", "10", "9"]
        for name in names:
            await store.save_checkpoint(checkpoint(name, 1), previous=None)
        assert [one.name for one in await store.list_checkpoints()] == sorted(names)

    @law(needs=("durable",))
    async def test_checkpoints_and_views_survive_reopening(self, store: Store, another: Another) -> None:
        saved = checkpoint("balances", 5, data=b"mine")
        await store.save_checkpoint(saved, previous=None, views=[ViewChange("ada", b"1")])
        await store.close()
        reopened = await another()
        assert await reopened.list_checkpoints() == [saved]
        assert await reopened.list_views("balances") == [("ada", b"1")]
        assert not await reopened.save_checkpoint(checkpoint("balances", 6), previous=None)
        assert await reopened.save_checkpoint(checkpoint("balances", 6), previous=saved)


async def _race(stores: list[Store]) -> None:
    """All move one checkpoint on from the same place, each with views of its own: one wins, with all its views."""
    previous: Checkpoint | None = None
    for position in range(1, 9):
        saved = await asyncio.gather(
            *[
                store.save_checkpoint(
                    checkpoint("balances", position, data=b"%d" % n),
                    previous=previous,
                    views=[ViewChange("ada", b"%d" % n), ViewChange(f"runner {n}", b"")],
                )
                for n, store in enumerate(stores)
            ]
        )
        assert sum(saved) == 1, f"exactly one wins: {saved}"
        winner = b"%d" % saved.index(True)
        previous = await stores[0].load_checkpoint("balances")
        assert previous == checkpoint("balances", position, data=winner)
        assert await stores[0].load_view("balances", "ada") == winner
    won = {key for key, _ in await stores[0].list_views("balances", prefix="runner")}
    assert len(won) <= 8
