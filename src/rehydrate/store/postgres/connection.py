"""Connections to a server, each with the settings that the store relies on, set and read back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, TypeAlias

import asyncpg

from rehydrate.errors import ConfigurationError, StoreUnavailableError
from rehydrate.store.postgres import sql
from rehydrate.store.postgres.address import Address, Host
from rehydrate.store.postgres.failures import FAILURES, as_store_error, at_open, behind_a_pooler

logger = logging.getLogger(__name__)

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

OLDEST_SERVER: Final = 140_000
GRACE: Final = 5.0
"""Seconds for which a client waits longer than the server was told to: then it is the network."""
_CLOSING: Final = 2.0
_SILENCE: Final = 30
"""Seconds after which the server looks whether a silent client is still there."""


async def connect(
    address: Address, *, replica: bool = False, appends: bool = False, first: bool = False
) -> Connection:
    """A connection whose settings are those that the store needs: to the replica, to append with, or to ask.

    `first`: whoever opens a store hears what is wrong with its URL; later the same is a server in trouble.
    """
    settings = _settings(address)
    if appends:
        # Where a commit waits for another machine, the server's time-out would end that wait, and then say that all
        # is well. What an append waits for otherwise are locks, which have a time-out of their own.
        settings["statement_timeout"] = "0"
    try:
        connection = await _connect(address, settings, replica=replica, appends=appends)
    except FAILURES as error:
        refusal = at_open(error, address.place) if first else as_store_error(error, address.place)
        if isinstance(refusal, ConfigurationError):
            # Without its cause, which may name the user.
            raise refusal from None
        raise refusal from error
    try:
        async with in_time(address):
            await _prepare(connection, address)
    except FAILURES as error:
        connection.terminate()
        raise (at_open(error, address.place) if first else as_store_error(error, address.place)) from error
    except ConfigurationError as error:
        connection.terminate()
        if first:
            raise
        raise StoreUnavailableError(str(error), retryable=False) from error
    except BaseException:
        connection.terminate()
        raise
    return connection


async def _connect(address: Address, settings: dict[str, str], *, replica: bool, appends: bool) -> Connection:
    """To the first of the hosts that takes it in time."""
    hosts = (address.replica,) if replica and address.replica else address.hosts
    for host in hosts[:-1]:
        try:
            return await _connect_to(address, settings, host, takes_writes=True, appends=appends)
        except FAILURES as error:
            # Not the driver's own way through several hosts: one that swallows everything would use up the time of all.
            logger.debug("%s: %s:%d is passed over: %s", address.place, host.name, host.port, error)
    last = hosts[-1] if hosts else None
    return await _connect_to(address, settings, last, takes_writes=len(hosts) > 1, appends=appends)


async def _connect_to(
    address: Address, settings: dict[str, str], host: Host | None, *, takes_writes: bool, appends: bool
) -> Connection:
    options = [address.ssl] if address.ssl else []
    if takes_writes:
        options.append("target_session_attrs=read-write")
    async with asyncio.timeout(address.connect_timeout):
        connection: Connection = await asyncpg.connect(
            f"postgresql://?{'&'.join(options)}" if options else None,
            host=None if host is None else host.name,
            port=None if host is None else host.port,
            user=address.user,
            password=address.password,
            database=address.database,
            server_settings=settings,
            # A timer for each statement takes as long as all else that is done for an append of one event: whoever
            # appends has one for all, and waits `in_time` for what comes before.
            command_timeout=None if appends else patience(address),
            # Statements are few, and known; each is prepared once.
            max_cached_statement_lifetime=0,
        )
    return connection


def patience(address: Address) -> float:
    """Seconds for which a client waits for an answer."""
    return address.statement_timeout + GRACE


def in_time(address: Address) -> asyncio.Timeout:
    """No longer than that; then a `TimeoutError`."""
    return asyncio.timeout(patience(address))


def _settings(address: Address) -> dict[str, str]:
    """What every session is told as it begins."""
    return {
        "application_name": address.application_name,
        "search_path": f"{address.schema}, pg_temp",
        "default_transaction_isolation": "read committed",
        "standard_conforming_strings": "on",
        # Only a warning tells that a commit no longer waits for its standby.
        "client_min_messages": "warning",
        "lock_timeout": _milliseconds(address.lock_timeout),
        "statement_timeout": _milliseconds(address.statement_timeout),
        "idle_in_transaction_session_timeout": _milliseconds(address.statement_timeout),
        "tcp_keepalives_idle": str(_SILENCE),
        "tcp_keepalives_interval": str(_SILENCE // 3),
        "tcp_keepalives_count": "3",
        "tcp_user_timeout": _milliseconds(_SILENCE),
        # All statements are known to have an index. A plan that was made while a table was small, or before it was
        # analysed, must not read the whole table later.
        "enable_seqscan": "off",
        "enable_bitmapscan": "off",
        "jit": "off",
    }


def _milliseconds(seconds: float) -> str:
    return str(max(1, round(seconds * 1_000)))


async def _prepare(connection: Connection, address: Address) -> None:
    await connection.fetch(sql.COMMIT_SYNCHRONOUSLY)
    about = await connection.fetchrow(sql.ABOUT)
    assert about is not None
    place = address.place
    if about["pid"] != connection.get_server_pid():
        raise ConfigurationError(behind_a_pooler(place))
    if about["server_version"] < OLDEST_SERVER:
        raise ConfigurationError(
            f"{place}: PostgreSQL 14 or newer is needed, not {about['server_version'] // 10_000}"
        )
    if about["encoding"] != "UTF8":
        raise ConfigurationError(
            f"{place}: the encoding of the database is {about['encoding']}, and must be UTF8"
        )
    wrong = {
        "synchronous_commit": about["synchronous_commit"] not in {"on", "remote_apply"},
        "default_transaction_isolation": about["isolation"] != "read committed",
        "standard_conforming_strings": about["strings"] != "on",
        "client_min_messages": about["messages"] != "warning",
    }
    for name, is_wrong in wrong.items():
        if is_wrong:
            raise ConfigurationError(f"{place}: the server does not take {name} as the store sets it")


async def warn_of_lost_power(connection: Connection, address: Address) -> None:
    """Say so if the server was told not to survive a power failure, which a client cannot change."""
    async with in_time(address):
        about = await connection.fetchrow(sql.ABOUT)
    assert about is not None
    off = [name for name in ("fsync", "full_page_writes") if about[name] != "on"]
    if off:
        logger.warning(
            "%s: the server runs with %s off, so that a power failure may cost events or the database",
            address.place,
            " and ".join(off),
        )


@contextmanager
def noticing_its_end(connection: Connection) -> Generator[None]:
    """Have a connection that is closed while it is asked be one of the `FAILURES`.

    The driver looks at it between two steps of a question, and meets an attribute of None.
    """
    try:
        yield
    except AttributeError as error:
        if not connection.is_closed():
            raise  # Somebody's mistake.
        reason = "the connection was closed in the middle of a question"
        raise asyncpg.ConnectionDoesNotExistError(reason) from error


async def disconnect(connection: Connection) -> None:
    """Close a connection, politely if the server answers soon."""
    try:
        # The driver's own time-out does not hold while it waits for something that it has cancelled.
        async with asyncio.timeout(_CLOSING):
            await connection.close()
    except FAILURES:
        pass
    finally:
        connection.terminate()
