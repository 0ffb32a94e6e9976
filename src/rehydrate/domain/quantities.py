"""The seconds, versions and positions that a caller gives; who gives something else is told what to write."""

from __future__ import annotations

import operator
from datetime import timedelta
from typing import Any, Literal

from rehydrate.domain.envelope import CommandResult
from rehydrate.errors import ConfigurationError


def check_seconds(what: str, given: Any, hint: str = "") -> None:
    """Raise `ConfigurationError` for what is not a number above 0."""
    try:
        if not given > 0:
            raise ConfigurationError(f"{what}={given!r}: it must be more than 0 seconds")
    except TypeError:
        raise no_seconds(what, given, hint) from None


def no_seconds(what: str, given: object, hint: str = "") -> ConfigurationError:
    """The error for what is no number."""
    if isinstance(given, timedelta):
        hint = f"; write {given.total_seconds():g}"
    return ConfigurationError(f"{what}={given!r}: it must be seconds, as a number{hint}")


def check_place(what: str, given: Any, kind: Literal["version", "position"]) -> None:
    """Raise `ConfigurationError` for what is no version or position, such as a whole `CommandResult`."""
    check_int(what, given, f"a {kind}", f"; write {what}=result.{kind}")


def check_range(after: int, limit: int | None) -> None:
    """Raise `ConfigurationError` for what is no version or no number, and `ValueError` for one below 0."""
    check_place("after", after, "version")
    if limit is not None:
        check_int("limit", limit)
    if after < 0 or (limit is not None and limit < 0):
        raise ValueError(f"after={after!r} and limit={limit!r} cannot be below 0")


def check_int(what: str, given: Any, kind: str = "a whole number", of_result: str = "") -> None:
    """Raise `ConfigurationError` for what is no int."""
    try:
        operator.index(given)
    except TypeError:
        hint = of_result if isinstance(given, CommandResult) else ""
        shown = "a CommandResult" if isinstance(given, CommandResult) else repr(given)
        raise ConfigurationError(f"{what} is {shown}: it must be {kind}, and so an int{hint}") from None
