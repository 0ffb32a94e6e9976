"""Where commits wait for a standby, nothing is acknowledged that no standby has, however the wait has ended."""

import asyncio
from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest

from rehydrate.errors import StoreUnavailableError, VersionConflictError
from rehydrate.store.port import Appended, NewEvent, Store
from rehydrate.store.postgres import connection
from rehydrate.store.url import open_store
from rehydrate.testing.conformance.material import events, fill, ids, sound_log
from rehydrate.testing.servers import PostgresServer

StartPostgres = Callable[..., PostgresServer]

WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
INTERRUPT = f"WITH waiting AS MATERIALIZED ({WAITING}) SELECT count(*) FROM waiting WHERE "
TIMES = "statement_timeout=0.3&lock_timeout=0.2"
"""Whoever gets no answer is told so soon."""


@pytest.fixture(params=[16, 18])
def server(request: pytest.FixtureRequest, start_postgres: StartPostgres) -> PostgresServer:
    """Of the test alone, for its settings are changed."""
    return start_postgres(version=request.param)


@pytest.fixture
async def store(server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    monkeypatch.setattr(connection, "GRACE", 0.2)
    store = await open_store(f"{server.url}?{TIMES}")
    await fill(store, "account-1", 3)
    yield store
    await store.close()


async def tell(server: PostgresServer, *statements: str) -> int:
    """What an administrator's last statement counts."""
    administrator = await asyncpg.connect(server.url)
    counted = [await administrator.fetchval(statement) for statement in statements]
    await administrator.close()
    return counted[-1] or 0


async def wait_for_standby(server: PostgresServer, name: str) -> None:
    """Have commits wait for the standby of that name; without a name for none."""
    await tell(
        server, f"ALTER SYSTEM SET synchronous_standby_names = '{name}'", "SELECT pg_reload_conf()::int"
    )


async def append_until_one_waits(
    server: PostgresServer, store: Store
) -> tuple[list[NewEvent], int, "asyncio.Task[Appended]"]:
    """The events that wait, what their append expects, and the append: the server tells nobody from when on it waits."""
    (expected,) = await store.versions(["account-1"])
    while True:
        new = events(1)
        appending = asyncio.create_task(store.append("account-1", new, expected_version=expected))
        while not appending.done():
            if await tell(server, INTERRUPT + "true"):
                return new, expected, appending
        await appending
        expected += 1


async def until_commits_wait(server: PostgresServer) -> None:
    """A server that was just started may take a moment to remember that it has to wait."""
    stranger = await asyncpg.connect(server.url)
    while True:
        writing = asyncio.create_task(
            stranger.execute("CREATE SCHEMA IF NOT EXISTS something; DROP SCHEMA something")
        )
        while not writing.done():
            if await tell(server, INTERRUPT + "true"):
                stranger.terminate()
                await asyncio.gather(writing, return_exceptions=True)
                return


async def is_unknown(appending: "asyncio.Task[Appended]") -> None:
    with pytest.raises(StoreUnavailableError) as unknown:
        await appending
    assert unknown.value.stored is None


async def is_not_acknowledged(store: Store, new: list[NewEvent], expected: int) -> None:
    with pytest.raises(StoreUnavailableError):
        await store.append("account-1", new, expected_version=expected)


async def until_answered(store: Store, new: list[NewEvent], expected: int) -> Appended:
    while True:
        try:
            return await store.append("account-1", new, expected_version=expected)
        except StoreUnavailableError:
            await asyncio.sleep(0.01)


async def is_acknowledged(store: Store, new: list[NewEvent], expected: int) -> None:
    done = await until_answered(store, new, expected)
    assert done == Appended(expected + 1, expected + 1)
    assert ids(await sound_log(store))[expected:] == [new[0].id]


async def test_a_wait_for_a_standby_that_an_administrator_cancels_is_no_acknowledgement(
    server: PostgresServer, store: Store
) -> None:
    """The server says that all went well, and only adds a warning."""
    await wait_for_standby(server, "away")
    new, expected, appending = await append_until_one_waits(server, store)
    assert await tell(server, INTERRUPT + "pg_cancel_backend(pid)")
    await is_unknown(appending)
    await is_not_acknowledged(store, new, expected)
    await wait_for_standby(server, "")
    await is_acknowledged(store, new, expected)


async def test_a_repeat_after_the_session_that_waited_was_ended_waits_again(
    server: PostgresServer, store: Store
) -> None:
    another = await open_store(f"{server.url}?{TIMES}")
    await another.append("account-1", events(1), expected_version=3)
    await wait_for_standby(server, "away")
    new, expected, appending = await append_until_one_waits(server, store)
    assert await tell(server, INTERRUPT + "pg_terminate_backend(pid, 5000)")
    await is_unknown(appending)
    assert await store.versions(["account-1"]) == [expected + 1]
    # Whoever sends it again, in a session that knows the log or in a new one.
    await is_not_acknowledged(another, new, expected)
    await another.close()
    await is_not_acknowledged(store, new, expected)
    await wait_for_standby(server, "")
    await is_acknowledged(store, new, expected)


async def test_a_repeat_after_the_server_was_killed_while_it_waited_waits_again(
    server: PostgresServer, store: Store
) -> None:
    await wait_for_standby(server, "away")
    new, expected, appending = await append_until_one_waits(server, store)
    await asyncio.to_thread(server.kill)
    await is_unknown(appending)
    await asyncio.to_thread(server.start)
    await until_commits_wait(server)
    await is_not_acknowledged(store, new, expected)
    await wait_for_standby(server, "")
    await is_acknowledged(store, new, expected)


async def test_what_a_new_session_is_told_of_first_is_on_the_standby(
    server: PostgresServer, store: Store
) -> None:
    """Also a conflict, for somebody decides again because of it."""
    await wait_for_standby(server, "away")
    _, expected, appending = await append_until_one_waits(server, store)
    assert await tell(server, INTERRUPT + "pg_terminate_backend(pid, 5000)")
    await is_unknown(appending)
    another = await open_store(f"{server.url}?{TIMES}")
    await is_not_acknowledged(another, events(1), expected)
    await wait_for_standby(server, "")
    with pytest.raises(VersionConflictError) as conflict:
        await until_answered(another, events(1), expected)
    assert conflict.value.actual == expected + 1
    await another.close()
