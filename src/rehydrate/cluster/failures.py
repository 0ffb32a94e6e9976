"""Refusals and errors on their way to another process, where they are raised as themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rehydrate import errors
from rehydrate.cluster.table import WIRE
from rehydrate.cluster.values import pack, unpack
from rehydrate.cluster.wire import Failed, Refused
from rehydrate.domain.rejection import Rejection
from rehydrate.errors import ActorCrashedError, RehydrateError

_KNOWN: Final[dict[str, type[RehydrateError]]] = {
    kind.__name__: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, RehydrateError)
}


class ElsewhereError(Exception):
    """Stands for an exception of another process: its class and its text."""


def as_reply(error: BaseException, stream: str, command: str, node: str) -> Refused | Failed:
    """An error as it goes over the wire."""
    if isinstance(error, Rejection):
        return Refused(WIRE, _names(error, Rejection), _content(error))
    if not isinstance(error, RehydrateError):
        crash = ActorCrashedError(stream, command, f"{type(error).__name__}: {error}")
        crash.__cause__ = error
        error = crash
    cause = error.__cause__
    told = "" if cause is None else f"{type(cause).__name__}: {cause} (on {node})"
    return Failed(WIRE, _names(error, RehydrateError), _content(error), told)


def rejection_from(reply: Refused, known: Mapping[str, type[Rejection]]) -> Rejection:
    """The refusal, as the nearest of its classes that is known here; else as one that looks and reads like it."""
    kind = next((known[name] for name in reply.names if name in known), None)
    if kind is None or kind.__name__ != reply.names[0]:
        kind = type(reply.names[0], (kind or Rejection,), {"__module__": "elsewhere"})
    rejection: Rejection = _rebuilt(kind, reply.content)
    return rejection


def error_from(reply: Failed) -> RehydrateError:
    kind = next((_KNOWN[name] for name in reply.names if name in _KNOWN), RehydrateError)
    error: RehydrateError = _rebuilt(kind, reply.content)
    if reply.cause:
        error.__cause__ = ElsewhereError(reply.cause)
    return error


def _names(error: BaseException, root: type[BaseException]) -> list[str]:
    return [kind.__name__ for kind in type(error).__mro__ if issubclass(kind, root) and kind is not root] or [
        root.__name__
    ]


def _content(error: BaseException) -> bytes:
    return pack(
        (error.args, {name: value for name, value in vars(error).items() if not name.startswith("__")})
    )


def _rebuilt(kind: type[Any], content: bytes) -> Any:
    arguments, attributes = unpack(content)
    error = Exception.__new__(kind)
    error.args = arguments
    error.__dict__.update(attributes)
    return error
