"""How a group ends in which something goes wrong: by somebody else, by a value, by a mistake of this program."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import asyncpg
import pytest

from rehydrate.errors import StoreError, StoreUnavailableError
from rehydrate.store.port import Appended, NewEvent, Store
from rehydrate.store.postgres.writer import Writer
from rehydrate.store.url import open_store
from rehydrate.testing.clock import settle
from rehydrate.testing.conformance.material import event, events, fill, sound_log

WAITS = """
    SELECT EXISTS (
        SELECT FROM pg_stat_activity
        WHERE application_name = 'rehydrate' AND wait_event_type = 'Lock' AND datname = current_database()
    )
"""


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Store]:
    store = await open_store(postgres_url)
    yield store
    await store.close()


@pytest.mark.parametrize("before", [0, 3], ids=["the locked way", "the way without a lock"])
async def test_whoever_loses_a_deadlock_is_stored_in_a_second_attempt(
    postgres_url: str, store: Store, stranger: "asyncpg.Connection[asyncpg.Record]", before: int
) -> None:
    """As two writers can where an index was built anew, so that each finds the other's row in another order."""
    await fill(store, "account-1", before)
    watcher = await asyncpg.connect(postgres_url)
    await stranger.execute("SET deadlock_timeout = '1min'")  # So that it is the other one who finds it.
    transaction = stranger.transaction()
    await transaction.start()
    insert = "INSERT INTO rehydrate.events VALUES ($1, $2, 1, $2, 'T', '', '', 0, $1)"
    await stranger.execute(insert, before + 2, "account-8")
    new = events(2)
    appending = asyncio.create_task(store.append("account-1", new, expected_version=before))
    while not await watcher.fetchval(WAITS):  # noqa: ASYNC110 - the database has no event for it
        await asyncio.sleep(0)
    await stranger.execute(insert, before + 1, "account-9")
    await transaction.rollback()
    assert await appending == Appended(before + 2, before + 2)
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    while not await watcher.fetchval(deadlocks):  # noqa: ASYNC110 - the server counts when it has time
        await asyncio.sleep(0)
    await watcher.close()


async def test_a_stream_that_another_has_begun_meanwhile_is_appended_to(
    postgres_url: str, store: Store
) -> None:
    """Its first event stands where the writer, who takes no lock, still wants to be."""
    await fill(store, "account-1", 3)
    other = await open_store(postgres_url)
    end = await other.append("account-2", events(2), expected_version=0)
    await fill(store, "account-2", 1)
    assert (end.position, await store.versions(["account-2"])) == (5, [3])
    assert len(await sound_log(store)) == 6
    await other.close()


async def test_a_mistake_after_the_server_has_answered_leaves_it_unknown_whether_it_was_stored(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is known to be stored nowhere is what could not even be sent."""
    store = await open_store(postgres_url)
    await fill(store, "account-1", 1)
    new = [event()]

    def mistaken(*_: object) -> None:
        raise ArithmeticError("a mistake of this program")

    with monkeypatch.context() as patched:
        patched.setattr(Writer, "_learn", mistaken)
        with pytest.raises(StoreUnavailableError, match="a mistake of this program") as unknown:
            await store.append("account-1", new, expected_version=1)
    assert unknown.value.stored is None
    assert await store.append("account-1", new, expected_version=1) == Appended(2, 2)
    assert len(await sound_log(store)) == 2
    await store.close()


async def test_whoever_ends_the_task_that_writes_ends_one_group_and_no_other(
    store: Store, stranger: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await fill(store, "account-1", 1)
    transaction = stranger.transaction()
    await transaction.start()
    await stranger.execute("LOCK TABLE rehydrate.events")
    first = asyncio.create_task(store.append("account-1", events(1), expected_version=1))
    await settle()
    second = asyncio.create_task(store.append("account-2", events(1), expected_version=0))
    await settle()
    vars(store)["_writer"]._task.cancel()
    with pytest.raises(StoreUnavailableError) as unknown:
        await first
    assert unknown.value.stored is None
    await transaction.rollback()
    done = await second
    assert (done.version, len(await sound_log(store))) == (1, done.position)


@pytest.mark.parametrize("data", ["no base64!", [object()]], ids=["by the server", "before it is sent"])
@pytest.mark.parametrize("together", [True, False])
async def test_a_value_that_is_refused_meets_its_owner_only(
    store: Store, data: object, together: bool
) -> None:
    """As of a caller who does not mind the types."""
    await fill(store, "account-0", 2)
    bad = NewEvent("bad", "Deposited", cast("bytes", data))
    appends = [("account-1", event("1")), ("account-2", bad), ("account-3", event("3"))]
    calls = [store.append(stream, [new], expected_version=0) for stream, new in appends]
    if together:
        first, refusal, third = await asyncio.gather(*calls, return_exceptions=True)
    else:
        first, refusal, third = [(await asyncio.gather(call, return_exceptions=True))[0] for call in calls]
    assert (first, third) == (Appended(1, 3), Appended(1, 4))
    assert isinstance(refusal, StoreError)
    assert not isinstance(refusal, StoreUnavailableError)
    assert len(await sound_log(store)) == 4
