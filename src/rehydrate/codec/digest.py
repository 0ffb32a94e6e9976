"""A short text that is the same for the same value in every process: of commands, and of the shapes of states."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from rehydrate.codec.records import attribute_names


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
        return _joined([canonical(getattr(value, name), encode) for name in names])
    return encode(value)


def _keys(values: Any) -> list[Any]:
    return list(values)


def _joined(parts: list[bytes]) -> bytes:
    return b"[" + b",".join(parts) + b"]"
