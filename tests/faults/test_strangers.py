"""Other programs on the same database, which leave transactions open or roll them back: who is held up hears of whom.

Readers are never held up by a transaction that writes. Writers are, where it holds what they need: they say so in time,
and go on by themselves when it has ended.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any, TypeAlias

import asyncpg
import pytest
from pymongo.client_session import ClientSession
from pymongo.collection import Collection

from rehydrate import OutcomeUnknownError, Runtime, StoreUnavailableError
from rehydrate.testing.servers.databases import mongo_client
from tests.bank import Account, Deposit, account, app
from tests.faults.campaign import Campaign, verify, whole_log
from tests.faults.commands import endless_commands
from tests.faults.reader import reader_of
from tests.faults.real_servers import impatient
from tests.faults.workers import workers_on

INSERT_NEXT = """
    INSERT INTO rehydrate.events (position, stream, version, id, type, data, metadata, recorded_at, first)
    SELECT last + 1, 'stranger-' || last, 1, 'x', 'T', '', '', 0, last + 1
    FROM (SELECT coalesce(max(position), 0) AS last FROM rehydrate.events) AS log
"""
PATIENCE = 20.0
"""Seconds within which whoever is not held up is answered."""

Stranger: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture
def server_url(request: pytest.FixtureRequest, kind: str) -> str:
    return impatient(request.getfixturevalue(f"{kind}_url"))


@pytest.fixture
async def bank(server_url: str) -> AsyncIterator[Runtime]:
    async with app.open(server_url) as bank:
        for id in ("ada", "bob"):
            await deposit(bank, id, f"first of {id}")
        yield bank


@pytest.fixture
async def stranger(postgres_url: str, bank: Runtime) -> AsyncIterator[Stranger]:
    """Somebody with a session of his own, which he gives a name."""
    stranger = await asyncpg.connect(postgres_url, server_settings={"application_name": "an import"})
    yield stranger
    await stranger.close()


async def deposit(bank: Runtime, id: str, command_id: str) -> int:
    """Deposit 1, and say at which version."""
    return (await bank.dispatch(account, id, Deposit(1), command_id=command_id)).version


async def deposit_until_answered(bank: Runtime, id: str, command_id: str) -> int:
    """The same, and again whenever the store is not available, as a user does it."""
    while True:
        try:
            return await deposit(bank, id, command_id)
        except StoreUnavailableError as unavailable:
            if not unavailable.retryable:
                raise


async def reads_go_on(bank: Runtime, *, events: int) -> None:
    """Of accounts that are loaded, of those that are not, and of the log."""
    async with asyncio.timeout(PATIENCE):
        assert await bank.state(account, "bob") == Account(1, 1)
        assert await bank.state(account, "nobody") == Account()
        assert len(await whole_log(bank.store)) == events


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT count(*) FROM rehydrate.events",
        "SELECT * FROM rehydrate.events FOR UPDATE",
        "LOCK TABLE rehydrate.events IN ROW EXCLUSIVE MODE",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM rehydrate.events",
    ],
)
@pytest.mark.parametrize("kind", ["postgres"])
async def test_a_transaction_left_open_that_only_read_holds_nobody_up(
    bank: Runtime, stranger: Stranger, statement: str
) -> None:
    """Idle in transaction, for whatever reason, also with a lock on every row that there is."""
    await stranger.execute(f"BEGIN; {statement}")
    async with asyncio.timeout(PATIENCE):
        assert [await deposit(bank, "ada", f"{n}") for n in range(5)] == [2, 3, 4, 5, 6]
    await reads_go_on(bank, events=7)
    await stranger.execute("COMMIT")


async def _is_held_up_by(who: str, bank: Runtime) -> bool:
    """Whether the error names them: on a busy machine a tenth of a second may be too short for finding out."""
    with pytest.raises(StoreUnavailableError) as no:
        await deposit(bank, "ada", "held up")
    assert (no.value.stored, no.value.retryable) == (False, True)
    if who in str(no.value):
        return True
    assert "somebody holds a lock for too long" in str(no.value)
    return False


@pytest.mark.parametrize("postgres_version", [16, 18])
@pytest.mark.parametrize("ends", ["COMMIT", "ROLLBACK"])
@pytest.mark.parametrize(
    "statement", ["LOCK TABLE rehydrate.events IN SHARE MODE", INSERT_NEXT], ids=["table", "row"]
)
@pytest.mark.parametrize("kind", ["postgres"])
async def test_a_transaction_left_open_that_holds_what_an_append_needs_is_named_and_when_it_ends_the_service_resumes(
    bank: Runtime, stranger: Stranger, statement: str, ends: str
) -> None:
    await stranger.execute(f"BEGIN; {statement}")
    async with asyncio.timeout(PATIENCE):
        for _ in range(2):
            while not await _is_held_up_by(f"{stranger.get_server_pid()} (an import)", bank):
                pass
    await reads_go_on(bank, events=2)
    await stranger.execute(ends)
    assert await deposit(bank, "ada", "held up") == 2
    log = await whole_log(bank.store)
    is_there = statement == INSERT_NEXT and ends == "COMMIT"
    assert [event.stream for event in log[2:]] == [*["stranger-2"] * is_there, account.stream("ada")]


@pytest.mark.parametrize("kind", ["postgres"])
async def test_a_table_that_is_locked_against_everybody_is_not_available_until_it_is_free(
    bank: Runtime, stranger: Stranger
) -> None:
    """As a change of the schema does it, or a restore."""
    await stranger.execute("BEGIN; LOCK TABLE rehydrate.events IN ACCESS EXCLUSIVE MODE")
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(StoreUnavailableError) as unavailable:
            await deposit(bank, "ada", "held up")
        assert (unavailable.value.stored, unavailable.value.retryable) == (False, True)
        with pytest.raises(StoreUnavailableError) as unavailable:
            await bank.state(account, "nobody")
        assert unavailable.value.retryable
    await stranger.execute("ROLLBACK")
    assert await deposit(bank, "ada", "held up") == 2
    await reads_go_on(bank, events=3)


# ---- MongoDB


@pytest.fixture
def session(mongodb_url: str, bank: Runtime) -> Iterator[tuple[Collection[dict[str, Any]], ClientSession]]:
    """The collection of events, and a transaction of somebody else."""
    with mongo_client(mongodb_url) as client, client.start_session() as session:
        session.start_transaction()
        yield client.get_default_database()["events"], session


Events = Collection[dict[str, Any]]


@pytest.mark.parametrize("kind", ["mongodb"])
async def test_a_transaction_left_open_that_only_read_holds_nobody_up_on_mongodb(
    bank: Runtime, session: tuple[Events, ClientSession]
) -> None:
    events, transaction = session
    assert events.count_documents({}, session=transaction) == 2
    async with asyncio.timeout(PATIENCE):
        assert [await deposit(bank, "ada", f"{n}") for n in range(5)] == [2, 3, 4, 5, 6]
    await reads_go_on(bank, events=7)


@pytest.mark.parametrize("ends", ["commit_transaction", "abort_transaction"])
@pytest.mark.parametrize("kind", ["mongodb"])
async def test_a_transaction_left_open_in_the_place_of_the_next_append_holds_it_up_until_it_ends(
    bank: Runtime, session: tuple[Events, ClientSession], ends: str
) -> None:
    events, transaction = session
    events.insert_one(
        {"_id": 3, "stream": "stranger-1", "version": 1, "count": 1, "recorded_at": 0, "events": [EVENT]},
        session=transaction,
    )
    held_up = asyncio.create_task(deposit_until_answered(bank, "ada", "held up"))
    await reads_go_on(bank, events=2)
    with pytest.raises((StoreUnavailableError, OutcomeUnknownError)):
        await bank.dispatch(account, "carl", Deposit(1), timeout=1, command_id="of carl")
    await reads_go_on(bank, events=2)
    getattr(transaction, ends)()
    assert await held_up == 2
    assert await deposit_until_answered(bank, "carl", "of carl") == 1
    log = await whole_log(bank.store)
    streams = ["stranger-1"] * (ends == "commit_transaction")
    streams += [account.stream("ada"), account.stream("carl")]
    assert sorted(event.stream for event in log[2:]) == sorted(streams)


EVENT = {"id": "x", "type": "T", "data": b"", "metadata": b""}


# ---- appends of strangers that are rolled back under load


@pytest.mark.parametrize("kind", ["postgres"])
async def test_appends_of_a_stranger_that_are_rolled_back_leave_no_hole_and_stall_no_reader(
    server_url: str, postgres_url: str, chance: random.Random
) -> None:
    """He takes the next position again and again, so that everybody else waits for him, and gives it back."""
    async with workers_on(server_url) as workers, reader_of(server_url) as reader:
        campaign = Campaign(workers, at_a_time=16, with_cause=True)
        stranger: Stranger = await asyncpg.connect(postgres_url)

        async def takes_and_gives_back() -> None:
            rolled_back = 0
            while rolled_back < 40:
                await stranger.execute("BEGIN")
                try:
                    await stranger.execute(INSERT_NEXT)
                except asyncpg.UniqueViolationError:
                    pass  # A command was faster.
                else:
                    rolled_back += 1
                    # The readers go on to the end of what is there, and the writers wait.
                    await reader.looks_again()
                await stranger.execute("ROLLBACK")
                await campaign.get_on(1)

        await campaign.run_through(takes_and_gives_back(), endless_commands(20, chance), processes=2)
        await stranger.close()
        await verify(server_url, campaign, reader)
        assert reader.refused == 0
