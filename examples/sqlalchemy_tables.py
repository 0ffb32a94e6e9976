"""Transactional handlers that write with SQLAlchemy: through the given connection on SQLite, compiled on PostgreSQL.

SQLAlchemy must neither commit nor roll back nor close what it is given: the transaction is Rehydrate's.
"""

from __future__ import annotations

import sqlite3
from contextvars import ContextVar
from typing import Any

import asyncpg
from sqlalchemy import BigInteger, Column, MetaData, String, Table, create_engine
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateTable

from examples.bank.account import Event
from rehydrate import EventEnvelope

metadata = MetaData()
balances = Table(
    "balances",
    metadata,
    Column("account", String, primary_key=True),
    Column("amount", BigInteger, nullable=False),
)


def change_in(envelope: EventEnvelope[Event]) -> int:
    """By how much an event changes the balance."""
    amount: int = getattr(envelope.event, "amount", 0)
    return -amount if envelope.type in {"Withdrawn", "MoneySent"} else amount


# ---- SQLite: an engine whose connections are the one that the handler was given


class _Given:
    """A connection whose transaction is somebody else's."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def commit(self) -> None: ...

    def rollback(self) -> None: ...

    def close(self) -> None: ...


_given: ContextVar[sqlite3.Connection] = ContextVar("given")
_engine = create_engine("sqlite://", creator=lambda: _Given(_given.get()), poolclass=NullPool)


def on_sqlite(envelope: EventEnvelope[Event], connection: sqlite3.Connection) -> None:
    """A plain function: it runs on the thread that writes, in the open transaction."""
    _given.set(connection)
    amount = change_in(envelope)
    statement = sqlite.insert(balances).values(account=envelope.aggregate_id, amount=amount)
    with _engine.connect() as sql:
        sql.execute(
            statement.on_conflict_do_update(
                index_elements=["account"], set_={"amount": balances.c.amount + statement.excluded.amount}
            )
        )


# ---- PostgreSQL: SQLAlchemy makes the statement, asyncpg runs it

_postgres = asyncpg_dialect()  # type: ignore[no-untyped-call]


async def on_postgres(envelope: EventEnvelope[Event], connection: asyncpg.Connection[Any]) -> None:
    """A coroutine function, with asyncpg's connection inside of the open transaction."""
    amount = change_in(envelope)
    statement = postgresql.insert(balances).values(account=envelope.aggregate_id, amount=amount)
    await _run(
        connection,
        statement.on_conflict_do_update(
            index_elements=["account"], set_={"amount": balances.c.amount + statement.excluded.amount}
        ),
    )


async def _run(connection: asyncpg.Connection[Any], statement: Any) -> None:
    compiled = statement.compile(dialect=_postgres)
    await connection.execute(str(compiled), *[compiled.params[name] for name in compiled.positiontup or ()])


def create_table(dialect: Any) -> str:
    """The statement that makes the table, once the store has made its own."""
    return str(CreateTable(balances, if_not_exists=True).compile(dialect=dialect))
