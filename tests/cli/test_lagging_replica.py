"""A replica that lags behind answers for the log, and nobody takes it for another log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from rehydrate import open_store
from rehydrate.cli.moving.consumers import ConsumerCopy
from rehydrate.cli.moving.copying import EventCopy
from rehydrate.cli.run.progress import take_run
from rehydrate.cli.verification import Verification
from rehydrate.errors import CorruptStoreError, StoreUnavailableError
from rehydrate.store.port import PAGE_SIZE, Checkpoint, LogFilter, LogPage, Store, StoredEvent
from rehydrate.testing.conformance.material import log_events
from rehydrate.testing.servers import PostgresServer
from tests.cli.conftest import NewUrl
from tests.cli.moving import by_command, event_of, opened, place
from tests.stand_ins import Exchangeable


class Seen(Exchangeable):
    """A store whose replica goes on once it has shown that it has nothing new."""

    def __init__(self, behind: Store, go_on: Callable[[], Awaitable[object]]) -> None:
        super().__init__(behind)
        self._go_on = go_on
        self.lagged = 0
        """How often the log was asked for and there was nothing."""

    async def read_all(
        self, *, after: int = 0, limit: int = PAGE_SIZE, where: LogFilter | None = None
    ) -> LogPage:
        page = await self.behind.read_all(after=after, limit=limit, where=where)
        if not page.events:
            self.lagged += 1
            await self._go_on()
        return page


class Lag:
    """A store with a replica that shows none of its newest three events until it is let go on."""

    def __init__(self, store: Store, replica: asyncpg.Connection) -> None:
        self.store = store
        self._replica = replica

    async def begin(self, stream: str = "late-1") -> StoredEvent:
        """The last event that the replica does not show."""
        await self._replica.execute("SELECT pg_wal_replay_pause()")
        while await self._replica.fetchval("SELECT pg_get_wal_replay_pause_state()") != "paused":  # noqa: ASYNC110
            await asyncio.sleep(0)
        await self.store.append(stream, by_command(stream, 3), expected_version=0)
        page = await self.store.read_stream(stream, after=2)
        assert (await self.store.read_all()).position < page.events[0].position
        return page.events[0]

    async def end(self) -> None:
        """Let it go on, until it shows all that there is."""
        await self._replica.execute("SELECT pg_wal_replay_resume()")
        await self.shows((await self.store.head()).position)

    async def shows(self, position: int) -> None:
        while (await self.store.read_all()).position < position:  # noqa: ASYNC110 - another server
            await asyncio.sleep(0)


@pytest.fixture
async def lag(start_postgres: Callable[..., PostgresServer]) -> AsyncIterator[Lag]:
    primary = start_postgres()
    before = await open_store(primary.url)
    await before.append("early-1", by_command("early", 2), expected_version=0)
    await before.close()
    standby = await asyncio.to_thread(primary.start_standby)
    port = standby.url.partition("@")[2].partition("/")[0].partition(":")[2]
    store = await open_store(f"{primary.url}?replica=127.0.0.1:{port}")
    replica = await asyncpg.connect(standby.url)
    lag = Lag(store, replica)
    try:
        await lag.shows(2)
        yield lag
    finally:
        await replica.close()
        await store.close()
        await asyncio.to_thread(standby.kill)


async def test_a_named_run_begins_at_once_and_goes_on_when_the_replica_shows_where_it_was_begun(
    lag: Lag,
) -> None:
    event = await lag.begin()
    begun = await take_run(lag.store, "nightly")
    assert (begun.caused_at, begun.is_new) == (event.position, True)
    seen = Seen(lag.store, lag.end)
    again = await take_run(seen.as_store, "nightly")
    assert seen.lagged >= 1
    assert (again.caused_at, again.is_new) == (event.position, False)


async def test_a_consumer_is_copied_when_the_replica_shows_its_event(lag: Lag, new_url: NewUrl) -> None:
    async with opened(new_url("memory")) as (destination,):
        events = EventCopy(lag.store, destination)
        await events.begin()
        await events.catch_up()
        event = await lag.begin()
        await place(lag.store, "balances", event, views=[("k", b"v")])
        seen = Seen(lag.store, lag.end)
        consumers = ConsumerCopy(seen.as_store, destination, events.reach)
        await consumers.execute(lambda done, total: None)
        assert seen.lagged >= 1
        assert (consumers.copied, consumers.not_copied) == ({"balances": 1}, [])
        there = await destination.load_checkpoint("balances")
        assert there is not None
        assert (await event_of(destination, there))[2] == event.id
        assert len(await log_events(destination)) == 5


async def test_a_log_that_a_lagging_replica_shows_late_is_not_taken_for_a_shorter_one(
    lag: Lag, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = await lag.begin()
    await place(lag.store, "balances", event)
    seen = Seen(lag.store, lag.end)
    verification = Verification(seen.as_store, None, lambda done, total: None)
    await verification.check()
    assert seen.lagged >= 1
    assert (verification.events, verification.findings) == (5, [])
    await lag.begin("later-1")
    monkeypatch.setattr("rehydrate.cli.asking.PAUSES", (0.0,) * 3)
    with pytest.raises(StoreUnavailableError, match="if a replica answers, it lags behind; try again"):
        await Verification(lag.store, None, lambda done, total: None).check()
    await lag.end()


async def test_a_replica_that_lags_for_long_is_said_to_and_never_taken_for_another_log(
    lag: Lag, new_url: NewUrl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rehydrate.cli.asking.PAUSES", (0.0,) * 3)
    async with opened(new_url("memory")) as (destination,):
        events = EventCopy(lag.store, destination)
        await events.begin()
        await events.catch_up()
        await place(lag.store, "balances", await lag.begin())
        consumers = ConsumerCopy(lag.store, destination, events.reach)
        await take_run(lag.store, "nightly")
        for asked in (consumers.execute(lambda done, total: None), take_run(lag.store, "nightly")):
            with pytest.raises(
                StoreUnavailableError, match="if a replica answers, it lags behind; try again"
            ):
                await asked
        assert await destination.list_checkpoints() == []
        await lag.end()
        await consumers.execute(lambda done, total: None)
        assert consumers.copied == {"balances": 0, "run:nightly": 0}


async def test_a_place_beyond_the_end_of_the_log_is_of_another_log_whatever_a_replica_shows(lag: Lag) -> None:
    event = await lag.begin()
    beyond = Checkpoint(name="run:nightly", position=event.position + 1, event_id="x", epoch=1)
    await lag.store.save_checkpoint(beyond, previous=None)
    with pytest.raises(CorruptStoreError, match="was begun on another log"):
        await take_run(lag.store, "nightly")
