"""What `given` looks at beyond what a test asks for: that functions are pure, and that values can be stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rehydrate.codec.difference import difference, why_not_stored
from rehydrate.testing.failures import diff


def is_value(state: object) -> bool:
    """Whether states of this class can be compared; those that equal only themselves are taken on trust."""
    return type(state).__eq__ is not object.__eq__


def check_untouched(name: str, function: str, what: str, before: object, after: object) -> None:
    """Fail where a function has changed what it was given."""
    __tracebackhide__ = True
    if is_value(after) and difference(before, after):
        raise AssertionError(
            f"{name}: {function} changed the {what} that it was given; it must leave it alone\n"
            f"{diff([before], [after])}"
        )


def come_back(what: str, value: Any, encode: Callable[[Any], bytes], decode: Callable[[bytes], Any]) -> Any:
    """A value after its way to the store and back; fail where it is another then."""
    __tracebackhide__ = True
    try:
        back = decode(encode(value))
        why = difference(value, back)
    except Exception as error:
        why = why_not_stored(value, f"{type(error).__name__}: {error}")
        raise AssertionError(f"{what} cannot be stored: {why}") from error
    if why:
        raise AssertionError(f"{what} does not come back as it was: {why}")
    return back
