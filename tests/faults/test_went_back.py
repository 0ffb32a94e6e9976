"""A log that goes back under the processes that have it open: restored from an older copy, or lost in a fail-over.

Beside it lie newer snapshots and checkpoints, which nobody restored. What went back is reported, and not papered over.
"""

from __future__ import annotations

import asyncio
import random
from asyncio import to_thread
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

import pytest

from rehydrate import App, CorruptStoreError, Runtime, Snapshot, StoreUnavailableError, open_store
from rehydrate.cli.run.progress import take_run
from rehydrate.runtime.window import metadata_in
from rehydrate.store.port import Store
from rehydrate.testing.servers import MongoServer, PostgresServer
from rehydrate.testing.servers.databases import ask
from tests.bank import Account, Deposit, bank_account
from tests.faults.campaign import Campaign, verify, whole_log
from tests.faults.commands import endless_commands
from tests.faults.real_servers import Server, impatient
from tests.faults.worker import Stored
from tests.faults.workers import workers_on

KEPT, LOST = 12, 8
"""How many events there are that stay, and that are lost."""

account = bank_account(snapshot=Snapshot(every=5))
app = App(aggregates=[account])
ADA = account.stream("ada")


class World(Protocol):
    """A server that can go back."""

    url: str

    async def remember(self) -> None:
        """What is there now is what will be there again."""
        ...

    async def go_back(self) -> None: ...


class RestoredCopy:
    """Somebody restores a backup, because something else went wrong."""

    def __init__(self, server: Server) -> None:
        self.url = impatient(server.fresh_url())
        self._server = server
        self._put_back: Callable[[], None] = lambda: None

    async def remember(self) -> None:
        await to_thread(self._server.stop)
        match self._server:
            case PostgresServer() as postgres:
                data = await to_thread(postgres.save_data)
                self._put_back = lambda: postgres.restore_data(data)
            case MongoServer() as mongodb:
                copies = await to_thread(mongodb.save_data)
                self._put_back = lambda: mongodb.restore_data(copies)
        await to_thread(self._server.start)

    async def go_back(self) -> None:
        await to_thread(self._server.stop)
        await to_thread(self._put_back)
        await to_thread(self._server.start)


class LaggingStandby:
    """The primary is lost, and the standby that takes its place had not got everything."""

    def __init__(self, primary: PostgresServer) -> None:
        self._primary = primary
        self._database = primary.fresh_url()
        self._standby = primary.start_standby()
        parts = urlsplit(self._database)
        user, _, host = parts.netloc.rpartition("@")
        both = parts._replace(netloc=f"{user}@{host},127.0.0.1:{self._standby.port}")
        self.url = impatient(urlunsplit(both))

    async def remember(self) -> None:
        end = await to_thread(ask, self._primary.url, "SELECT pg_current_wal_lsn()::text")
        await self._says(f"SELECT pg_last_wal_replay_lsn() >= '{end}'")
        await to_thread(
            ask, self._standby.url, "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()"
        )
        await self._says("SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)")

    async def _says(self, question: str) -> None:
        async with asyncio.timeout(30):
            while not await to_thread(ask, self._standby.url, question):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.01)

    async def go_back(self) -> None:
        await to_thread(self._primary.kill)
        await to_thread(self._standby.promote)


POSTGRES = ["postgres, a copy", "postgres, a standby"]
MONGODB = "mongodb, a copy"
_SLOW = pytest.mark.slow
"""MongoDB takes more than a second for each start."""


@pytest.fixture(params=[*POSTGRES, MONGODB])
def world(
    request: pytest.FixtureRequest,
    start_postgres: Callable[..., PostgresServer],
    start_mongodb: Callable[..., MongoServer],
) -> World:
    match request.param:
        case "postgres, a copy":
            return RestoredCopy(start_postgres())
        case "postgres, a standby":
            return LaggingStandby(start_postgres())
        case _:
            return RestoredCopy(start_mongodb())


@pytest.fixture
def beside(tmp_path: Path) -> str:
    """Where the snapshots are."""
    return f"sqlite:///{tmp_path}/snapshots.db"


@pytest.fixture
async def one(world: World, beside: str) -> AsyncIterator[Runtime]:
    async with app.open(world.url, snapshots=beside) as one:
        yield one


@pytest.fixture
async def other(world: World, beside: str) -> AsyncIterator[Runtime]:
    """Another process, so to say, with connections of its own."""
    async with app.open(world.url, snapshots=beside) as other:
        yield other


async def deposit(bank: Runtime, amount: int, command_id: str) -> int:
    """Deposit and say at which version; again, while the store is not available."""
    while True:
        try:
            return (await bank.dispatch(account, "ada", Deposit(amount), command_id=command_id)).version
        except StoreUnavailableError:
            await asyncio.sleep(0.01)


async def state(bank: Runtime) -> Account:
    while True:
        try:
            return await bank.state(account, "ada")
        except StoreUnavailableError:
            await asyncio.sleep(0.01)


async def lose_events(world: World, one: Runtime, other: Runtime, beside: str) -> None:
    """Both know all of them, there is a snapshot of some that are lost, and then they are gone."""
    for n in range(KEPT):
        await deposit(one, 1, f"kept {n}")
    await world.remember()
    for n in range(LOST):
        await deposit(one, 10, f"lost {n}")
    assert await state(other) == Account(KEPT + 10 * LOST, KEPT + LOST)
    snapshots = await open_store(beside)
    async with asyncio.timeout(30):
        while await _snapshot_version(snapshots) <= KEPT:  # noqa: ASYNC110 - it is saved when it is saved
            await asyncio.sleep(0.01)
    await snapshots.close()
    await world.go_back()


async def _snapshot_version(snapshots: Store) -> int:
    snapshot = await snapshots.load_snapshot(ADA)
    return 0 if snapshot is None else snapshot.version


async def ids_of(store: Store) -> list[str]:
    return [metadata_in(event).command_id for event in await whole_log(store)]


def reports(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What actors have reported."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelname == "ERROR" and record.name.startswith("rehydrate.runtime")
    ]


async def test_a_log_that_went_back_is_reported_and_the_state_is_that_of_the_events_that_are_there(
    world: World, one: Runtime, other: Runtime, beside: str, caplog: pytest.LogCaptureFixture
) -> None:
    await lose_events(world, one, other, beside)
    assert await deposit(one, 1, "new") == KEPT + 1
    assert [f"{ADA}: the store went back" in report for report in reports(caplog)] == [True]
    assert await state(other) == Account(KEPT + 1, KEPT + 1)
    assert [f"{ADA}: the store went back" in report for report in reports(caplog)] == [True, True]
    assert await state(one) == Account(KEPT + 1, KEPT + 1)

    # Whoever comes later finds a snapshot of events that are no more, and does without.
    caplog.clear()
    async with app.open(world.url, snapshots=beside) as later:
        assert await state(later) == Account(KEPT + 1, KEPT + 1)
    assert [record.getMessage() for record in caplog.records if "snapshot" in record.getMessage()]

    # What was lost is stored again when it is repeated, once, whoever repeats it.
    for n in range(LOST):
        assert await deposit(one, 10, f"lost {n}") == KEPT + 2 + n
    for n in range(LOST):
        assert await deposit(other, 10, f"lost {n}") == KEPT + 2 + n
    for n in range(KEPT):
        assert await deposit(other, 1, f"kept {n}") == n + 1
    kept, lost = [f"kept {n}" for n in range(KEPT)], [f"lost {n}" for n in range(LOST)]
    assert await ids_of(one.store) == [*kept, "new", *lost]
    for bank in (one, other):
        assert await state(bank) == Account(KEPT + 1 + 10 * LOST, KEPT + 1 + LOST)


@pytest.mark.parametrize(
    ("world", "others"),
    [
        pytest.param(
            kind, others, id=f"{kind}, {name}", marks=_SLOW if kind == MONGODB and name != "as many" else ()
        )
        for kind in [*POSTGRES, MONGODB]
        for others, name in ((LOST - 3, "fewer"), (LOST, "as many"), (LOST + 3, "more"))
    ],
    indirect=["world"],
)
async def test_a_process_that_slept_while_others_wrote_another_history_does_not_go_on_with_the_old_one(
    world: World, one: Runtime, other: Runtime, beside: str, others: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It knows events that are no more, and at their versions there are others, fewer or more of them."""
    await lose_events(world, one, other, beside)
    for n in range(others):
        assert await deposit(other, 2, f"other {n}") == KEPT + 1 + n
    assert len(reports(caplog)) == 1
    assert await state(one) == Account(KEPT + 2 * others, KEPT + others)
    assert [f"{ADA}: the store went back" in report for report in reports(caplog)] == [True, True]
    assert await deposit(one, 1, "new") == KEPT + others + 1
    assert await state(one) == await state(other) == Account(KEPT + 2 * others + 1, KEPT + others + 1)


@pytest.mark.parametrize("world", [*POSTGRES, pytest.param(MONGODB, marks=_SLOW)], indirect=True)
async def test_a_consumer_that_was_ahead_of_the_log_is_stopped_by_name_and_not_set_back(
    world: World, one: Runtime, other: Runtime, beside: str
) -> None:
    """Its checkpoint was not restored, and names an event that is not there, and never will be."""
    for n in range(KEPT):
        await deposit(one, 1, f"kept {n}")
    await world.remember()
    for n in range(LOST):
        await deposit(one, 10, f"lost {n}")
    run = await take_run(one.store, "import")
    await run.save([], [])
    ahead = await one.store.load_checkpoint("run:import")
    assert ahead is not None
    assert ahead.position == KEPT + LOST
    await world.go_back()

    await state(one)
    assert await one.store.save_checkpoint(ahead, previous=None)
    for _ in range(2):
        with pytest.raises(CorruptStoreError, match=f"does not hold its event at position {KEPT + LOST}"):
            await take_run(one.store, "import")
        # The same, when another event stands there.
        for n in range(LOST + 1):
            await deposit(other, 1, f"other {n}")
    there = await one.store.load_checkpoint("run:import")
    assert there is not None
    assert (there.position, there.event_id) == (ahead.position, ahead.event_id)


@pytest.mark.parametrize("world", [*POSTGRES, pytest.param(MONGODB, marks=_SLOW)], indirect=True)
async def test_processes_go_on_when_the_log_goes_back_under_load_and_repeats_store_again_what_was_lost(
    world: World, chance: random.Random
) -> None:
    deposits = (order for order in endless_commands(20, chance) if order.amount > 0)
    async with workers_on(world.url) as workers:
        campaign = Campaign(workers, at_a_time=16)

        async def go_back() -> None:
            await campaign.get_on(200)
            await world.remember()
            await campaign.get_on(200)
            await world.go_back()
            await campaign.get_on(200)

        await campaign.run_through(go_back(), deposits, processes=2)

    async with app.open(world.url) as bank:
        before = await ids_of(bank.store)
        lost = campaign.stored.keys() - set(before)
        assert lost, "nothing was lost: then what was tested?"
        for id, order in campaign.commands.items():
            done = await bank.dispatch(account, order.account, order.command, command_id=id)
            campaign.stored[id] = Stored(id, done.version, done.position)
        after = await ids_of(bank.store)
        assert after[: len(before)] == before
        assert set(after[len(before) :]) == lost
    await verify(world.url, campaign)
