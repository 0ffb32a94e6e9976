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
        stored = f"{name}{REVISION_MARK}{done + 1}" if done else name
        yield stored, _through(stored, tuple(upcasters[done:]), decode)
    yield current_name(name, upcasters), decode


class UpcastError(Exception):
    """An upcaster failed: it is this code that has to be mended, and not what is stored."""


def _through(stored: str, upcasters: tuple[Upcaster, ...], decode: Decode) -> Decode:
    def decode_old(data: bytes) -> Any:
        fields = _read(data)
        for upcast in upcasters:
            fields = _upcast(upcast, stored, fields)
        # As bytes again, so that an old event is read by exactly the rules of a new one.
        return decode(_write(fields))

    return decode_old


def _upcast(upcast: Upcaster, stored: str, fields: dict[str, Any]) -> dict[str, Any]:
    try:
        after: Any = upcast(fields)
    except Exception as error:
        raise _failed(upcast, stored, f"raised {type(error).__name__}: {error}") from error
    if isinstance(after, dict):
        return cast("dict[str, Any]", after)
    # One that changes its argument and returns nothing is the likely mistake.
    raise _failed(upcast, stored, f"must return a dict, and returned {type(after).__name__},")


def _failed(upcast: Upcaster, stored: str, why: str) -> UpcastError:
    name = getattr(upcast, "__qualname__", None) or repr(upcast)
    return UpcastError(f"upcaster {name} {why} for what is stored as {stored!r}; mend the upcaster")
