"""Floats where Decimals are declared: refused whatever they are, and not only where they are equal to no Decimal.

`3.5` is equal to the Decimal that comes back of it and `0.1` is not, so a comparison alone lets a bug pass until its first
ten cents. What looks for them is made from the types of the fields, for those classes only that hold a Decimal somewhere.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final, NoReturn, TypeAlias

from rehydrate.codec.exact import IsExact
from rehydrate.codec.records import STRUCT, TYPED_DICT, record_fields, record_kind
from rehydrate.codec.types import COLLECTIONS, members_of

Found: TypeAlias = Iterator[tuple[str, float]]
"""Such floats in a value, each with its place in it."""
Find: TypeAlias = Callable[[Any], Found]

_SEQUENCES: Final = (tuple, list, set, frozenset)


def decimal_checks(classes: Iterable[type]) -> Mapping[type, IsExact]:
    """For each class that holds Decimals: what raises `TypeError` for a value with a float in place of one.

    Of all other values it says that they are to be read back. The classes are those that `TypeWalk` has accepted.
    """
    search = _Search()
    return {cls: _check(search.in_record(cls)) for cls in classes if _holds_decimals(cls, set())}


def _check(find: Find) -> IsExact:
    def check(value: Any) -> bool:
        for path, number in find(value):
            _refuse(path.removeprefix("."), number)
        return False

    return check


def _refuse(path: str, number: float) -> NoReturn:
    raise TypeError(
        f"{path}: {number!r} is of type float where a Decimal is due; write Decimal('{number!r}')"
    )


def _holds_decimals(tp: Any, seen: set[type]) -> bool:
    for member in members_of(tp):
        inner: Iterable[Any] = ()
        if typing.get_origin(member) in COLLECTIONS:
            inner = typing.get_args(member)
        elif isinstance(member, type) and member not in seen and record_kind(member):
            seen.add(member)
            inner = record_fields(member).values()
        if member is Decimal or any(_holds_decimals(part, seen) for part in inner):
            return True
    return False


class _Search:
    """Makes what finds such floats in the values of a type."""

    def __init__(self) -> None:
        self._fields: dict[type, list[tuple[str, Find]]] = {}
        """Of each class what is to be looked at: it may hold itself, and is then still being made."""

    def in_record(self, cls: Any) -> Find:
        if cls not in self._fields:
            fields: list[tuple[str, Find]] = []
            self._fields[cls] = fields
            types = record_fields(cls)
            names = cls.__struct_fields__ if record_kind(cls) == STRUCT else tuple(types)
            for name, tp in zip(names, types.values(), strict=True):
                if _holds_decimals(tp, set()):
                    fields.append((name, self._in_value(tp)))
        return (
            _in_typed_dict(self._fields[cls])
            if record_kind(cls) == TYPED_DICT
            else _in_object(cls, self._fields[cls])
        )

    def _in_value(self, tp: Any) -> Find:
        members = members_of(tp)
        finds: list[Find] = [_number] if Decimal in members and float not in members else []
        for member in members:
            origin, args = typing.get_origin(member), typing.get_args(member)
            if origin in _SEQUENCES:
                finds.append(
                    _in_sequence(origin, args, [self._in_value(arg) for arg in args if arg is not ...])
                )
            elif origin is dict:
                finds.append(_in_dict(*(self._in_value(arg) for arg in args)))
            elif isinstance(member, type) and record_kind(member):
                finds.append(self.in_record(member))
        return finds[0] if len(finds) == 1 else _in_any(finds)


def _number(value: Any) -> Found:
    if isinstance(value, float):
        yield "", value


def _in_any(finds: list[Find]) -> Find:
    def find(value: Any) -> Found:
        for one in finds:
            yield from one(value)

    return find


def _in_object(cls: type, fields: list[tuple[str, Find]]) -> Find:
    def find(value: Any) -> Found:
        if isinstance(value, cls):
            for name, within in fields:
                for path, number in within(getattr(value, name)):
                    yield f".{name}{path}", number

    return find


def _in_typed_dict(fields: list[tuple[str, Find]]) -> Find:
    def find(value: Any) -> Found:
        if issubclass(value.__class__, dict):
            for name, within in fields:
                for path, number in within(value.get(name)):
                    yield f"[{name!r}]{path}", number

    return find


def _in_sequence(origin: Any, args: tuple[Any, ...], finds: list[Find]) -> Find:
    def find(value: Any) -> Found:
        if isinstance(value, origin):
            each = finds if origin is tuple and ... not in args else finds * len(value)
            for index, (item, within) in enumerate(zip(value, each, strict=False)):
                for path, number in within(item):
                    yield f"[{index}]{path}", number

    return find


def _in_dict(of_key: Find, of_value: Find) -> Find:
    def find(value: Any) -> Found:
        if issubclass(value.__class__, dict):
            for key, item in value.items():
                for path, number in (*of_key(key), *of_value(item)):
                    yield f"[{key!r}]{path}", number

    return find
