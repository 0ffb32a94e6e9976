"""What `given` says where something else came than was expected."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence


def undeclared(name: str, what: str, value: object, declared: Iterable[type]) -> str:
    """For a value of a class that the aggregate does not name."""
    names = ", ".join(cls.__name__ for cls in declared)
    return f"{name}: the {what} {value!r} is of type {type(value).__name__}, which the aggregate does not declare ({names})"


def listed(values: Sequence[object]) -> str:
    """One value per line."""
    return "".join(f"\n  {value!r}" for value in values) or " no events"


def diff(
    expected: Sequence[object],
    actual: Sequence[object],
    *,
    show: Callable[[object], str] = repr,
    none: str = "no events",
) -> str:
    """One value per line, as `diff_lines` has them."""
    # An event that is equal to an expected one is shown in the same words, `30.0` as `30`: it is not the difference.
    same_words = [next((wanted for wanted in expected if wanted == value), value) for value in actual]
    return diff_lines([show(value) for value in expected], [show(value) for value in same_words], none)


def diff_lines(expected: Sequence[str], actual: Sequence[str], none: str = "no events") -> str:
    """One value per line: `-` was expected, `+` came, and what came as expected has no sign."""
    if list(expected) == list(actual):
        return (
            "\n".join(f"  {line}" for line in expected) + "\n(they read the same, and yet they are not equal)"
        )
    lines = [line.rstrip("\n") for line in difflib.ndiff(expected or [none], actual or [none])]
    return "\n".join(line for line in lines if not line.startswith("?")) + "\n(- expected, + actual)"
