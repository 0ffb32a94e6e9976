"""What only the store in memory does: private or shared by name, and every answer at once."""

import asyncio
import threading

import pytest

from rehydrate.errors import ConfigurationError, StoreClosedError, VersionConflictError
from rehydrate.store.port import Appended, AppendWaiter, LogFilter, NewEvent, Store
from rehydrate.store.url import open_store
from rehydrate.testing.clock import FakeClock


class NeverCalled:
    def append_done(self, outcome: object) -> None:
        raise AssertionError(f"the outcome was returned by submit, and told again: {outcome}")


NOBODY: AppendWaiter = NeverCalled()


def event(id: str, type: str = "Deposited") -> NewEvent:
    return NewEvent(id, type, b"{}")


async def versions_after_an_append(first: Store, second: Store) -> list[int]:
    await first.append("account-1", [event("1")], expected_version=0)
    return [(await store.versions(["account-1"]))[0] for store in (first, second)]


async def test_without_a_name_each_opening_is_a_new_and_private_store() -> None:
    first, second = await open_store("memory://"), await open_store("memory://")
    assert first.capabilities.single_writer
    assert await versions_after_an_append(first, second) == [1, 0]


async def test_with_a_name_it_is_shared_until_the_last_one_closes_it() -> None:
    first, second = await open_store("memory://bank"), await open_store("memory://bank")
    assert not first.capabilities.single_writer
    assert await versions_after_an_append(first, second) == [1, 1]
    await first.close()
    await first.close()
    assert await second.versions(["account-1"]) == [1]
    third = await open_store("memory://bank")
    await second.close()
    assert await third.versions(["account-1"]) == [1]
    await third.close()
    fresh = await open_store("memory://bank")
    assert await fresh.versions(["account-1"]) == [0]
    await fresh.close()


async def test_a_name_cannot_be_shared_with_another_event_loop() -> None:
    store = await open_store("memory://bank")
    refused: list[BaseException] = []

    def elsewhere() -> None:
        try:
            asyncio.run(_open_and_close("memory://bank"))
        except ConfigurationError as error:
            refused.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    await asyncio.to_thread(thread.join)
    assert "another event loop" in str(refused[0])
    await store.close()
    await asyncio.to_thread(asyncio.run, _open_and_close("memory://bank"))


def test_a_name_that_a_closed_event_loop_left_behind_is_free() -> None:
    async def leave_it_open() -> None:
        store = await open_store("memory://left")
        await store.append("account-1", [event("1")], expected_version=0)

    asyncio.run(leave_it_open())
    assert asyncio.run(_open_and_close("memory://left")) == [0]


async def test_submit_answers_at_once_and_never_calls_the_waiter() -> None:
    store = await open_store("memory://")
    first = (event("1"), event("2"))
    assert store.submit("account-1", first, 0, NOBODY) == Appended(2, 2)
    assert store.submit("account-1", (event("3"),), 2, NOBODY) == Appended(3, 3)
    assert store.submit("account-1", first, 0, NOBODY) == Appended(2, 2)
    assert isinstance(store.submit("account-1", (event("1"), event("9")), 0, NOBODY), VersionConflictError)
    assert isinstance(store.submit("account-1", (event("9"),), 7, NOBODY), VersionConflictError)
    assert isinstance(store.submit("account-1", (event("3"),), -1, NOBODY), VersionConflictError)
    await store.close()
    assert isinstance(store.submit("account-1", (event("4"),), 3, NOBODY), StoreClosedError)


async def test_the_clock_says_when_an_event_was_recorded_unless_the_event_does() -> None:
    clock = FakeClock()
    store = await open_store("memory://", clock=clock)
    brought = NewEvent("2", "Deposited", b"{}", recorded_at=7)
    await store.append("account-1", [event("1"), brought], expected_version=0)
    page = await store.read_stream("account-1")
    assert [stored.recorded_at for stored in page.events] == [clock.wall(), 7]


async def test_closing_fails_who_waits_on_it_and_nobody_else() -> None:
    closing, other = await open_store("memory://bank"), await open_store("memory://bank")
    wakes = asyncio.create_task(closing.wait(after=0))
    stays = asyncio.create_task(other.wait(after=0))
    await asyncio.sleep(0)
    await closing.close()
    with pytest.raises(StoreClosedError):
        await wakes
    await other.append("account-1", [event("1")], expected_version=0)
    await stays
    await other.close()


async def test_a_page_of_the_log_looks_at_a_bounded_number_of_events() -> None:
    store = await open_store("memory://")
    for version in range(0, 12_000, 4_000):
        new = [event(f"{version + n}") for n in range(4_000)]
        await store.append("account-1", new, expected_version=version)
    await store.append("account-1", [event("rare", "Closed")], expected_version=12_000)
    rare = LogFilter(types=frozenset({"Closed"}))
    first = await store.read_all(where=rare)
    assert (first.events, first.position, first.event_id, first.is_last) == ([], 10_000, "9999", False)
    second = await store.read_all(after=first.position, where=rare)
    assert [stored.id for stored in second.events] == ["rare"]
    assert second.is_last


async def _open_and_close(url: str) -> list[int]:
    store = await open_store(url)
    versions = await store.versions(["account-1"])
    await store.close()
    return versions
