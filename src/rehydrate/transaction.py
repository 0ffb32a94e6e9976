"""The transaction that a handler of the user's is given: what is refused inside of it, and how it fails."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from rehydrate.errors import ConfigurationError

_is_inside: Final[ContextVar[bool]] = ContextVar("rehydrate_is_inside_a_transaction", default=False)
OPEN: Final[list[object]] = []
"""One entry for each transaction that a handler has at the moment, anywhere: while there is none, nobody is inside."""


class ChangeFailedError(Exception):
    """What was to be done inside a transaction raised (`__cause__` has it), and nothing was changed."""


@contextmanager
def inside() -> Generator[None]:
    """Here runs what has the open transaction of a store."""
    token = _is_inside.set(True)
    OPEN.append(token)
    try:
        yield
    finally:
        OPEN.remove(token)
        _is_inside.reset(token)


def check_outside() -> None:
    """Raise `ConfigurationError` inside a transaction, where a command or an append could wait for itself."""
    if _is_inside.get():
        raise ConfigurationError(
            "a transactional handler cannot dispatch, append or ask for a state: its transaction is open; let a process "
            "manager send what follows"
        )
