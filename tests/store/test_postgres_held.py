"""A writer that is stopped or killed at each message of its append on the wire holds nobody up."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from rehydrate.errors import StoreUnavailableError
from rehydrate.store.port import Appended, Store, ViewChange
from rehydrate.store.url import open_store
from rehydrate.testing.clock import until
from rehydrate.testing.conformance.checkpoints import checkpoint
from rehydrate.testing.conformance.material import event, events, lot, sound_log, whole_lots
from rehydrate.testing.conformance.worker import AppendOnce
from rehydrate.testing.conformance.writers import Writers
from rehydrate.testing.proxy import Proxy

PATIENCE = 4.0
"""Seconds within which others have to go on: less than the store waits for a lock."""

FIRST = ("Parse", "Describe", "Flush", "Bind", "Execute", "Sync")
"""What the driver sends when a statement is new."""
LATER = ("Bind", "Execute", "Sync")

HAS_INSERTED = """
    SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'an import' AND backend_xid IS NOT NULL)
"""


@pytest.fixture(params=[16, 18])
def postgres_version(request: pytest.FixtureRequest) -> int:
    version: int = request.param
    return version


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Store]:
    store = await open_store(postgres_url)
    yield store
    await store.close()


@pytest.fixture
async def proxy(postgres_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(postgres_url) as proxy:
        yield proxy


@pytest.fixture
async def writers(proxy: Proxy) -> AsyncIterator[Writers]:
    writers = Writers("rehydrate.store.url:open_store", proxy.url)
    yield writers
    await writers.kill_all()


WAYS = {
    "the first append": (0, 3, FIRST),
    "one without a lock": (2, 3, LATER),
    "a single event": (2, 1, ("Sync",)),
}
"""How many appends of the connection came before, of how many events each, and what it sends. The first one goes the
locked way."""
CASES = [
    pytest.param(before, size, message, part, id=f"{name}, {message}, {part}")
    for name, (before, size, messages) in WAYS.items()
    for message in messages
    for part in ((0.0, 0.5) if message == "Bind" else (0.0,))
]


@pytest.mark.parametrize("ends", ["goes on", "is killed, and the rest arrives late"])
@pytest.mark.parametrize(("before", "size", "message", "part"), CASES)
async def test_a_writer_held_in_the_middle_of_its_append_holds_nobody_up(
    store: Store,
    proxy: Proxy,
    writers: Writers,
    before: int,
    size: int,
    message: str,
    part: float,
    ends: str,
) -> None:
    writer = await writers.start()
    for n in range(before):
        await writer.order(_append(f"before {n}", size, expected=size * n))
        await writer.answered(f"before {n}")
    held = proxy.hold(message, where=lambda found: found.connection == 1, part=part)
    there = size * before
    await writer.order(_append("held", size, expected=there))
    await held.reached()
    writer.pause()

    async with asyncio.timeout(PATIENCE):
        landed = message == "Sync"
        # The server has committed what it was told to execute, though nobody has told it that this is all.
        while landed and await store.versions(["account-1"]) == [there]:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0)
        await store.append("account-2", lot("other", 3), expected_version=0)
        if not landed:
            await store.append("account-1", lot("faster", 2), expected_version=there)
        await store.append("account-2", lot("again", 3), expected_version=3)

    if ends == "goes on":
        writer.resume()
        held.release()
        await writer.answered("held")
        assert ("held" in writer.acked) == landed
        await writer.stop()
    else:
        await writer.kill()
        held.release()
    await until(lambda: not proxy.connections)
    lots = whole_lots(await sound_log(store))
    assert ("held" in lots) == landed
    assert writer.acked.items() <= lots.items()


async def test_a_group_that_is_larger_than_what_the_system_takes_at_once_holds_nobody_up(
    store: Store, proxy: Proxy
) -> None:
    """A writer of whose large append only a part has arrived stands still for good."""
    other = await open_store(proxy.url)
    await other.append("account-1", events(1), expected_version=0)
    held = proxy.hold("Bind", where=lambda found: len(found.data) > 1_000_000, part=0.7)
    large = [event(data=bytes(1_000_000)) for _ in range(4)]
    appending = asyncio.create_task(other.append("account-1", large, expected_version=1))
    await held.reached()
    async with asyncio.timeout(PATIENCE):
        done = await store.append("account-1", lot("faster", 2), expected_version=1)
    assert done == Appended(3, 3)
    held.cut()
    with pytest.raises(StoreUnavailableError) as unknown:
        await appending
    assert unknown.value.stored is None
    await other.close()


@pytest.mark.parametrize("message", LATER)
async def test_a_consumer_held_while_it_saves_can_be_taken_over_from(
    store: Store, proxy: Proxy, message: str
) -> None:
    held_up = await open_store(proxy.url)
    first, second = checkpoint("balances", 1), checkpoint("balances", 2)
    assert await held_up.save_checkpoint(first, previous=None)
    held = proxy.hold(message)
    saving = asyncio.create_task(
        held_up.save_checkpoint(second, previous=first, views=[ViewChange("ada", b"2")])
    )
    await held.reached()
    async with asyncio.timeout(PATIENCE):
        there = await store.load_checkpoint("balances")
        while there is None or (message == "Sync" and there == first):
            there = await store.load_checkpoint("balances")
        taken = checkpoint("balances", there.position, epoch=there.epoch + 1)
        assert await store.save_checkpoint(taken, previous=there, views=[ViewChange("bob", b"")])
    held.release()
    # Its answer may be that it was saved, though somebody has taken over since.
    assert await saving == (message == "Sync")
    assert await store.load_checkpoint("balances") == taken
    views = [("ada", b"2"), ("bob", b"")] if message == "Sync" else [("bob", b"")]
    assert await store.list_views("balances") == views
    await held_up.close()


async def test_without_a_commit_of_its_own_a_held_statement_would_hold_others_up_and_is_named(
    proxy: Proxy, postgres_url: str
) -> None:
    """Why a group is a procedure that commits: the same statement, committed by the protocol, blocks a writer."""
    store = await open_store(f"{postgres_url}?lock_timeout=0.5")
    await store.append("account-1", events(2), expected_version=0)
    stranger = await asyncpg.connect(proxy.url, server_settings={"application_name": "an import"})
    watcher = await asyncpg.connect(postgres_url)
    held = proxy.hold("Sync")
    inserting = asyncio.create_task(
        stranger.execute(
            "INSERT INTO rehydrate.events VALUES ($1, 'account-9', 1, 'x', 'T', '', '', 0, $1)", 3
        )
    )
    await held.reached()
    async with asyncio.timeout(PATIENCE):
        while not await watcher.fetchval(HAS_INSERTED):  # noqa: ASYNC110 - the database has no event for it
            await asyncio.sleep(0)
    with pytest.raises(StoreUnavailableError, match=r"process id \d+ \(an import\)") as refused:
        await store.append("account-1", events(1), expected_version=2)
    assert (refused.value.stored, refused.value.retryable) == (False, True)
    assert (await store.head()).position == 2
    held.release()
    await inserting
    done = await store.append("account-1", events(1), expected_version=2)
    assert done.position == 4
    await stranger.close()
    await watcher.close()
    await store.close()


def _append(name: str, size: int, *, expected: int) -> AppendOnce:
    return AppendOnce(
        name=name, stream="account-1", ids=[new.id for new in lot(name, size)], expected_version=expected
    )
