"""Whether a value came back from its bytes as it was, and if not, where it differs."""

from __future__ import annotations

import datetime as dt
import decimal
import math
from collections.abc import Iterable
from typing import Any

from rehydrate.codec.records import attribute_names, is_pydantic


def difference(before: Any, after: Any, path: str = "") -> str | None:
    """What differs between a value and what came back of it, in a few words; `None` if nothing does.

    Two things that Python calls unequal are forgiven. A moment in the hour that the clocks repeat is equal to nothing
    once its time zone has become an offset, and still the same moment; a Decimal that is no number is equal to
    nothing, and still came back.
    """
    if before == after or _is_same(before, after):
        return None
    if type(before) is not type(after):
        return _told(path, before, after)
    if names := attribute_names(type(before)):
        return _record_difference(before, after, names, path)
    kind = before.__class__
    if issubclass(kind, list | tuple):
        return _sequence_difference(before, after, path)
    if issubclass(kind, dict):
        return _dict_difference(before, after, path)
    if issubclass(kind, set | frozenset) and _settled(before) == _settled(after):
        return None
    return _told(path, before, after)


def _is_same(before: object, after: object) -> bool:
    if isinstance(before, dt.datetime) and isinstance(after, dt.datetime):
        return (
            before.replace(tzinfo=None) == after.replace(tzinfo=None)
            and before.utcoffset() == after.utcoffset()
        )
    if isinstance(before, decimal.Decimal) and isinstance(after, decimal.Decimal):
        return before.as_tuple() == after.as_tuple()
    return False


def _record_difference(before: object, after: object, names: tuple[str, ...], path: str) -> str | None:
    pairs = [(f"{path}.{name}".lstrip("."), getattr(before, name), getattr(after, name)) for name in names]
    unequal = [pair for pair in pairs if pair[1] != pair[2]]
    if not unequal:
        return f"{_at(path)}all its fields came back, and yet {before!r} is not equal to {after!r}"
    return _first_of(unequal)


def _sequence_difference(before: Any, after: Any, path: str) -> str | None:
    if len(before) != len(after):
        return _told(path, before, after)
    pairs = ((f"{path}[{index}]", *pair) for index, pair in enumerate(zip(before, after, strict=True)))
    return _first_of(pairs)


def _dict_difference(before: Any, after: Any, path: str) -> str | None:
    befores, afters = _settled(before), _settled(after)
    if befores.keys() != afters.keys():
        return _told(path, before, after)
    pairs = ((f"{path}[{key!r}]", befores[key], afters[key]) for key in befores)
    return _first_of(pairs)


def _first_of(pairs: Iterable[tuple[str, object, object]]) -> str | None:
    return next((told for path, before, after in pairs if (told := difference(before, after, path))), None)


def _settled(values: Any) -> Any:
    """A dict or set whose moments have an offset in place of a time zone, so that they can be compared."""
    if hasattr(values, "items"):
        return {_at_offset(key): value for key, value in values.items()}
    return {_at_offset(value) for value in values}


def _at_offset(value: object) -> object:
    if isinstance(value, dt.datetime) and (offset := value.utcoffset()) is not None:
        return value.replace(tzinfo=dt.timezone(offset), fold=0)
    return value


def why_not_stored(value: object, said: str) -> str:
    """Why a value does not go through its codec: what can be seen in it, else what was said when it did not."""
    return _not_finite(value, "") or said


def _not_finite(value: Any, path: str) -> str:
    """Where a value holds a NaN or an infinity; empty if it does not."""
    if isinstance(value, float):
        has_digits = math.isfinite(value)
        return "" if has_digits else f"{path or 'it'} is {value!r}, and JSON has neither NaN nor infinity"
    kind = value.__class__
    if is_pydantic(kind) and kind.model_config.get("ser_json_inf_nan", "null") != "null":
        # It writes and reads them in its own way.
        return ""
    if names := attribute_names(kind):
        parts = [(f"{path}.{name}".lstrip("."), getattr(value, name, None)) for name in names]
    elif issubclass(kind, dict):
        parts = [(f"{path}[{key!r}]", each) for key, each in value.items()]
    elif issubclass(kind, list | tuple | set | frozenset):
        parts = [(f"{path}[{index}]", each) for index, each in enumerate(value)]
    else:
        return ""
    return next((found for where, each in parts if (found := _not_finite(each, where))), "")


def _told(path: str, before: object, after: object) -> str:
    return f"{_at(path)}{before!r} came back as {after!r}"


def _at(path: str) -> str:
    return f"{path}: " if path else ""
