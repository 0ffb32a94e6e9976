"""Handlers that write into tables of the user's own: each event counts once, whatever fails and whoever is killed."""

from __future__ import annotations

import asyncio
import inspect
import logging
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import asyncpg
import pymongo
import pytest
from pymongo.asynchronous.client_session import AsyncClientSession

from rehydrate import (
    ANY_VERSION,
    App,
    ConfigurationError,
    EventEnvelope,
    JsonCodec,
    Limits,
    Park,
    Retry,
    Runtime,
    Skip,
    TransactionalHandler,
    open_store,
)
from rehydrate.store.port import NewEvent
from rehydrate.testing.clock import until
from tests.bank import Deposit, Deposited, Event, Withdrawn, account

LIMITS = Limits(takeover_after=1)


class Tables(Protocol):
    """A read model in the user's own tables: balances by account."""

    url: str

    def make(self) -> Any:
        """Make the tables, and return the handler."""
        ...

    async def balances(self) -> dict[str, int]: ...


def amount_in(envelope: EventEnvelope[Event]) -> int:
    match envelope.event:
        case Deposited(amount):
            return amount
        case Withdrawn(amount):
            return -amount
        case _:
            raise RuntimeError("a bug in the handler")


class OnSqlite:
    def __init__(self, url: str) -> None:
        self.url = url
        self.path = url.removeprefix("sqlite:///")

    async def make(self) -> None:
        with sqlite3.connect(self.path) as connection:
            connection.execute("CREATE TABLE balances (account TEXT PRIMARY KEY, amount INTEGER NOT NULL)")
        connection.close()

    @staticmethod
    def handler(envelope: EventEnvelope[Event], connection: sqlite3.Connection) -> None:
        connection.execute(
            "INSERT INTO balances VALUES (?, ?) ON CONFLICT (account) DO UPDATE SET amount = amount + excluded.amount",
            (envelope.aggregate_id, 0),
        )
        connection.execute(
            "UPDATE balances SET amount = amount + ? WHERE account = ?",
            (amount_in(envelope), envelope.aggregate_id),
        )

    async def balances(self) -> dict[str, int]:
        connection = sqlite3.connect(self.path)
        try:
            return dict(connection.execute("SELECT account, amount FROM balances"))
        finally:
            connection.close()


class OnPostgres:
    def __init__(self, url: str) -> None:
        self.url = url

    async def make(self) -> None:
        connection = await asyncpg.connect(self.url)
        await connection.execute("CREATE TABLE balances (account text PRIMARY KEY, amount bigint NOT NULL)")
        await connection.close()

    @staticmethod
    async def handler(envelope: EventEnvelope[Event], connection: asyncpg.Connection[Any]) -> None:
        await connection.execute(
            "INSERT INTO balances VALUES ($1, 0) ON CONFLICT (account) DO NOTHING", envelope.aggregate_id
        )
        await connection.execute(
            "UPDATE balances SET amount = amount + $1 WHERE account = $2",
            amount_in(envelope),
            envelope.aggregate_id,
        )

    async def balances(self) -> dict[str, int]:
        connection = await asyncpg.connect(self.url)
        try:
            return {row["account"]: row["amount"] for row in await connection.fetch("SELECT * FROM balances")}
        finally:
            await connection.close()


class OnMongodb:
    collection = ""
    """Of the test that runs."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def make(self) -> None:
        pass

    @staticmethod
    async def handler(envelope: EventEnvelope[Event], session: AsyncClientSession) -> None:
        balances = session.client["read_models"][OnMongodb.collection]
        await balances.update_one(
            {"_id": envelope.aggregate_id}, {"$inc": {"amount": 0}}, upsert=True, session=session
        )
        await balances.update_one(
            {"_id": envelope.aggregate_id}, {"$inc": {"amount": amount_in(envelope)}}, session=session
        )

    async def balances(self) -> dict[str, int]:
        client: pymongo.AsyncMongoClient[dict[str, Any]] = pymongo.AsyncMongoClient(self.url)
        try:
            found = client["read_models"][OnMongodb.collection].find()
            return {one["_id"]: one["amount"] async for one in found}
        finally:
            await client.close()


@pytest.fixture(params=["sqlite", "postgres", "mongodb"])
async def tables(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made: Any
    if request.param == "sqlite":
        made = OnSqlite(f"sqlite:///{tmp_path / 'bank.db'}")
        # The store makes the file: tables of others come after its own.
        await (await open_store(made.url)).close()
    elif request.param == "postgres":
        made = OnPostgres(request.getfixturevalue("postgres_url"))
    else:
        made = OnMongodb(request.getfixturevalue("mongodb_url"))
        OnMongodb.collection = made.url.partition("?")[0].rpartition("/")[2]
    await made.make()
    return made


def app_of(tables: Any, **fields: Any) -> App:
    handler = fields.pop("handler", tables.handler)
    return App(
        aggregates=[account],
        transactional=[TransactionalHandler(name="balances", handler=handler, **fields)],
    )


async def caught_up(runtime: Runtime) -> None:
    head = (await runtime.store.head()).position
    await until(lambda: runtime.statistics().consumers[0].position >= head)


def failing(handler: Callable[..., Any], fails: Callable[[EventEnvelope[Event]], bool]) -> Callable[..., Any]:
    """The handler, which fails after it has written."""
    if inspect.iscoroutinefunction(handler):

        async def failing_async(envelope: EventEnvelope[Event], connection: Any) -> None:
            await handler(envelope, connection)
            if fails(envelope):
                raise RuntimeError("it fails at this one")

        return failing_async

    def failing_plain(envelope: EventEnvelope[Event], connection: Any) -> None:
        handler(envelope, connection)
        if fails(envelope):
            raise RuntimeError("it fails at this one")

    return failing_plain


async def test_tables_are_the_fold_of_the_log(tables: Any) -> None:
    async with app_of(tables).open(tables.url, limits=LIMITS) as bank:
        for n in range(1, 31):
            await bank.dispatch(account, f"a{n % 3}", Deposit(n))
        await caught_up(bank)
        assert await tables.balances() == {"a0": 165, "a1": 145, "a2": 155}
    async with app_of(tables).open(tables.url, limits=LIMITS) as bank:
        await bank.dispatch(account, "a0", Deposit(1))
        await caught_up(bank)
    assert await tables.balances() == {"a0": 166, "a1": 145, "a2": 155}


async def test_what_a_handler_wrote_that_fails_is_not_there_and_the_rest_of_its_batch_is(
    tables: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with app_of(tables).open(tables.url, limits=LIMITS, consumers=False) as bank:
        for amount in (1, 2, 666, 4):
            await bank.dispatch(account, "ada", Deposit(amount))
    handler = failing(tables.handler, lambda envelope: amount_in(envelope) == 666)
    with caplog.at_level(logging.ERROR):
        async with app_of(tables, handler=handler).open(tables.url, limits=LIMITS) as bank:
            await until(lambda: bank.statistics().consumers[0].state == "stopped")
            assert "it fails at this one" in bank.statistics().consumers[0].reason
            assert await tables.balances() == {"ada": 3}
    async with app_of(tables, handler=handler, on_error=Skip()).open(tables.url, limits=LIMITS) as bank:
        await caught_up(bank)
        assert await tables.balances() == {"ada": 7}


async def test_parked_events_hold_back_their_key_and_are_replayed_in_a_transaction(tables: Any) -> None:
    is_broken = True
    handler = failing(tables.handler, lambda envelope: is_broken and envelope.aggregate_id == "bob")
    async with app_of(tables, handler=handler, on_error=Park()).open(tables.url, limits=LIMITS) as bank:
        for id in ("ada", "bob", "ada", "bob"):
            await bank.dispatch(account, id, Deposit(5))
        await caught_up(bank)
        assert await tables.balances() == {"ada": 10}
        assert len(await bank.parked("balances")) == 2
        assert await bank.replay("balances") == 0
        is_broken = False
        assert await bank.replay("balances") == 2
        assert await bank.parked("balances") == []
        assert await tables.balances() == {"ada": 10, "bob": 10}


async def test_what_the_code_does_not_know_yet_is_left_to_newer_code_also_where_types_are_asked_for(
    tables: Any,
) -> None:
    app = app_of(tables, types=[Deposited])
    async with app.open(tables.url, limits=LIMITS, consumers=False) as bank:
        for amount, type in ((1, "Deposited"), (2, "Withdrawn"), (4, "Deposited"), (8, "Deposited@2")):
            event = NewEvent(id=f"{amount}", type=type, data=b'{"amount":%d}' % amount)
            await bank.store.append("bank_account-ada", [event], expected_version=ANY_VERSION)
    async with app.open(tables.url, limits=LIMITS) as bank:
        await until(lambda: bank.statistics().consumers[0].state == "stopped")
        assert "'Deposited@2'" in bank.statistics().consumers[0].reason
    assert await tables.balances() == {"ada": 5}
    codec = JsonCodec(Event, upcasters={"Deposited": [lambda fields: fields]})
    newer = replace(account, codec=codec)
    handler = TransactionalHandler(name="balances", handler=tables.handler, types=[Deposited])
    async with App(aggregates=[newer], transactional=[handler]).open(tables.url, limits=LIMITS) as bank:
        await caught_up(bank)
    assert await tables.balances() == {"ada": 13}


async def test_a_handler_that_fails_for_a_while_is_tried_again(tables: Any) -> None:
    tries = 0

    def fails(_: EventEnvelope[Event]) -> bool:
        nonlocal tries
        tries += 1
        return tries <= 3

    app = app_of(tables, handler=failing(tables.handler, fails), on_error=Retry(first=0.01))
    async with app.open(tables.url, limits=LIMITS) as bank:
        await bank.dispatch(account, "ada", Deposit(5))
        await caught_up(bank)
    assert await tables.balances() == {"ada": 5}


async def test_a_handler_whose_own_work_is_cancelled_has_failed(tables: Any) -> None:
    def handler(envelope: EventEnvelope[Event], connection: Any) -> None:
        raise asyncio.CancelledError

    async def async_handler(envelope: EventEnvelope[Event], connection: Any) -> None:
        raise asyncio.CancelledError

    mine = handler if isinstance(tables, OnSqlite) else async_handler
    async with app_of(tables, handler=mine).open(tables.url, limits=LIMITS) as bank:
        await bank.dispatch(account, "ada", Deposit(1))
        await until(lambda: bank.statistics().consumers[0].state == "stopped")
        assert "what the handler waited for was cancelled" in bank.statistics().consumers[0].reason
        assert (await bank.dispatch(account, "ada", Deposit(1))).version == 2


async def test_two_runners_write_each_event_once(tables: Any) -> None:
    async with (
        app_of(tables, batch=3).open(tables.url, limits=LIMITS) as one,
        app_of(tables, batch=3).open(tables.url, limits=LIMITS) as other,
    ):
        await asyncio.gather(*[one.dispatch(account, f"a{n % 4}", Deposit(1)) for n in range(40)])
        await until(
            lambda: (
                {one.statistics().consumers[0].state, other.statistics().consumers[0].state}
                >= {"running", "waiting"}
            )
        )
        holder = next(each for each in (one, other) if each.statistics().consumers[0].state == "running")
        await caught_up(holder)
    assert sum((await tables.balances()).values()) == 40


async def test_killed_at_each_step_of_a_transaction_each_event_counts_once(tables: Any) -> None:
    kind = type(tables).__name__.removeprefix("On").lower()
    worker = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "ignore", "-m", "tests.processes.table_worker", kind, tables.url),
        cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await worker.communicate()
    assert worker.returncode == 0, err.decode()
    # Two transactions of some steps, of which some are done before the later children die.
    assert int(out) >= 3
    assert await tables.balances() == {"a0": 5, "a1": 7, "a2": 9}


async def test_dispatch_append_and_state_inside_of_one_are_refused(tables: Any) -> None:
    refused: list[Exception] = []
    opened: list[Runtime] = []

    async def ask() -> None:
        store = opened[0].store
        for call in (
            lambda: opened[0].dispatch(account, "bob", Deposit(1)),
            lambda: opened[0].state(account, "bob"),
            lambda: store.append("account-bob", [], expected_version=0),
        ):
            try:
                await call()
            except ConfigurationError as error:
                refused.append(error)

    async def in_coroutine(envelope: EventEnvelope[Event], connection: Any) -> None:
        await ask()

    def in_thread(envelope: EventEnvelope[Event], connection: Any) -> None:
        asyncio.run(ask())

    handler = in_coroutine if inspect.iscoroutinefunction(tables.handler) else in_thread
    async with app_of(tables, handler=handler).open(tables.url, limits=LIMITS) as bank:
        opened.append(bank)
        await bank.dispatch(account, "ada", Deposit(5))
        await caught_up(bank)
    assert len(refused) == 3
    assert all("process manager" in str(error) for error in refused)


async def test_a_store_without_transactions_refuses_the_handler() -> None:
    async def handler(envelope: Any, connection: Any) -> None: ...

    app = App(aggregates=[account], transactional=[TransactionalHandler(name="balances", handler=handler)])
    with pytest.raises(
        ConfigurationError, match="has no transaction to give; use SQLite, PostgreSQL or MongoDB"
    ):
        async with app.open("memory://"):
            pass


async def test_a_handler_of_the_wrong_kind_is_refused(tables: Any) -> None:
    async def coroutine_function(envelope: Any, connection: Any) -> None: ...

    def plain(envelope: Any, connection: Any) -> None: ...

    wrong = plain if inspect.iscoroutinefunction(tables.handler) else coroutine_function
    with pytest.raises(ConfigurationError, match="it must be a"):
        async with app_of(tables, handler=wrong).open(tables.url):
            pass


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("COMMIT", "leave out commit() and rollback()"),
        ("ROLLBACK", "leave out commit() and rollback()"),
        ("DELETE FROM checkpoints", "wrote to 'checkpoints', which is the store's"),
        ("DROP TABLE events", "which is the store's"),
        ("DROP TRIGGER events_are_never_deleted", "wrote to 'events', which is the store's"),
        ("UPDATE stream_heads SET version = 0", "wrote to 'stream_heads', which is the store's"),
        ("CREATE TEMP TABLE stream_heads (stream, version, position)", "which is the store's"),
        ("CREATE TEMP VIEW events AS SELECT 1", "which is the store's"),
        ("DELETE FROM stream_index", "wrote to 'stream_index', which is the store's"),
        ("CREATE TRIGGER mine AFTER INSERT ON events BEGIN SELECT 1; END", "which is the store's"),
    ],
)
async def test_a_handler_that_touches_what_is_not_its_own_is_stopped(
    tmp_path: Path, statement: str, reason: str
) -> None:
    def handler(envelope: Any, connection: sqlite3.Connection) -> None:
        connection.execute(statement)

    app = App(aggregates=[account], transactional=[TransactionalHandler(name="commits", handler=handler)])
    async with app.open(f"sqlite:///{tmp_path / 'bank.db'}") as bank:
        await bank.dispatch(account, "ada", Deposit(1))
        await until(lambda: bank.statistics().consumers[0].state == "stopped")
        assert reason in bank.statistics().consumers[0].reason


async def test_a_handler_that_closes_the_connection_is_stopped_and_the_store_goes_on(tmp_path: Path) -> None:
    def handler(envelope: Any, connection: sqlite3.Connection) -> None:
        connection.close()

    app = App(aggregates=[account], transactional=[TransactionalHandler(name="closes", handler=handler)])
    async with app.open(f"sqlite:///{tmp_path / 'bank.db'}") as bank:
        await bank.dispatch(account, "ada", Deposit(1))
        await until(lambda: bank.statistics().consumers[0].state == "stopped")
        assert "closed the connection, which is the store's" in bank.statistics().consumers[0].reason
        assert (await bank.dispatch(account, "ada", Deposit(1))).version == 2


def test_names_are_shared_with_subscriptions() -> None:
    def handler(envelope: Any, connection: Any) -> None: ...

    one = TransactionalHandler(name="same", handler=handler)
    with pytest.raises(ConfigurationError, match="named 'same'"):
        App(aggregates=[account], transactional=[one, TransactionalHandler(name="same", handler=handler)])
    with pytest.raises(ConfigurationError, match="batch=0 must be at least 1"):
        TransactionalHandler(name="same", handler=handler, batch=0)
    with pytest.raises(ConfigurationError, match="transactional handler cannot be named"):
        TransactionalHandler(name="no name", handler=handler)
