"""The connections that read: never more than were allowed, and nobody waits at a closed store."""

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import asyncpg
import pytest

from rehydrate.errors import StoreClosedError, StoreUnavailableError
from rehydrate.store.url import open_store
from rehydrate.testing.conformance.material import events, fill
from rehydrate.testing.servers import PostgresServer

StartPostgres = Callable[..., PostgresServer]

SESSIONS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE application_name = 'rehydrate' AND datname = current_database() AND pid <> pg_backend_pid()
"""
LOCKED = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'rehydrate.events'::regclass"
CHANGING = "SELECT pid FROM pg_locks WHERE NOT granted AND relation = 'rehydrate.checkpoints'::regclass"


@pytest.fixture
async def stranger(postgres_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """Somebody who uses the database without Rehydrate."""
    stranger = await asyncpg.connect(postgres_url)
    yield stranger
    await stranger.close()


async def test_readers_who_are_cancelled_leave_no_more_sessions_than_the_pool_has(
    postgres_url: str, stranger: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """The server goes on with what it was asked, and knows nothing of a caller who has gone."""
    store = await open_store(f"{postgres_url}?pool=2")
    await fill(store, "account-1", 3)
    watcher = await asyncpg.connect(postgres_url)
    transaction = stranger.transaction()
    await transaction.start()
    await stranger.execute("LOCK TABLE rehydrate.events IN ACCESS EXCLUSIVE MODE")
    for n in range(1, 3):
        reading = asyncio.create_task(store.read_all())
        while await watcher.fetchval(LOCKED) < n:  # noqa: ASYNC110 - the database has no event for it
            await asyncio.sleep(0)
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
    late = [asyncio.create_task(store.read_all()) for _ in range(3)]
    for _ in range(500):  # In which a connection that should not be made would be there.
        assert await watcher.fetchval(LOCKED) == 2
    late[0].cancel()
    await transaction.rollback()
    answers = await asyncio.gather(*late, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert [answer.position for answer in answers[1:] if not isinstance(answer, BaseException)] == [3, 3]
    assert await watcher.fetchval(SESSIONS) == 3, "the one that appends, and the pool"
    await watcher.close()
    await store.close()


async def test_an_error_that_comes_when_its_caller_has_gone_is_not_told_of(
    postgres_url: str, stranger: "asyncpg.Connection[asyncpg.Record]", caplog: pytest.LogCaptureFixture
) -> None:
    """Not even by asyncio, which would say that it was never retrieved."""
    store = await open_store(f"{postgres_url}?pool=1")
    await fill(store, "account-1", 3)
    watcher = await asyncpg.connect(postgres_url)
    transaction = stranger.transaction()
    await transaction.start()
    await stranger.execute("LOCK TABLE rehydrate.checkpoints IN ACCESS EXCLUSIVE MODE")
    changing = asyncio.create_task(store.reset_checkpoint("balances"))
    while not (pid := await watcher.fetchval(CHANGING)):  # noqa: ASYNC110 - the database has no event for it
        await asyncio.sleep(0)
    changing.cancel()
    with suppress(asyncio.CancelledError):
        await changing
    assert await watcher.fetchval("SELECT pg_terminate_backend($1)", pid)
    await transaction.rollback()
    # There is one connection, so the question before has ended.
    assert len((await store.read_all()).events) == 3
    gc.collect()
    await asyncio.sleep(0)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
    await watcher.close()
    await store.close()


async def test_closing_a_store_whose_server_stands_still_ends_what_reads(
    start_postgres: StartPostgres,
) -> None:
    server = start_postgres()
    store = await open_store(server.url)
    await fill(store, "account-1", 3)
    waiting = asyncio.create_task(store.wait(after=3))
    await asyncio.gather(*[store.read_all() for _ in range(4)])
    server.pause()
    try:
        reading: list[asyncio.Task[object]] = [asyncio.create_task(store.read_all()) for _ in range(12)]
        asking = asyncio.create_task(store.versions(["account-1"]))
        gone = asyncio.create_task(store.read_all())
        await asyncio.sleep(0)
        gone.cancel()
        began = time.monotonic()
        await store.close()
        ended: list[object] = await asyncio.gather(waiting, asking, *reading, return_exceptions=True)
        # Far from the 10 s that a connection may take, and the 35 s of a statement.
        assert time.monotonic() - began < 8
    finally:
        server.resume()
    assert all(isinstance(error, StoreClosedError | StoreUnavailableError) for error in ended), ended
    assert {type(error) for error in ended[2:]} == {StoreClosedError}
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_a_connection_that_ends_between_two_steps_of_the_driver_is_a_lost_one(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has taken a statement, and before it is executed the connection is closed, which the driver overlooks."""
    store = await open_store(postgres_url)
    await fill(store, "account-1", 1)
    prepare = vars(asyncpg.Connection)["_get_statement"]

    async def closed_behind(
        connection: "asyncpg.Connection[asyncpg.Record]", *rest: object, **more: object
    ) -> object:
        monkeypatch.undo()
        statement = await prepare(connection, *rest, **more)
        connection.terminate()
        return statement

    monkeypatch.setattr(asyncpg.Connection, "_get_statement", closed_behind)
    assert (await store.read_all()).position == 1, "it is asked on another one, unnoticed"
    monkeypatch.setattr(asyncpg.Connection, "_get_statement", closed_behind)
    with pytest.raises(StoreUnavailableError, match="closed") as lost:
        await store.append("account-1", events(1), expected_version=1)
    assert lost.value.stored is None
    assert vars(store)["_writer"].pid == 0
    assert (await store.append("account-1", events(1), expected_version=1)).version == 2
    monkeypatch.setattr(asyncpg.Connection, "_get_statement", closed_behind)
    with pytest.raises(StoreUnavailableError, match="closed in the middle"):
        await store.reset_checkpoint("consumer")
    await store.close()
