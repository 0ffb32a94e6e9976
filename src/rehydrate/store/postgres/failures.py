"""What the errors of PostgreSQL and of its driver mean."""

from __future__ import annotations

import socket
import ssl
from typing import Final

import asyncpg

from rehydrate.errors import (
    ConfigurationError,
    CorruptStoreError,
    InvalidIdError,
    StoreError,
    StoreUnavailableError,
)

FAILURES: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
"""Whatever a call of the driver raises for a reason that is not in this program."""

SEALED: Final = "RHY02"
COLLISION: Final = "23505"
"""Somebody else was first with a position or a version."""
DEADLOCK: Final = "40P01"
"""Somebody else was first with one of two, and waited for the other. Nothing is stored."""
NOT_THERE: Final = "RHY03"
"""An event that the writer has counted on."""
LOCKED: Final = "55P03"
_NO_SUCH_TABLE: Final = frozenset({"42P01", "3F000", "42883"})
_WAITING_DOES_NOT_HELP: Final = frozenset({"53100", "25006", "42501", "0A000", "54000"})
"""The disk is full; the server is read-only; the role may not; the procedure is another one; it is too much at once."""
_ANOTHER_SERVER: Final = frozenset({"25006"})
"""Which may have become a standby while its old primary came back somewhere else: look again."""
_NOTHING_STORED: Final = ("22", "23", "25", "40", "42", "3D", "3F", "53", "54", "55")
"""Classes of errors that are raised before a procedure commits. Others may come after."""
_CORRUPT: Final = frozenset({"XX001", "XX002"})
_WRONG_USER: Final = frozenset({"28P01", "28000"})
_REFUSED_USER: Final = "the server refuses this user, or its password: check both in the URL"
_NO_DATABASE: Final = "3D000"
_POOLER: Final = frozenset({"26000", "42P05"})
"""A prepared statement is not there, or is there already: another session answers."""


def code_of(error: BaseException) -> str:
    """The SQLSTATE that the server sent, empty if there is none."""
    return getattr(error, "sqlstate", None) or "" if isinstance(error, asyncpg.PostgresError) else ""


def message_of(error: BaseException) -> str:
    """What went wrong, without the details that a server adds, which may be data."""
    return getattr(error, "message", None) or str(error)


def is_of_the_append(error: BaseException) -> bool:
    """Whether the cause may be what was to be stored, rather than where."""
    return is_of_a_value(error) or code_of(error)[:2] in {"22", "54"} or code_of(error) == "23514"


def is_of_a_value(error: BaseException) -> bool:
    """Whether the driver, or the server, cannot take a value for what it should be; then nothing was done."""
    return isinstance(error, asyncpg.DataError) or (
        isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError)
    )


def is_of_the_connection(error: BaseException) -> bool:
    """Whether to go on with another connection."""
    code = code_of(error)
    return not code or code[:2] == "08" or code[:3] == "57P" or code in _ANOTHER_SERVER or code in _POOLER


def ends_a_wait_for_a_standby(message: asyncpg.PostgresLogMessage) -> bool:
    """Whether a server warns that it has committed on its own disk only. Its words depend on its language."""
    return getattr(message, "server_source_function", None) == "SyncRepWaitForLSN"


def as_store_error(error: BaseException, place: str, *, stored: bool | None = False) -> StoreError:
    """What an error means to whoever waits. `stored`: what is known of an append if the error does not tell."""
    code = code_of(error)
    if code in _CORRUPT:
        return CorruptStoreError(f"{place}: {message_of(error)}; nothing was stored")
    if code in _POOLER:
        return StoreUnavailableError(behind_a_pooler(place), stored=stored, retryable=False)
    if code == LOCKED:
        return StoreUnavailableError(
            f"{place}: somebody holds a lock for too long ({message_of(error)})", stored=False
        )
    if code in _NO_SUCH_TABLE:
        reason = f"{place}: its tables are gone ({message_of(error)}); open the store again to make them"
        return StoreUnavailableError(reason, stored=False, retryable=False)
    if code in _WRONG_USER:
        return StoreUnavailableError(f"{place}: {_REFUSED_USER}", stored=stored)
    if code[:2] in _NOTHING_STORED:
        stored = False
    reason = f"{place}: {_text(error)}"
    return StoreUnavailableError(reason, stored=stored, retryable=code not in _WAITING_DOES_NOT_HELP)


def at_open(error: BaseException, place: str) -> ConfigurationError | StoreError:
    """What an error means to whoever opens a store."""
    code = code_of(error)
    if code in _WRONG_USER:
        return ConfigurationError(f"{place}: {_REFUSED_USER}")
    if code == _NO_DATABASE:
        return ConfigurationError(f"{place}: there is no such database; create it first")
    if code in _POOLER:
        return ConfigurationError(behind_a_pooler(place))
    if code == "42501":
        return ConfigurationError(f"{place}: the role lacks a right that it needs ({message_of(error)})")
    if isinstance(error, socket.gaierror):
        return ConfigurationError(f"{place}: there is no such host ({error.strerror})")
    if isinstance(error, ssl.SSLError):
        return ConfigurationError(f"{place}: no TLS connection that can be trusted ({message_of(error)})")
    if isinstance(error, asyncpg.InterfaceError) or type(error) is ConnectionError:
        # What the driver refuses before it connects, and a server that does not encrypt.
        return ConfigurationError(f"{place}: {_text(error)}")
    return as_store_error(error, place)


def behind_a_pooler(place: str) -> str:
    """Why a store cannot work there, in one sentence."""
    return (
        f"{place}: a pooler stands between, and hands each statement to another session; give the store the address of "
        "PostgreSQL itself"
    )


def check_name(name: str) -> None:
    """Raise `InvalidIdError` for what PostgreSQL cannot be asked for, because nothing can be called that."""
    if not is_storable(name):
        raise InvalidIdError("name", f"it is not text that can be stored, but {name[:100]!r}")


def is_storable(name: str) -> bool:
    """Whether anything can be called that."""
    return "\0" not in name and (name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name))


def _text(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    if isinstance(error, OSError) and "Connect call failed" in str(error):
        return "nothing listens there: is the server running, and are host and port right (also those of a replica)?"
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return "none of its servers takes writes"
    return message_of(error) or type(error).__name__
