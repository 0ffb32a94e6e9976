"""The SQLAlchemy example, on SQLite and on PostgreSQL."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy.dialects import postgresql, sqlite

from examples.bank.account import Deposit, Withdraw
from examples.bank.aggregates import bank_account
from examples.sqlalchemy_tables import create_table, on_postgres, on_sqlite
from rehydrate import App, Skip, TransactionalHandler, open_store
from rehydrate.testing.clock import until


def app_with(handler: Any) -> App:
    handlers = [TransactionalHandler(name="balances", handler=handler, on_error=Skip())]
    return App(aggregates=[bank_account], transactional=handlers)


async def fill(url: str, handler: Any) -> None:
    async with app_with(handler).open(url) as bank:
        for n in range(20):
            await bank.dispatch(bank_account, f"a{n % 2}", Deposit(10))
        await bank.dispatch(bank_account, "a0", Withdraw(1))
        await until(lambda: bank.statistics().consumers[0].position == 21)


async def test_on_sqlite_through_the_given_connection(tmp_path: Path) -> None:
    path = tmp_path / "bank.db"
    await (await open_store(f"sqlite:///{path}")).close()
    connection = sqlite3.connect(path)
    connection.execute(create_table(sqlite.dialect()))
    await fill(f"sqlite:///{path}", on_sqlite)
    assert dict(connection.execute("SELECT account, amount FROM balances")) == {"a0": 99, "a1": 100}
    connection.close()


async def test_what_sqlalchemy_wrote_is_rolled_back_with_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "bank.db"
    await (await open_store(f"sqlite:///{path}")).close()
    connection = sqlite3.connect(path)
    connection.execute(create_table(sqlite.dialect()))

    def failing(envelope: Any, given: sqlite3.Connection) -> None:
        on_sqlite(envelope, given)
        if envelope.version == 3:
            raise RuntimeError("it fails after it has written")

    await fill(f"sqlite:///{path}", failing)
    assert dict(connection.execute("SELECT account, amount FROM balances")) == {"a0": 89, "a1": 90}
    connection.close()


async def test_on_postgres_as_compiled_statements(postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    try:
        await connection.execute(create_table(postgresql.dialect()))  # type: ignore[no-untyped-call]
        await fill(postgres_url, on_postgres)
        rows = await connection.fetch("SELECT account, amount FROM balances")
    finally:
        await connection.close()
    assert {row["account"]: row["amount"] for row in rows} == {"a0": 99, "a1": 100}
