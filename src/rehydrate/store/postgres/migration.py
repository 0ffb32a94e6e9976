"""Making the tables, and bringing those of an older version up to date: one process does it, the others wait."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import asyncpg

from rehydrate.errors import ConfigurationError, StoreError
from rehydrate.store.postgres import migrations, sql
from rehydrate.store.postgres.address import Address, read_address
from rehydrate.store.postgres.connection import Connection, connect, disconnect, in_time, patience
from rehydrate.store.postgres.failures import FAILURES, at_open, code_of, message_of
from rehydrate.store.postgres.numbered_streams import IS_TO_BE_TIDIED, TIDY
from rehydrate.store_url import StoreUrl

logger = logging.getLogger(__name__)

_INVISIBLE: Final = "42P01"
"""A table that is there, and that this role does not see: the schema is not his to use."""
_NOT_AS_EXPECTED: Final = "42"
"""The class of errors of a schema in which something else is than a migration takes to be there."""
_MAY_NOT: Final = "42501"
_FOR_EACH_EVENT: Final = 0.001
"""Seconds that writing an event anew may take; it was seen to take a fiftieth."""
_PAUSE: Final = 0.4
"""Seconds in which others go on, between two attempts to have the log for oneself."""


async def migrate_postgres(url: StoreUrl) -> str:
    """Bring the schema of a store up to date, and say what was done.

    Raises:
        ConfigurationError: the schema is another program's, or a newer version's; nothing was changed.
        StoreUnavailableError: the server cannot be reached or used now; nothing was changed.
    """
    address = read_address(url)
    connection = await connect(address, appends=True, first=True)
    try:
        before = await migrate(connection, address)
    finally:
        await disconnect(connection)
    if before == migrations.VERSION:
        return f"schema {address.schema} is at version {before}, as it should be"
    return f"schema {address.schema} was brought from version {before} to {migrations.VERSION}"


async def check_or_migrate(connection: Connection, address: Address) -> None:
    """Have the schema at the version that this program knows, or raise `ConfigurationError`."""
    if address.migrate:
        await migrate(connection, address)
        return
    try:
        async with in_time(address):
            version = await _version(connection, address)
    except FAILURES as error:
        raise _at_open(error, address) from error
    if version == 0:
        raise ConfigurationError(
            f"{address.place}: there is no store in this schema; if it should be there, run `rehydrate migrate --store URL` "
            "first"
        )
    if version != migrations.VERSION:
        raise ConfigurationError(
            f"{address.place} is at version {version}, and this program needs {migrations.VERSION}: run `rehydrate migrate "
            "--store URL` first"
        )


async def migrate(connection: Connection, address: Address) -> int:
    """Apply what is missing, all or nothing; the version that was there before."""
    try:
        async with in_time(address):
            version = await _version(connection, address)
        if version == migrations.VERSION:
            await _tidy(connection, address)
            return version
        async with in_time(address) as limit, connection.transaction():
            # Whoever comes second finds it done, or goes on from there.
            await connection.fetch(sql.LOCK_MIGRATIONS, address.schema)
            version = await _version(connection, address)
            if version == 0 and not await connection.fetchval(sql.HAS_SCHEMA, address.schema):
                await connection.execute(sql.CREATE_SCHEMA.format(schema=address.schema))
            if version == 0:
                await connection.execute(sql.CREATE_MIGRATIONS)
            elif version < migrations.VERSION:
                await _lock_events(connection, address)
                events = await connection.fetchval(sql.HEAD) or 0
                logger.warning(
                    "%s: bringing %d events to version %d", address.place, events, migrations.VERSION
                )
                limit.reschedule(_now() + patience(address) + events * _FOR_EACH_EVENT)
            for number, migration in enumerate(migrations.MIGRATIONS[version:], version + 1):
                await connection.execute(migration)
                await connection.execute(sql.MIGRATED, number)
            if version == 0:
                await connection.execute(TIDY)
            limit.reschedule(_now() + patience(address))
    except FAILURES as error:
        raise _at_open(error, address) from error
    return version


async def _tidy(connection: Connection, address: Address) -> None:
    """Take away what programs of older versions needed, a day after they could be replaced; or another time."""
    try:
        async with in_time(address):
            if await connection.fetchval(IS_TO_BE_TIDIED, address.schema):
                async with connection.transaction():
                    await connection.execute(sql.LOCK_EVENTS)
                    await connection.execute(TIDY)
    except FAILURES as error:
        logger.debug("%s: the index of names cannot be taken away now: %s", address.place, message_of(error))


async def _lock_events(connection: Connection, address: Address) -> None:
    """Wait until nobody uses the log; those who come meanwhile are let through in between."""
    until = _now() + address.lock_timeout
    while True:
        try:
            async with connection.transaction():
                await connection.execute(sql.LOCK_EVENTS)
        except asyncpg.LockNotAvailableError:
            if _now() >= until:
                raise
            await asyncio.sleep(_PAUSE)
        else:
            return


def _now() -> float:
    return asyncio.get_running_loop().time()


def _at_open(error: BaseException, address: Address) -> ConfigurationError | StoreError:
    if isinstance(error, asyncpg.InterfaceError):
        # A transaction cannot be ended where its session is lost, which hides why it was: here, or by the end of its time.
        cause = error.__context__
        if isinstance(cause, FAILURES):
            error = cause
        elif isinstance(cause, asyncio.CancelledError):
            error = TimeoutError()
    if code_of(error) == _INVISIBLE:
        return ConfigurationError(
            f"{address.place}: the role may not use this schema; its owner runs GRANT USAGE ON SCHEMA {address.schema}, and "
            "the other grants of docs/postgresql.md"
        )
    if code_of(error).startswith(_NOT_AS_EXPECTED) and code_of(error) != _MAY_NOT:
        return ConfigurationError(
            f"{address.place}: its schema cannot be brought up to date ({message_of(error)}); nothing was changed"
        )
    return at_open(error, address.place)


async def _version(connection: Connection, address: Address) -> int:
    """The version of the schema, 0 where there is none."""
    found = await connection.fetchrow(sql.HAS_TABLES, address.schema)
    assert found is not None
    if not found["migrations"]:
        if found["events"]:
            raise ConfigurationError(
                f"{address.place} holds tables of another program: choose another schema, with schema="
            )
        return 0
    version: int = await connection.fetchval(sql.MIGRATED_TO)
    if version > migrations.VERSION:
        raise ConfigurationError(
            f"{address.place} was written by a newer Rehydrate (version {version}, this one knows {migrations.VERSION}): "
            "upgrade Rehydrate"
        )
    return version
