"""Laws of appending: versions, expectations, and what a refused append leaves behind."""

from __future__ import annotations

import asyncio

import pytest

from rehydrate.errors import AppendTooLargeError, StoreError, VersionConflictError
from rehydrate.store.port import (
    ANY_VERSION,
    STREAM_EXISTS,
    Appended,
    ExpectedVersion,
    NewEvent,
    Store,
    StreamEnd,
)
from rehydrate.testing.clock import until
from rehydrate.testing.conformance.law import law
from rehydrate.testing.conformance.material import event, events, fill, ids, sound_log, stream_events
from rehydrate.testing.conformance.under_test import Another, StoreUnderTest


class HeardOnce:
    """A waiter that keeps what it hears, on the event loop."""

    def __init__(self) -> None:
        self.outcomes: list[Appended | StoreError] = []

    def append_done(self, outcome: Appended | StoreError) -> None:
        asyncio.get_running_loop()
        self.outcomes.append(outcome)

    async def heard(self) -> Appended | StoreError:
        """What it heard, when it has heard something."""
        await until(lambda: self.outcomes)
        (outcome,) = self.outcomes
        return outcome


async def submitted(
    store: Store,
    stream: str,
    new: list[NewEvent],
    expected_version: int,
    last_id: str = "",
    last_position: int = 0,
) -> Appended | StoreError:
    """How an append ended that was sent as actors send theirs."""
    waiter = HeardOnce()
    outcome = store.submit(stream, new, expected_version, waiter, last_id, last_position)
    return await waiter.heard() if outcome is None else outcome


class AppendLaws(StoreUnderTest):
    @law()
    async def test_versions_run_1_2_3_and_an_append_returns_the_last(self, store: Store) -> None:
        one = await store.append("account-1", events(1), expected_version=0)
        three = await store.append("account-1", events(3), expected_version=1)
        other = await store.append("account-2", events(2), expected_version=0)
        assert (one.version, three.version, other.version) == (1, 4, 2)
        log = await sound_log(store)
        assert [(e.stream, e.version) for e in log] == [
            *[("account-1", version) for version in (1, 2, 3, 4)],
            *[("account-2", version) for version in (1, 2)],
        ]
        assert [log[0].position, log[3].position, log[5].position] == [
            one.position,
            three.position,
            other.position,
        ]

    @law()
    async def test_the_positions_inside_an_append_are_contiguous(self, store: Store) -> None:
        for count in (5, 1, 3):
            last = await store.append(f"account-{count}", events(count), expected_version=0)
            positions = [e.position for e in await stream_events(store, f"account-{count}")]
            assert positions == list(range(last.position - count + 1, last.position + 1))

    @pytest.mark.parametrize("expected", [-1, 0, 1, 2, 4, 5, 1_000, 2**40])
    @law()
    async def test_a_wrong_expectation_is_a_conflict_and_stores_nothing(
        self, store: Store, expected: int
    ) -> None:
        await fill(store, "account-1", 3, each=2)
        before = await sound_log(store)
        await _assert_conflict(store, "account-1", expected=expected, actual=3)
        assert await sound_log(store) == before

    @pytest.mark.parametrize("expected", [-1, 1, 2, 1_000])
    @law()
    async def test_a_version_expected_of_an_empty_stream_is_a_conflict(
        self, store: Store, expected: int
    ) -> None:
        await fill(store, "account-2", 2)
        before = await sound_log(store)
        await _assert_conflict(store, "account-1", expected=expected, actual=0)
        assert await sound_log(store) == before

    @law(lacks=("single_writer",))
    async def test_a_wrong_expectation_is_a_conflict_also_where_another_opened_store_appended(
        self, store: Store, another: Another
    ) -> None:
        second = await another()
        await fill(store, "account-1", 2)
        await fill(second, "account-1", 2)
        for expected in (0, 2, 3, 5):
            await _assert_conflict(store, "account-1", expected=expected, actual=4)
            await _assert_conflict(second, "account-1", expected=expected, actual=4)
        assert (await store.append("account-1", events(1), expected_version=4)).version == 5
        assert (await second.append("account-1", events(1), expected_version=5)).version == 6
        assert len(await sound_log(store)) == 6

    @law()
    async def test_a_store_goes_on_after_a_conflict(self, store: Store) -> None:
        await fill(store, "account-1", 1)
        with pytest.raises(VersionConflictError):
            await store.append("account-1", events(1), expected_version=0)
        assert (await store.append("account-1", events(1), expected_version=1)).version == 2
        assert (await store.append("account-2", events(1), expected_version=0)).version == 1
        await sound_log(store)

    @law()
    async def test_a_conflict_stays_one_when_it_is_sent_again(self, store: Store) -> None:
        await fill(store, "account-1", 1)
        strangers = events(2)
        for _ in range(3):
            with pytest.raises(VersionConflictError):
                await store.append("account-1", strangers, expected_version=0)
        assert len(await sound_log(store)) == 1

    @law()
    async def test_any_version_appends_wherever_the_stream_is(self, store: Store) -> None:
        versions = [
            (await store.append("account-1", events(2), expected_version=ANY_VERSION)).version
            for _ in range(3)
        ]
        assert versions == [2, 4, 6]
        await sound_log(store)

    @law()
    async def test_stream_exists_takes_a_stream_with_events_and_refuses_one_without(
        self, store: Store
    ) -> None:
        with pytest.raises(VersionConflictError) as refused:
            await store.append("account-1", events(1), expected_version=STREAM_EXISTS)
        assert refused.value.actual == 0
        assert await sound_log(store) == []
        await store.append("account-1", events(1), expected_version=0)
        assert (await store.append("account-1", events(1), expected_version=STREAM_EXISTS)).version == 2

    @pytest.mark.parametrize("expected", [ANY_VERSION, STREAM_EXISTS])
    @law()
    async def test_concurrent_appends_at_whatever_version_all_succeed(
        self, store: Store, expected: ExpectedVersion
    ) -> None:
        await fill(store, "account-1", 1)
        results = await asyncio.gather(
            *[store.append("account-1", events(2), expected_version=expected) for _ in range(20)]
        )
        assert sorted(result.version for result in results) == list(range(3, 43, 2))
        assert len(await sound_log(store)) == 41

    @law()
    async def test_an_append_without_events_stores_nothing_and_returns_where_the_stream_is(
        self, store: Store
    ) -> None:
        assert await store.append("account-1", [], expected_version=0) == Appended(0, 0)
        assert await store.append("account-1", [], expected_version=ANY_VERSION) == Appended(0, 0)
        last = (await fill(store, "account-1", 3, each=3))[-1]
        await fill(store, "account-2", 1)
        before = await sound_log(store)
        assert await store.append("account-1", [], expected_version=3) == last
        assert await store.append("account-1", [], expected_version=STREAM_EXISTS) == last
        for wrong in (0, 2, 4):
            with pytest.raises(VersionConflictError):
                await store.append("account-1", [], expected_version=wrong)
        assert await sound_log(store) == before

    @law()
    async def test_of_concurrent_appends_at_one_version_exactly_one_succeeds(self, store: Store) -> None:
        for version in (0, 2, 4):
            await _race([store] * 30, version)
        assert len(await sound_log(store)) == 6

    @law(lacks=("single_writer",))
    async def test_of_appends_at_one_version_from_several_opened_stores_exactly_one_succeeds(
        self, store: Store, another: Another
    ) -> None:
        stores = [store, await another(), await another()]
        for version in range(0, 12, 2):
            await _race(stores * 4, version)
        assert len(await sound_log(store)) == 12

    @law()
    async def test_of_many_concurrent_appends_each_gets_its_own_outcome(self, store: Store) -> None:
        """Two hundred at once, to streams of their own, every third with a wrong expectation."""
        for n in range(0, 200, 5):
            await fill(store, f"account-{n}", 1)
        at = {n: 1 if n % 5 == 0 else 0 for n in range(200)}
        wrong = {n: at[n] + (-1 if n % 5 == 0 else 3) for n in range(0, 200, 3)}
        new = {n: events(n % 4 + 1) for n in range(200)}
        outcomes = await asyncio.gather(
            *[store.append(f"account-{n}", new[n], expected_version=wrong.get(n, at[n])) for n in range(200)],
            return_exceptions=True,
        )
        log = await sound_log(store)
        last = {(e.stream, e.version): e.position for e in log}
        for n, outcome in enumerate(outcomes):
            stream = f"account-{n}"
            if n in wrong:
                assert isinstance(outcome, VersionConflictError), outcome
                assert (outcome.stream, outcome.expected, outcome.actual) == (stream, wrong[n], at[n])
            else:
                version = at[n] + len(new[n])
                assert outcome == Appended(version, last[stream, version])
        assert len(log) == 40 + sum(len(new[n]) for n in range(200) if n not in wrong)

    @law()
    async def test_more_appends_than_fit_into_one_commit_are_all_stored(self, store: Store) -> None:
        """Whether there are too many of them or they are too large."""
        many = [store.append(f"account-{n}", events(1), expected_version=0) for n in range(2_500)]
        results = await asyncio.gather(*many)
        assert len({result.position for result in results}) == 2_500
        size = min(2**20, store.capabilities.max_append_bytes) - 100
        large = [event(data=bytes(size)) for _ in range(40)]
        await asyncio.gather(
            *[store.append(f"large-{n}", [one], expected_version=0) for n, one in enumerate(large)]
        )
        assert await store.versions([f"large-{n}" for n in range(40)]) == [1] * 40
        assert (await store.head()).position == (await _assert_gapless(store, 2_540))

    @law()
    async def test_too_many_events_are_refused_and_nothing_is_stored(self, store: Store) -> None:
        limit = store.capabilities.max_append_events
        with pytest.raises(AppendTooLargeError) as refused:
            await store.append("account-1", events(limit + 1), expected_version=0)
        assert (refused.value.size, refused.value.limit) == (limit + 1, limit)
        assert await sound_log(store) == []
        assert (await store.append("account-1", events(limit), expected_version=0)).version == limit
        assert (await store.versions(["account-1"])) == [limit]

    @law()
    async def test_too_many_bytes_are_refused_and_nothing_is_stored(self, store: Store) -> None:
        limit = store.capabilities.max_append_bytes
        fits = [event(data=bytes(limit - 2 - 10)), event(data=bytes(10 - 2))]
        too_large = [fits[0], event(data=bytes(10 - 1))]
        with pytest.raises(AppendTooLargeError) as refused:
            await store.append("account-1", too_large, expected_version=0)
        assert (refused.value.size, refused.value.limit) == (limit + 1, limit)
        assert await store.versions(["account-1"]) == [0]
        assert (await store.append("account-1", fits, expected_version=0)).version == 2
        assert await store.versions(["account-1"]) == [2]

    @law()
    async def test_a_waiter_hears_once_how_its_append_ended_and_never_from_within_submit(
        self, store: Store
    ) -> None:
        await fill(store, "account-0", 1)
        waiters = [HeardOnce() for _ in range(20)]
        returned: list[Appended | StoreError | None] = []
        for n, waiter in enumerate(waiters):
            # Every other append goes to a stream of its own, every other one is a conflict.
            stream = f"account-{n + 1}" if n % 2 else "account-0"
            returned.append(store.submit(stream, events(1), 0, waiter))
            assert waiter.outcomes == [], "a waiter was called from within submit"
        outcomes = [
            outcome or await waiter.heard() for outcome, waiter in zip(returned, waiters, strict=True)
        ]
        await store.append("account-0", events(1), expected_version=1)
        for n, outcome in enumerate(outcomes):
            assert isinstance(outcome, Appended if n % 2 else VersionConflictError)
            assert len(waiters[n].outcomes) == (returned[n] is None), "exactly once"
        assert len(await sound_log(store)) == 12

    @law()
    async def test_the_end_of_a_stream_is_its_last_event(self, store: Store) -> None:
        last = (await fill(store, "account-1", 3, each=2))[-1]
        await fill(store, "account-2", 1)
        ends = await store.ends(["account-2", "account-none", "account-1", "account-2"])
        first, nothing, second, again = ends
        assert nothing == StreamEnd(0, "")
        assert first == again == StreamEnd(1, (await stream_events(store, "account-2"))[-1].id)
        assert second == StreamEnd(last.version, (await stream_events(store, "account-1"))[-1].id)
        assert await store.ends([]) == []

    @law()
    async def test_an_append_that_names_the_event_before_it_is_stored_behind_just_that_event(
        self, store: Store, another: Another
    ) -> None:
        """The same version of another history is another place. Asked of one who knows the stream, and one who does not."""
        new = events(2)
        await store.append("account-1", new, expected_version=0)
        fresh = store if store.capabilities.single_writer else await another()
        for asked in (fresh, store):
            outcome = await submitted(asked, "account-1", events(1), 2, "another event")
            assert isinstance(outcome, VersionConflictError)
            assert (outcome.stream, outcome.expected, outcome.actual) == ("account-1", 2, 2)
            assert outcome.is_another_history
        assert len(await sound_log(store)) == 2
        third = events(1)
        done = await submitted(store, "account-1", third, 2, new[-1].id)
        assert isinstance(done, Appended)
        assert done.version == 3
        assert await submitted(store, "account-1", third, 2, new[-1].id) == done, "a repeat is one"
        assert isinstance(await submitted(fresh, "account-1", events(1), 3, third[-1].id), Appended)
        behind = await submitted(store, "account-1", events(1), 2, new[-1].id)
        assert isinstance(behind, VersionConflictError)
        assert (behind.actual, behind.is_another_history) == (4, False)

    @law(lacks=("single_writer",))
    async def test_where_the_event_before_an_append_is_said_to_be_changes_nothing(
        self, store: Store, another: Another
    ) -> None:
        """An actor may have heard of it before the log was brought back to an older state. Asked of one who knows no stream."""
        second = await another()
        hints = 7
        streams = [f"account-{n}" for n in range(2 * hints)]
        for stream in streams:
            await fill(store, stream, 2, each=2)
        await fill(second, "account-mine", 1)
        elsewhere = (await stream_events(store, streams[-1]))[-1].position
        for n, stream in enumerate(streams):
            first, last = await stream_events(store, stream)
            said = (last.position, elsewhere, first.position, 0, -1, 2**40, 2**63)[n % hints]
            ahead = await submitted(second, stream, events(1), 4, "", said)
            assert isinstance(ahead, VersionConflictError)
            other = await submitted(second, stream, events(1), 2, "another event", said)
            assert isinstance(other, VersionConflictError)
            assert other.is_another_history
            stored = await submitted(second, stream, events(1), 2, last.id if n < hints else "", said)
            assert isinstance(stored, Appended)
            assert [event.version for event in await stream_events(store, stream)] == [1, 2, 3]
        assert len(await sound_log(store)) == 3 * len(streams) + 1

    @law()
    async def test_appends_that_are_submitted_in_one_turn_stand_in_the_log_in_that_order(
        self, store: Store
    ) -> None:
        """As many as go out together: whoever copies a log relies on it."""
        await fill(store, "account-7", 1)
        waiters = [HeardOnce() for _ in range(64)]
        returned = [
            store.submit(f"account-{n}", [event(id=f"event {n}")], 0, waiter)
            for n, waiter in enumerate(waiters)
        ]
        for n, (outcome, waiter) in enumerate(zip(returned, waiters, strict=True)):
            assert isinstance(outcome or await waiter.heard(), VersionConflictError if n == 7 else Appended)
        assert ids(await sound_log(store))[1:] == [f"event {n}" for n in range(64) if n != 7]


async def _assert_gapless(store: Store, count: int) -> int:
    """That the log has so many events at different positions; the last of them."""
    positions: list[int] = []
    after, is_last = 0, False
    while not is_last:
        page = await store.read_all(after=after)
        positions += [stored.position for stored in page.events]
        assert page.position > after or page.is_last, "a page that is not the last has to get on"
        after, is_last = page.position, page.is_last
    assert len(set(positions)) == len(positions) == count
    assert positions == sorted(positions)
    return positions[-1]


async def _assert_conflict(store: Store, stream: str, *, expected: int, actual: int) -> None:
    with pytest.raises(VersionConflictError) as conflict:
        await store.append(stream, events(2), expected_version=expected)
    facts = (conflict.value.stream, conflict.value.expected, conflict.value.actual)
    assert facts == (stream, expected, actual)


async def _race(stores: list[Store], version: int) -> None:
    """Append two events at one version through all of them at once: one gets it, the others a conflict with it."""
    racing: list[list[NewEvent]] = [events(2) for _ in stores]
    outcomes = await asyncio.gather(
        *[
            store.append("account-1", new, expected_version=version)
            for store, new in zip(stores, racing, strict=True)
        ],
        return_exceptions=True,
    )
    won = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, Appended)]
    assert len(won) == 1, f"exactly one succeeds: {outcomes}"
    for n, outcome in enumerate(outcomes):
        if n not in won:
            assert isinstance(outcome, VersionConflictError), outcome
            assert outcome.actual == version + 2
    assert ids(await stream_events(stores[0], "account-1"))[version:] == ids(racing[won[0]])
