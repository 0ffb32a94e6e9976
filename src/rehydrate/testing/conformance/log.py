"""Laws of reading the whole store: pages, filters, the head, and waiting for more."""

from __future__ import annotations

import asyncio

import pytest

from rehydrate.store.port import Head, LogFilter, LogPage, Store, StoredEvent
from rehydrate.testing.clock import settle
from rehydrate.testing.conformance.law import law
from rehydrate.testing.conformance.material import event, fill, log_events
from rehydrate.testing.conformance.under_test import Another, StoreUnderTest


def _shown(where: LogFilter) -> str:
    """A filter as the name of a test, which is the same in every process."""
    without = {f"{aggregate}/{type}" for aggregate, type in where.without}
    parts = (
        ("streams", where.streams),
        ("aggregates", where.aggregates),
        ("types", where.types),
        ("without", without),
    )
    return ", ".join(f"{name}: {' '.join(sorted(names))}" for name, names in parts if names) or "all"


class LogLaws(StoreUnderTest):
    @law()
    async def test_an_empty_store_has_position_0(self, store: Store) -> None:
        assert await store.head() == Head(0, "")
        assert await store.read_all() == LogPage([], 0, "", is_last=True)
        assert await store.streams() == []

    @law()
    async def test_the_head_is_the_newest_event(self, store: Store) -> None:
        for n in range(1, 4):
            last = (await fill(store, f"account-{n}", n, each=n))[-1]
            newest = (await store.read_stream(f"account-{n}")).events[-1]
            assert await store.head() == Head(last.position, newest.id)

    @law()
    async def test_reading_the_log_in_pages_equals_reading_it_at_once(self, store: Store) -> None:
        await _mixed(store)
        at_once = (await store.read_all(limit=1_000)).events
        assert len(at_once) == 96
        for limit in (1, 7, 95, 96, 97):
            assert await log_events(store, limit=limit) == at_once

    @law()
    async def test_after_a_position_the_log_goes_on_right_behind_it(self, store: Store) -> None:
        await _mixed(store)
        log = await log_events(store)
        for n, stored in enumerate(log):
            page = await store.read_all(after=stored.position)
            assert page.events == log[n + 1 :]

    @law()
    async def test_a_page_ends_with_position_and_id_up_to_where_the_log_was_read(self, store: Store) -> None:
        await _mixed(store)
        log = await log_events(store)
        for limit in (1, 2, 5, 96):
            page = await store.read_all(limit=limit)
            assert page.events == log[: len(page.events)]
            assert (page.position, page.event_id) == (page.events[-1].position, page.events[-1].id)
        end = log[-1].position
        assert await store.read_all(after=end) == LogPage([], end, "", is_last=True)
        assert await store.read_all(after=end + 100) == LogPage([], end + 100, "", is_last=True)

    @law()
    async def test_a_page_says_that_it_is_the_last_only_where_the_log_ends(self, store: Store) -> None:
        await _mixed(store)
        log = await log_events(store)
        for limit in (1, 95, 96, 97):
            for where in (None, LogFilter(streams=frozenset({"account-1"}))):
                page = await store.read_all(limit=limit, where=where)
                if page.is_last:
                    assert page.position == log[-1].position

    @pytest.mark.parametrize(
        "where",
        [
            LogFilter(streams=frozenset({"account-1"})),
            LogFilter(streams=frozenset({"account-1", "order-2", "nothing-1"})),
            LogFilter(aggregates=frozenset({"account"})),
            LogFilter(aggregates=frozenset({"account", "order"})),
            LogFilter(types=frozenset({"Opened"})),
            LogFilter(types=frozenset({"Opened", "Closed"}), aggregates=frozenset({"savings_account"})),
            LogFilter(streams=frozenset({"account-1"}), types=frozenset({"Closed"})),
            LogFilter(streams=frozenset({"account-1"}), aggregates=frozenset({"order"})),
            LogFilter(aggregates=frozenset({"acc"})),
            LogFilter(without=frozenset({("account", "Opened"), ("savings_account", "Closed")})),
            LogFilter(without=frozenset({("account", "Unheard"), ("acc", "Opened"), ("account_", "Opened")})),
            LogFilter(
                aggregates=frozenset({"account", "order"}),
                without=frozenset({("account", "Opened"), ("account", "Closed"), ("order", "Deposited")}),
            ),
            LogFilter(
                streams=frozenset({"account-1", "order-1"}),
                types=frozenset({"Opened", "Closed"}),
                without=frozenset({("account", "Closed")}),
            ),
            LogFilter(),
        ],
        ids=_shown,
    )
    @law()
    async def test_a_filter_hands_out_what_matches_and_nothing_else(
        self, store: Store, where: LogFilter
    ) -> None:
        await _mixed(store)
        matching = [stored for stored in await log_events(store) if _matches(stored, where)]
        for limit in (1, 3, 1_000):
            assert await log_events(store, limit=limit, where=where) == matching

    @law()
    async def test_a_filtered_reader_moves_past_what_does_not_match(self, store: Store) -> None:
        """Its checkpoint would stay behind for ever, and everything be read again at each start."""
        await fill(store, "account-1", 3)
        await fill(store, "order-1", 500, each=100)
        head = await store.head()
        where = LogFilter(aggregates=frozenset({"account"}))
        after, event_id, found = 0, "", 0
        while True:
            page = await store.read_all(after=after, limit=10, where=where)
            found += len(page.events)
            assert page.position > after or page.is_last, "a page that is not the last has to get on"
            after, event_id = page.position, page.event_id or event_id
            if page.is_last:
                break
        assert (found, after, event_id) == (3, head.position, head.event_id)

    @law()
    async def test_what_a_filter_looks_for_is_found_behind_very_many_other_events(self, store: Store) -> None:
        await fill(store, "order-1", 10_500, each=min(3_500, store.capabilities.max_append_events))
        found = await store.append("account-1", [event("Rare")], expected_version=0)
        for where in (
            LogFilter(types=frozenset({"Rare"})),
            LogFilter(aggregates=frozenset({"account"})),
            LogFilter(streams=frozenset({"account-1"})),
            LogFilter(without=frozenset({("order", "Happened")})),
        ):
            (rare,) = await log_events(store, limit=10, where=where)
            assert rare.position == found.position
            assert await log_events(store, where=LogFilter(types=frozenset({"None"}))) == []

    @law()
    async def test_a_filter_may_name_very_many_streams(self, store: Store) -> None:
        """More than a database takes parameters in one statement."""
        await _mixed(store)
        names = frozenset({f"nothing-{n}" for n in range(40_000)} | {"account-1", "order-10"})
        expected = [stored for stored in await log_events(store) if stored.stream in names]
        assert await log_events(store, where=LogFilter(streams=names)) == expected
        assert len(expected) == 12

    @law()
    async def test_the_id_at_the_end_of_a_filtered_page_is_that_of_the_event_there(
        self, store: Store
    ) -> None:
        await _mixed(store)
        at = {stored.position: stored.id for stored in await log_events(store)}
        after = 0
        while True:
            page = await store.read_all(after=after, limit=2, where=LogFilter(types=frozenset({"Closed"})))
            if page.position > after:
                assert page.event_id == at[page.position]
            if page.is_last:
                break
            assert page.position > after, "a page that is not the last has to get on"
            after = page.position

    @law()
    async def test_waiting_returns_at_once_where_there_is_more(self, store: Store) -> None:
        last = (await fill(store, "account-1", 3))[-1]
        await store.wait(after=0)
        await store.wait(after=last.position - 1)

    @law()
    async def test_waiting_ends_with_an_append(self, store: Store) -> None:
        for n in range(5):
            head = await store.head()
            waiting = [asyncio.create_task(store.wait(after=head.position)) for _ in range(3)]
            await settle()
            await fill(store, f"account-{n}", 1)
            await asyncio.gather(*waiting)

    @law(lacks=("single_writer",))
    async def test_waiting_ends_with_an_append_through_another_opened_store(
        self, store: Store, another: Another
    ) -> None:
        second = await another()
        for n in range(3):
            head = await store.head()
            waiting = asyncio.create_task(store.wait(after=head.position))
            await settle()
            await fill(second, f"account-{n}", 1)
            await waiting

    @law()
    async def test_an_append_while_somebody_begins_to_wait_is_never_missed(self, store: Store) -> None:
        """The append comes a few turns of the loop before the waiting, at the same time, and after."""
        for n in range(30):
            head = await store.head()

            async def wait(turns: int, after: int) -> None:
                for _ in range(turns):
                    await asyncio.sleep(0)
                await store.wait(after=after)

            await asyncio.gather(wait(n, head.position), fill(store, f"account-{n}", 1))

    @law()
    async def test_whoever_stops_waiting_leaves_the_others_waiting(self, store: Store) -> None:
        waiting = [asyncio.create_task(store.wait(after=0)) for _ in range(5)]
        await settle()
        for task in waiting[::2]:
            task.cancel()
        await settle()
        await fill(store, "account-1", 1)
        await asyncio.gather(*waiting[1::2])
        await asyncio.gather(*waiting[::2], return_exceptions=True)
        await store.wait(after=0)


_TYPES = ("Opened", "Deposited", "Closed")


async def _mixed(store: Store) -> None:
    """Events of three types, two in each append, in streams of aggregates whose names are each other's beginnings and ends."""
    streams = [
        f"{aggregate}-{n}"
        for aggregate in ("account", "savings_account", "account_2", "order")
        for n in ("1", "2", "account-1", "10")
    ]
    for type, other in zip(_TYPES, (*_TYPES[1:], _TYPES[0]), strict=True):
        for stream in streams:
            (version,) = await store.versions([stream])
            await store.append(stream, [event(type), event(other)], expected_version=version)


def _matches(stored: StoredEvent, where: LogFilter) -> bool:
    aggregate = stored.stream.partition("-")[0]
    return (
        (not where.streams or stored.stream in where.streams)
        and (not where.aggregates or aggregate in where.aggregates)
        and (not where.types or stored.type in where.types)
        and not any(stored.type == type and aggregate == of for of, type in where.without)
    )
