"""What a FaultyStore does to the calls that pass through it, and what it leaves in the store behind it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from rehydrate.errors import StoreClosedError, StoreError, StoreUnavailableError, VersionConflictError
from rehydrate.store.port import Appended, Checkpoint, Store, StoredSnapshot
from rehydrate.store.url import open_store
from rehydrate.testing.clock import FakeClock, settle
from rehydrate.testing.conformance.material import events, fill, sound_log
from rehydrate.testing.faults import (
    METHODS,
    Delay,
    DelayAnswer,
    Fault,
    FaultyStore,
    Hang,
    HangAnswer,
    Late,
    Lose,
    LoseAnswer,
    RandomFaults,
    Refuse,
    Script,
)


class Waiter:
    def __init__(self) -> None:
        self.outcomes: list[Appended | StoreError] = []

    def append_done(self, outcome: Appended | StoreError) -> None:
        self.outcomes.append(outcome)


@pytest_asyncio.fixture
async def store() -> AsyncIterator[Store]:
    store = await open_store("memory://")
    yield store
    await store.close()


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def faulty(store: Store, script: Script, fake_clock: FakeClock) -> FaultyStore:
    return FaultyStore(store, script, fake_clock)


async def _stored(store: Store) -> int:
    return len(await sound_log(store))


async def test_without_faults_every_call_passes(store: Store, faulty: FaultyStore) -> None:
    assert await faulty.append("account-1", events(2), expected_version=0) == Appended(2, 2)
    with pytest.raises(VersionConflictError):
        await faulty.append("account-1", events(1), expected_version=0)
    assert await sound_log(faulty) == await sound_log(store)
    assert faulty.capabilities == store.capabilities
    assert faulty.url == store.url
    assert faulty.calls["submit"] == 2


@pytest.mark.parametrize(
    ("fault", "known", "stored"),
    [
        (Refuse(), False, 0),
        (Refuse(at_once=True), False, 0),
        (Lose(), None, 0),
        (Lose(at_once=True), None, 0),
        (LoseAnswer(), None, 2),
        (Late(), None, 0),
    ],
)
async def test_an_append_fails_with_what_is_known_of_it(
    store: Store, faulty: FaultyStore, script: Script, fault: Fault, known: bool | None, stored: int
) -> None:
    script.add("submit", fault)
    with pytest.raises(StoreUnavailableError) as failure:
        await faulty.append("account-1", events(2), expected_version=0)
    assert failure.value.stored is known
    assert failure.value.retryable
    assert await _stored(store) == stored


@pytest.mark.parametrize("fault", [Refuse(), Lose(), LoseAnswer(), Late(), HangAnswer(), DelayAnswer(0)])
async def test_a_waiter_is_called_once_and_not_from_within_submit(
    faulty: FaultyStore, script: Script, fake_clock: FakeClock, fault: Fault
) -> None:
    script.add("submit", fault)
    waiter = Waiter()
    assert faulty.submit("account-1", events(1), 0, waiter) is None
    assert waiter.outcomes == []
    await settle()
    faulty.release()
    await fake_clock.advance(0)
    assert len(waiter.outcomes) == 1


async def test_an_append_that_fails_at_once_is_told_in_the_return_value(
    faulty: FaultyStore, script: Script
) -> None:
    script.add("submit", Refuse(at_once=True, retryable=False))
    waiter = Waiter()
    outcome = faulty.submit("account-1", events(1), 0, waiter)
    assert isinstance(outcome, StoreUnavailableError)
    assert not outcome.retryable
    await settle()
    assert waiter.outcomes == []


async def test_the_answer_of_a_conflict_is_lost_too(faulty: FaultyStore, script: Script) -> None:
    await fill(faulty, "account-1", 1)
    script.add("submit", LoseAnswer())
    with pytest.raises(StoreUnavailableError) as failure:
        await faulty.append("account-1", events(1), expected_version=0)
    assert failure.value.stored is None


async def test_a_delayed_append_is_not_there_until_its_time_has_come(
    store: Store, faulty: FaultyStore, script: Script, fake_clock: FakeClock
) -> None:
    script.add("submit", Delay(5))
    appending = asyncio.create_task(faulty.append("account-1", events(2), expected_version=0))
    await fake_clock.advance(4.9)
    assert await _stored(store) == 0
    await fake_clock.advance(0.1)
    assert await appending == Appended(2, 2)
    assert await _stored(store) == 2


async def test_a_delayed_answer_belongs_to_an_append_that_is_there(
    store: Store, faulty: FaultyStore, script: Script, fake_clock: FakeClock
) -> None:
    script.add("submit", DelayAnswer(5))
    appending = asyncio.create_task(faulty.append("account-1", events(2), expected_version=0))
    await fake_clock.advance(4.9)
    assert await _stored(store) == 2
    assert not appending.done()
    await fake_clock.advance(0.1)
    assert await appending == Appended(2, 2)


async def test_a_hanging_append_goes_on_when_it_is_released(
    store: Store, faulty: FaultyStore, script: Script
) -> None:
    script.add("submit", Hang(), HangAnswer())
    first = asyncio.create_task(faulty.append("account-1", events(2), expected_version=0))
    second = asyncio.create_task(faulty.append("account-2", events(1), expected_version=0))
    await settle()
    assert faulty.hanging == 2
    assert await store.versions(["account-1", "account-2"]) == [0, 1]
    faulty.release("versions")
    await settle()
    assert faulty.hanging == 2
    faulty.release()
    assert await first == Appended(2, 3)
    assert await second == Appended(1, 1)
    assert faulty.hanging == 0


async def test_a_late_append_lands_before_its_repeat(
    store: Store, faulty: FaultyStore, script: Script
) -> None:
    script.add("submit", Late())
    new = events(2)
    with pytest.raises(StoreUnavailableError):
        await faulty.append("account-1", new, expected_version=0)
    await fill(faulty, "account-2", 1)
    assert (await _stored(store), faulty.late) == (1, 1)
    assert await faulty.append("account-1", new, expected_version=0) == Appended(2, 3)
    assert (await _stored(store), faulty.late) == (3, 0)


async def test_a_late_append_lands_before_a_stranger_that_did_not_wait_for_it(
    store: Store, faulty: FaultyStore, script: Script
) -> None:
    """A reader that found nothing took that for a proof."""
    script.add("submit", Late())
    with pytest.raises(StoreUnavailableError):
        await faulty.append("account-1", events(2), expected_version=0)
    assert await faulty.versions(["account-1"]) == [0]
    with pytest.raises(VersionConflictError):
        await faulty.append("account-1", events(1), expected_version=0)
    assert await _stored(store) == 2


async def test_a_late_append_may_land_behind_its_repeat_or_at_the_end(
    store: Store, faulty: FaultyStore, script: Script
) -> None:
    script.add("submit", Late(2))
    new = events(2)
    with pytest.raises(StoreUnavailableError):
        await faulty.append("account-1", new, expected_version=0)
    await faulty.append("account-1", new, expected_version=0)
    assert faulty.late == 1
    await faulty.land()
    assert faulty.late == 0
    assert await _stored(store) == 2


async def test_a_late_append_lands_although_its_caller_has_gone(
    store: Store, faulty: FaultyStore, script: Script
) -> None:
    script.add("submit", Hang())
    appending = asyncio.create_task(faulty.append("account-1", events(1), expected_version=0))
    await settle()
    appending.cancel()
    await settle()
    assert appending.cancelled()
    faulty.release()
    await settle()
    assert await _stored(store) == 1


@pytest.mark.parametrize("fault", [Refuse(), Lose(), LoseAnswer(), Late()])
async def test_reads_and_questions_fail(faulty: FaultyStore, script: Script, fault: Fault) -> None:
    await fill(faulty, "account-1", 1)
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "versions": lambda: faulty.versions(["account-1"]),
        "read_stream": lambda: faulty.read_stream("account-1"),
        "replay": lambda: faulty.replay("account-1"),
        "read_all": faulty.read_all,
        "head": faulty.head,
        "wait": lambda: faulty.wait(after=0),
        "streams": faulty.streams,
        "load_snapshot": lambda: faulty.load_snapshot("account-1"),
        "load_checkpoint": lambda: faulty.load_checkpoint("balances"),
        "list_checkpoints": faulty.list_checkpoints,
        "load_view": lambda: faulty.load_view("balances", "ada"),
        "load_views": lambda: faulty.load_views("balances", ["ada"]),
        "list_views": lambda: faulty.list_views("balances"),
    }
    for method, call in calls.items():
        await call()
        script.add(method, fault)
        with pytest.raises(StoreUnavailableError):
            await call()
        await call()


async def test_an_answer_that_was_held_up_tells_what_was_true_then(
    store: Store, faulty: FaultyStore, script: Script, fake_clock: FakeClock
) -> None:
    script.add("versions", HangAnswer(), DelayAnswer(3), Hang(), Delay(4))
    asked = [asyncio.create_task(faulty.versions(["account-1"])) for _ in range(4)]
    await settle()
    assert faulty.hanging == 2
    await fill(store, "account-1", 1)
    faulty.release()
    await fake_clock.advance(4)
    assert [await one for one in asked] == [[0], [0], [1], [1]]


async def test_a_cancelled_call_hangs_no_longer(faulty: FaultyStore, script: Script) -> None:
    script.add("head", Hang())
    asking = asyncio.create_task(faulty.head())
    await settle()
    asking.cancel()
    await settle()
    assert faulty.hanging == 0


async def test_a_late_snapshot_lands_before_the_next_one(
    store: Store, faulty: FaultyStore, script: Script
) -> None:
    script.add("save_snapshot", Late(), LoseAnswer())
    with pytest.raises(StoreUnavailableError):
        await faulty.save_snapshot(_snapshot(5), keep=2)
    assert await store.load_snapshot("account-1") is None
    with pytest.raises(StoreUnavailableError):
        await faulty.save_snapshot(_snapshot(3), keep=2)
    assert await store.load_snapshot("account-1") == _snapshot(5)
    await faulty.delete_snapshots("account-1")
    assert await store.load_snapshot("account-1") is None


async def test_a_late_checkpoint_lands_before_the_next_one(
    store: Store, faulty: FaultyStore, script: Script
) -> None:
    script.add("save_checkpoint", Late())
    first = Checkpoint(name="balances", position=1, event_id="a", epoch=1)
    with pytest.raises(StoreUnavailableError):
        await faulty.save_checkpoint(first, previous=None)
    assert not await faulty.save_checkpoint(first, previous=None)
    assert await store.load_checkpoint("balances") == first
    await faulty.reset_checkpoint("balances")
    await faulty.remove_checkpoint("balances")
    assert await store.load_checkpoint("balances") is None


async def test_closing_ends_what_hangs(store: Store, faulty: FaultyStore, script: Script) -> None:
    script.add("submit", Hang(), Late())
    script.add("versions", Hang())
    waiter = Waiter()
    faulty.submit("account-1", events(1), 0, waiter)
    faulty.submit("account-2", events(1), 0, Waiter())
    asking = asyncio.create_task(faulty.versions(["account-1"]))
    await settle()
    await faulty.close()
    await settle()
    assert [type(outcome) for outcome in waiter.outcomes] == [StoreClosedError]
    with pytest.raises(StoreClosedError):
        await asking
    with pytest.raises(StoreClosedError):
        await faulty.append("account-1", events(1), expected_version=0)
    with pytest.raises(StoreClosedError):
        await store.head()
    assert faulty.late == 0


async def test_a_script_knows_what_can_fail(script: Script) -> None:
    with pytest.raises(ValueError, match="no method 'append'"):
        script.add("append", Refuse())
    script.add("head", None, Refuse())
    assert [script("head") for _ in range(3)] == [None, Refuse(), None]
    ports = {name for name in dir(Store) if not name.startswith("_")}
    assert ports - METHODS == {"append", "capabilities", "close", "url"}


async def test_the_same_seed_gives_the_same_faults() -> None:
    def drawn(seed: int) -> list[Fault | None]:
        faults = RandomFaults(seed, rate=0.5)
        return [faults("submit") for _ in range(100)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert 20 < sum(fault is not None for fault in drawn(1)) < 80


async def test_random_faults_keep_to_the_methods_named() -> None:
    faults = RandomFaults(1, rate=1.0, methods=["versions"])
    assert faults("submit") is None
    assert faults("versions") is not None
    faults.rate = 0
    assert faults("versions") is None


async def test_under_random_faults_whoever_repeats_until_answered_stores_everything_once(
    store: Store, fake_clock: FakeClock
) -> None:
    for seed in range(10):
        faulty = FaultyStore(store, RandomFaults(seed, rate=0.6, methods=["submit"]), fake_clock)
        for version in range(10):
            repeating = asyncio.create_task(_append_until_answered(faulty, f"account-{seed}", version))
            while not repeating.done():
                await fake_clock.advance(0.1)
            assert (await repeating).version == version + 1
        await faulty.land()
    assert await _stored(store) == 100


async def _append_until_answered(store: Store, stream: str, version: int) -> Appended:
    new = events(1)
    while True:
        try:
            return await store.append(stream, new, expected_version=version)
        except StoreUnavailableError:
            pass


def _snapshot(version: int) -> StoredSnapshot:
    return StoredSnapshot(
        stream="account-1",
        version=version,
        position=version,
        event_id=f"event {version}",
        schema=1,
        fingerprint="",
        data=b"",
        recorded_at=0,
    )
