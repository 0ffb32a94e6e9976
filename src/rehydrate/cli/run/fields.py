"""Whether the data of a line has a field that its command does not have: it may be a misspelt one, and would be lost."""

from __future__ import annotations

import typing
from typing import Any

from rehydrate.codec.records import PYDANTIC, STRUCT, UnresolvedError, record_fields, record_kind
from rehydrate.codec.types import members_of

_Path = tuple[str, ...]


def unknown_field(decoded: object, given: object) -> str | None:
    """A sentence about the first field that is not one of the class, also further inside; None if there is none.

    `given` is what JSON says, and was decoded without complaint.
    """
    return _in_any((type(decoded),), given, ())


def _in_any(types: tuple[Any, ...], value: object, path: _Path) -> str | None:
    if isinstance(value, dict):
        return _in_object(types, typing.cast("dict[str, object]", value), path)
    if isinstance(value, list):
        return _in_list(types, typing.cast("list[object]", value), path)
    return None


def _in_object(types: tuple[Any, ...], value: dict[str, object], path: _Path) -> str | None:
    """The object is a record or a dict; of a union it is known only that it is one of its members."""
    known: dict[str, tuple[Any, ...]] = {}
    for tp in types:
        if not _is_record(tp):
            if typing.get_origin(tp) is dict:
                values = members_of(typing.get_args(tp)[1])
                return _first(_in_any(values, inner, (*path, key)) for key, inner in value.items())
            continue
        fields = _fields_of(tp)
        if fields is None:
            return None
        for name, inner in fields.items():
            known[name] = (*known.get(name, ()), *inner)
    if not known and not any(_is_record(tp) for tp in types):
        return None
    for name in value:
        if name not in known:
            there = f"there is: {', '.join(known)}" if known else "it has none"
            return f"there is no field {'.'.join((*path, name))!r} ({there})"
    return _first(_in_any(known[name], inner, (*path, name)) for name, inner in value.items())


def _in_list(types: tuple[Any, ...], value: list[object], path: _Path) -> str | None:
    for tp in types:
        arguments = [argument for argument in typing.get_args(tp) if argument is not Ellipsis]
        if _is_record(tp):
            fields = _fields_of(tp) or {}
            pairs = zip(fields.values(), value, strict=False)
            return _first(_in_any(inner, each, path) for inner, each in pairs)
        if typing.get_origin(tp) is tuple and Ellipsis not in typing.get_args(tp):
            pairs = zip(map(members_of, arguments), value, strict=False)
            return _first(_in_any(inner, each, path) for inner, each in pairs)
        if arguments:
            inner = members_of(arguments[0])
            return _first(_in_any(inner, each, (*path, str(n))) for n, each in enumerate(value))
    return None


def _is_record(tp: Any) -> bool:
    return isinstance(tp, type) and record_kind(tp) is not None


def _fields_of(cls: Any) -> dict[str, tuple[Any, ...]] | None:
    """The names under which each field may be written, and its types; None for a class that takes any field."""
    try:
        fields = {name: members_of(tp) for name, tp in record_fields(cls).items()}
    except UnresolvedError:
        return None
    kind = record_kind(cls)
    if kind == PYDANTIC:
        if cls.model_config.get("extra") == "allow":
            return None
        for name, field in cls.model_fields.items():
            for alias in _aliases(field):
                fields[alias] = fields[name]
    if kind == STRUCT and cls.__struct_config__.tag is not None:
        fields[cls.__struct_config__.tag_field] = (str,)
    return fields


def _aliases(field: Any) -> list[str]:
    read = field.validation_alias
    choices = getattr(read, "choices", [read])
    # An alias may be a path into the data; what it begins with is a field.
    paths = [choice if isinstance(choice, str) else getattr(choice, "path", [None])[0] for choice in choices]
    return [path for path in paths if isinstance(path, str)]


def _first(found: typing.Iterable[str | None]) -> str | None:
    return next((each for each in found if each is not None), None)
