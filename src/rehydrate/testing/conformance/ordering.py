"""Laws of the order of the log: a reader that keeps a position misses nothing, and sees each append whole."""

from __future__ import annotations

import asyncio

from rehydrate.errors import VersionConflictError
from rehydrate.store.port import ANY_VERSION, Appended, Store
from rehydrate.testing.conformance.law import law
from rehydrate.testing.conformance.material import (
    Follower,
    events,
    fill,
    ids,
    lot,
    part,
    sound_log,
    whole_lots,
)
from rehydrate.testing.conformance.under_test import Another, StoreUnderTest


class OrderingLaws(StoreUnderTest):
    @law()
    async def test_the_log_holds_appends_in_the_order_of_their_answers(self, store: Store) -> None:
        sent: list[str] = []
        for n in range(30):
            new = events(n % 3 + 1)
            await store.append(f"account-{n % 7}", new, expected_version=ANY_VERSION)
            sent += ids(new)
        assert ids(await sound_log(store)) == sent

    @law(lacks=("single_writer",))
    async def test_the_log_holds_appends_of_several_opened_stores_in_the_order_of_their_answers(
        self, store: Store, another: Another
    ) -> None:
        stores = [store, await another(), await another()]
        sent: list[str] = []
        for n in range(30):
            new = events(n % 3 + 1)
            await stores[n % 3].append(f"account-{n % 7}", new, expected_version=ANY_VERSION)
            sent += ids(new)
        assert ids(await sound_log(store)) == sent

    @law()
    async def test_no_position_appears_behind_a_reader_that_has_passed_it(self, store: Store) -> None:
        async with Follower(store) as reader:
            acked = await _write(store, store, store)
            log = await sound_log(store)
            await reader.finish(log)
        assert whole_lots(log) == acked

    @law(lacks=("single_writer",))
    async def test_no_position_of_another_opened_store_appears_behind_a_reader(
        self, store: Store, another: Another
    ) -> None:
        stores = [store, await another(), await another()]
        async with Follower(store) as reader, Follower(await another(), limit=1_000) as second:
            acked = await _write(*stores)
            log = await sound_log(store)
            await reader.finish(log)
            await second.finish(log)
        assert whole_lots(log) == acked

    @law()
    async def test_a_stream_never_shows_an_append_in_part(self, store: Store) -> None:
        """The reader asks for all of the stream while one append of five after the other goes in."""
        done = asyncio.Event()

        async def write() -> None:
            for n in range(40):
                await store.append("account-1", lot(f"lot {n}", 5), expected_version=5 * n)
            done.set()

        writing = asyncio.create_task(write())
        seen = -1
        while not done.is_set() or seen < 200:
            page = await store.read_stream("account-1", limit=1_000)
            assert len(page.events) >= seen, "the stream became shorter"
            seen = len(page.events)
            if page.is_last and page.events:
                last = part(page.events[-1].id)
                assert last.index == last.size - 1, f"{last.lot} was seen in part"
            assert all(version % 5 == 0 for version in await store.versions(["account-1"]))
            await asyncio.sleep(0)
        await writing

    @law()
    async def test_the_head_and_the_versions_never_show_an_append_in_part_or_go_back(
        self, store: Store
    ) -> None:
        writing = asyncio.create_task(_write(store))
        seen = 0
        while not writing.done():
            head = await store.head()
            assert head.position >= seen, "the head went back"
            seen = head.position
            if head.event_id:
                last = part(head.event_id)
                assert last.index == last.size - 1, f"{last.lot} was seen in part"
            await asyncio.sleep(0)
        await writing

    @law()
    async def test_an_acknowledged_append_is_seen_by_every_read_that_begins_after(self, store: Store) -> None:
        for version in range(1, 21):
            last = await store.append("account-1", events(1), expected_version=version - 1)
            assert await store.versions(["account-1"]) == [version]
            assert (await store.head()).position == last.position
            assert (await store.read_stream("account-1", after=version - 1)).events[0].version == version
            assert (await store.replay("account-1", after=version - 1)).last_position == last.position
            assert (await store.read_all(after=last.position - 1)).position == last.position

    @law()
    async def test_an_acknowledged_append_is_seen_while_others_ask_all_the_time(self, store: Store) -> None:
        """An answer that is on its way to somebody else may be older than the question."""

        async def ask() -> None:
            while True:
                await store.versions(["account-1"])
                await asyncio.sleep(0)

        asking = [asyncio.create_task(ask()) for _ in range(5)]
        for version in range(1, 31):
            await store.append("account-1", events(1), expected_version=version - 1)
            assert await store.versions(["account-2", "account-1"]) == [0, version]
            assert (await store.replay("account-1", after=version - 1)).rows
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    @law()
    async def test_a_reader_that_waits_at_the_end_of_the_log_sees_everything(self, store: Store) -> None:
        following = asyncio.create_task(_follow_waiting(store))
        await _write(store)
        await store.append("account-end", lot("end", 1), expected_version=0)
        assert await following == ids(await sound_log(store))

    @law(lacks=("single_writer",))
    async def test_a_reader_that_waits_sees_everything_of_other_opened_stores(
        self, store: Store, another: Another
    ) -> None:
        following = asyncio.create_task(_follow_waiting(await another()))
        await _write(store, await another())
        await store.append("account-end", lot("end", 1), expected_version=0)
        assert await following == ids(await sound_log(store))

    @law(lacks=("single_writer",))
    async def test_what_another_opened_store_acknowledged_is_seen_by_every_read_that_begins_after(
        self, store: Store, another: Another
    ) -> None:
        """No map of heads that is kept anywhere may answer for the store."""
        second = await another()
        for version in range(1, 41):
            writer, reader = (store, second) if version % 2 else (second, store)
            last = await writer.append("account-1", events(1), expected_version=version - 1)
            assert await reader.versions(["account-1", "account-2"]) == [version, 0]
            assert (await reader.head()).position == last.position
            assert (await reader.read_stream("account-1", after=version - 1)).events[0].version == version
            assert (await reader.replay("account-1", after=version - 1)).last_position == last.position
            assert (await reader.read_all(after=last.position - 1)).position == last.position

    @law()
    async def test_below_a_used_position_no_unused_one_is_filled_later(self, store: Store) -> None:
        """Refused appends in the middle of many leave no hole into which a later append could fall."""
        await fill(store, "account-0", 1)
        for n in range(1, 6):
            position = (await store.head()).position
            await asyncio.gather(
                *[
                    store.append(f"account-{n}-{m}" if m % 2 else "account-0", events(3), expected_version=0)
                    for m in range(20)
                ],
                return_exceptions=True,
            )
            after = [e.position for e in await sound_log(store) if e.position <= position]
            assert len(after) == 1 + 30 * (n - 1), "something appeared at or below the former head"


async def _follow_waiting(store: Store) -> list[str]:
    """The ids in the log up to the stream `account-end`, from a reader that waits whenever there is no more."""
    seen: list[str] = []
    after = 0
    while True:
        page = await store.read_all(after=after, limit=5)
        assert page.position > after or page.is_last, "a page that is not the last has to get on"
        seen += ids(page.events)
        after = page.position
        if page.events and page.events[-1].stream == "account-end":
            return seen
        if page.is_last:
            await store.wait(after=after)
            # A store that never suspends must not keep the law from ending.
            await asyncio.sleep(0)


async def _write(*stores: Store) -> dict[str, Appended]:
    """Write lots from many tasks, a third of them to one stream that they all fight for."""
    acked: dict[str, Appended] = {}

    async def one_task(store: Store, task: int) -> None:
        for n in range(8):
            name = f"{task}.{n}"
            stream = "account-shared" if n % 3 == 0 else f"account-{task}"
            new = lot(name, (task + n) % 4 + 1)
            (expected,) = await store.versions([stream])
            while name not in acked:
                try:
                    acked[name] = await store.append(stream, new, expected_version=expected)
                except VersionConflictError as conflict:
                    expected = conflict.actual
                    await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        for task in range(12):
            tasks.create_task(one_task(stores[task % len(stores)], task))
    return acked
