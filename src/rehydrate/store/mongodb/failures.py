"""What an error of the driver or of the server means to whoever called the store."""

from __future__ import annotations

from typing import Any, Final

from bson import encode
from bson.errors import InvalidDocument
from pymongo.errors import (
    ConnectionFailure,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
)

from rehydrate.errors import InvalidIdError, StoreError, StoreUnavailableError

DUPLICATE_KEY: Final = 11_000
MAX_TIME_EXPIRED: Final = 50
WRITE_CONFLICT: Final = 112
COLLECTION_UUID_MISMATCH: Final = 361
NAMESPACE_EXISTS: Final = 48
_AUTHENTICATION: Final = frozenset({11, 13, 18, 8_000})
"""Unknown user, no rights, wrong password; and what a hosted MongoDB says instead."""
_WAITING_DOES_NOT_HELP: Final = frozenset({*_AUTHENTICATION, 121, 14_031})
"""And: a validator that refuses, a full disk."""
_NEVER_SENT: Final = (ServerSelectionTimeoutError, WaitQueueTimeoutError)


def is_of_authentication(error: BaseException) -> bool:
    return isinstance(error, OperationFailure) and error.code in _AUTHENTICATION


def is_of_another_collection(error: Exception) -> bool:
    return isinstance(error, OperationFailure) and error.code == COLLECTION_UUID_MISMATCH


def is_of_the_connection(error: Exception) -> bool:
    """Whether another connection, or another primary, may answer."""
    return isinstance(error, ConnectionFailure)


def is_lost(error: StoreError) -> bool:
    """Whether it comes of a connection that broke, or of a primary that is none any more."""
    return isinstance(error.__cause__, ConnectionFailure)


def is_blocked(error: StoreError) -> bool:
    """Whether it comes of somebody else's transaction, and an attempt of later may succeed."""
    cause = error.__cause__
    if isinstance(cause, ConnectionFailure) or not isinstance(cause, PyMongoError):
        return False
    code = cause.code if isinstance(cause, OperationFailure) else None
    return code in {MAX_TIME_EXPIRED, WRITE_CONFLICT} or cause.has_error_label("TransientTransactionError")


def is_out_of_time(error: StoreError) -> bool:
    """Whether the server gave up because it took too long."""
    return isinstance(error.__cause__, OperationFailure) and error.__cause__.code == MAX_TIME_EXPIRED


def as_store_error(error: Exception, where: str, reason: str, *, writing: bool) -> StoreError:
    """What an error means. `writing`: what it was that failed may have changed something all the same."""
    message = f"{where}: {reason}"
    if isinstance(error, _NEVER_SENT):
        return StoreUnavailableError(message)
    if isinstance(error, OperationFailure):
        return StoreUnavailableError(
            message,
            stored=None if writing and error.code not in _WAITING_DOES_NOT_HELP else False,
            retryable=error.code not in _WAITING_DOES_NOT_HELP,
        )
    return StoreUnavailableError(message, stored=None if writing else False)


def reason_of(error: Exception) -> str:
    """The driver's message without the state of all servers behind it."""
    if isinstance(error, ServerSelectionTimeoutError):
        return "no primary answered in time"
    if isinstance(error, OperationFailure):
        return str((error.details or {}).get("errmsg", error))
    return str(error).partition(" (configured timeouts")[0]


def raise_if_no_bson(error: Exception) -> None:
    """What BSON cannot hold comes from the caller: a lone surrogate, a number beyond 64 bits, more than 16 MiB."""
    if isinstance(error, UnicodeEncodeError):
        raise InvalidIdError("name", f"it is not text, but {error.object!r}") from None
    if isinstance(error, OverflowError):
        raise ValueError("a number must be below 2**63") from None
    if isinstance(error, InvalidDocument):
        raise ValueError(f"this is no document for MongoDB: {error}") from None


def why_no_bson(document: dict[str, Any]) -> str:
    """Why BSON cannot hold a document; empty if it can."""
    try:
        encode(document)
    except OF_THE_DRIVER as error:
        try:
            raise_if_no_bson(error)
        except ValueError as reason:
            return str(reason)
        return str(error)
    return ""


def refusals(reply: dict[str, Any]) -> list[dict[str, Any]]:
    """What a command for several writes could not write."""
    found: list[dict[str, Any]] = reply.get("writeErrors", [])
    return found


OF_THE_DRIVER: Final = (PyMongoError, InvalidDocument, UnicodeEncodeError, OverflowError)
"""All that comes out of the driver. `InvalidDocument`, with `DocumentTooLarge`, is not one of its own errors."""
