"""A short text that is the same for the same value in every process: of commands, and of the shapes of states."""

from __future__ import annotations

import hashlib
import typing
from collections.abc import Callable
from typing import Any

from rehydrate.codec.records import attribute_names, record_fields
from rehydrate.codec.types import is_union
from rehydrate.domain.server_made import ServerMade


def digest_of(data: bytes) -> str:
    """16 hex digits of some bytes."""
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def canonical(value: Any, encode: Callable[[Any], bytes]) -> bytes:
    """The JSON of a value, with its sets and dicts in an order of their own.

    Strings hash differently in each process, and so a set is encoded in another order there. (The deterministic order
    of msgspec takes neither dicts with keys other than text nor sets whose members cannot be sorted.)
    """
    if isinstance(value, dict):
        return _joined(sorted(encode(key) + b":" + canonical(value[key], encode) for key in _keys(value)))
    if isinstance(value, set | frozenset):
        return _joined(sorted(canonical(member, encode) for member in _keys(value)))
    if isinstance(value, tuple | list):
        return _joined([canonical(member, encode) for member in _keys(value)])
    if names := attribute_names(type(value)):
        return canonical_fields(value, names, encode)
    return encode(value)


def counted_names(cls: Any) -> tuple[str, ...] | None:
    """The fields by which values of a class are told apart, where not all of them count; else None."""
    fields = dict(zip(attribute_names(cls), record_fields(cls).values(), strict=True))
    counted = tuple(name for name, annotation in fields.items() if not _is_server_made(annotation))
    return counted if len(counted) < len(fields) else None


def canonical_fields(value: Any, names: tuple[str, ...], encode: Callable[[Any], bytes]) -> bytes:
    """As `canonical`, of these fields alone."""
    return _joined([canonical(getattr(value, name), encode) for name in names])


def _is_server_made(annotation: Any) -> bool:
    while hasattr(annotation, "__value__"):
        annotation = annotation.__value__
    if is_union(annotation):
        return any(_is_server_made(member) for member in typing.get_args(annotation))
    if typing.get_origin(annotation) is not typing.Annotated:
        return False
    inner, *marks = typing.get_args(annotation)
    # Pydantic keeps the marks that it does not know in what it makes of the annotation.
    marks += [mark for field in marks for mark in getattr(field, "metadata", ())]
    return any(mark is ServerMade or isinstance(mark, ServerMade) for mark in marks) or _is_server_made(inner)


def _keys(values: Any) -> list[Any]:
    return list(values)


def _joined(parts: list[bytes]) -> bytes:
    return b"[" + b",".join(parts) + b"]"
