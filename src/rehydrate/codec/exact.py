"""Which values are known to come back from JSON as they are, by a look at their fields alone.

To read an event back right after it was written costs as much as writing it. Where every field is a whole number, a text,
a truth value or None, and nothing but the setting of fields happens when a value is made, the classes of what the fields
hold say as much.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from rehydrate.codec.records import DATACLASS, STRUCT, UnresolvedError, record_fields, record_kind
from rehydrate.codec.types import is_union

IsExact: TypeAlias = Callable[[Any], bool]

_SAFE: Final[dict[object, str]] = {int: "int", str: "str", bool: "bool", type(None): "NoneType"}
"""Not `float`, whose `nan` is written as null, and nothing that is written as text and read by a rule."""
_SCOPE: Final = {"int": int, "str": str, "bool": bool, "NoneType": type(None)}
_MOST_FIELDS: Final = 8
"""With more of them, reading back is as fast."""


def exact_checks(classes: Iterable[type]) -> Mapping[type, IsExact]:
    """For each class whose values can be told by a look: what takes it."""
    checks = ((cls, _check_of(cls)) for cls in classes)
    return {cls: check for cls, check in checks if check is not None}


def _check_of(cls: Any) -> IsExact | None:
    kind = record_kind(cls)
    if kind not in {DATACLASS, STRUCT} or hasattr(cls, "__post_init__"):
        return None
    if kind == DATACLASS and not _only_sets_fields(cls):
        return None
    try:
        fields = record_fields(cls)
    except UnresolvedError:
        return None
    names = cls.__struct_fields__ if kind == STRUCT else tuple(fields)
    allowed = [_classes(tp) for tp in fields.values()]
    if len(names) > _MOST_FIELDS or not all(allowed):
        return None
    looks = [_look(f"value.{name}.__class__", classes) for name, classes in zip(names, allowed, strict=True)]
    # A function per class, as `dataclass` itself makes them: a loop over the fields would take the time that it saves.
    check: IsExact = eval(f"lambda value: {' and '.join(looks) or 'True'}", dict(_SCOPE))
    return check


def _only_sets_fields(cls: Any) -> bool:
    """Whether what `dataclass` wrote makes the values, and nothing of the author's takes part in it."""
    return (
        cls.__init__.__code__.co_filename == "<string>"
        and cls.__new__ is object.__new__
        and all(field.init and not _is_property(cls, field.name) for field in dataclasses.fields(cls))
    )


def _is_property(cls: Any, name: str) -> bool:
    attribute = getattr(cls, name, None)
    return hasattr(attribute, "__set__") and not isinstance(attribute, types.MemberDescriptorType)


def _classes(tp: Any) -> tuple[str, ...]:
    """The classes that values of this type have; none if one of them needs reading back."""
    members = typing.get_args(tp) if is_union(tp) else (tp,)
    names = tuple(_SAFE.get(member, "") for member in members)
    return names if all(names) else ()


def _look(of: str, classes: tuple[str, ...]) -> str:
    return "(" + " or ".join(f"{of} is {name}" for name in classes) + ")"
