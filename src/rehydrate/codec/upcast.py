"""Old shapes of a stored value to the current one: revisions in the stored name, and the functions between them.

The number of upcasters of a name is what fixes its revision: with two, `Deposited` is at revision 3 and is written as
`Deposited@3`. What was stored as `Deposited` goes through both, `Deposited@2` through the second, `Deposited@3` through
none. A name with a higher revision than that has no decoder: it was written by newer code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias, cast

import msgspec

Upcaster: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]
"""A pure function from the JSON object of one revision to that of the next."""

Decode: TypeAlias = Callable[[bytes], Any]

REVISION_MARK = "@"

_read = msgspec.json.Decoder().decode
_write = msgspec.json.Encoder().encode


def current_name(name: str, upcasters: Sequence[Upcaster]) -> str:
    """The name under which values are written now."""
    return f"{name}{REVISION_MARK}{len(upcasters) + 1}" if upcasters else name


def revisions(name: str, upcasters: Sequence[Upcaster], decode: Decode) -> Iterator[tuple[str, Decode]]:
    """Each stored name of a value, oldest revision first, with what decodes it."""
    for done in range(len(upcasters)):
        yield (
            (f"{name}{REVISION_MARK}{done + 1}" if done else name),
            _through(tuple(upcasters[done:]), decode),
        )
    yield current_name(name, upcasters), decode


def _through(upcasters: tuple[Upcaster, ...], decode: Decode) -> Decode:
    def decode_old(data: bytes) -> Any:
        fields = _read(data)
        for upcast in upcasters:
            fields = _object(upcast(fields), upcast)
        # As bytes again, so that an old event is read by exactly the rules of a new one.
        return decode(_write(fields))

    return decode_old


def _object(fields: Any, upcast: Upcaster) -> dict[str, Any]:
    """What an upcaster returned; one that changes its argument and returns nothing is the likely mistake."""
    if isinstance(fields, dict):
        return cast("dict[str, Any]", fields)
    raise TypeError(f"upcaster {upcast!r} must return a dict, and returned {type(fields).__name__}")
