"""Facts and attributes as bytes and back: what is not declared anywhere, and so carries its own type.

Numbers, text, bytes, None, lists, tuples, dicts and sets, and moments, dates, Decimals and UUIDs come back as they were;
of everything else comes what JSON would make of it, or its text.
"""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from collections.abc import Callable
from typing import Any, Final

import msgspec

_TUPLE: Final = 1
_SET: Final = 2
_FROZENSET: Final = 3
_BIG: Final = 4
_DICT: Final = 5
_TEXTS: Final[dict[type, tuple[int, Callable[[Any], str], Callable[[str], Any]]]] = {
    decimal.Decimal: (10, str, decimal.Decimal),
    uuid.UUID: (11, str, uuid.UUID),
    dt.datetime: (12, dt.datetime.isoformat, dt.datetime.fromisoformat),
    dt.date: (13, dt.date.isoformat, dt.date.fromisoformat),
    dt.time: (14, dt.time.isoformat, dt.time.fromisoformat),
    dt.timedelta: (
        15,
        lambda span: str(span // dt.timedelta(microseconds=1)),
        lambda text: dt.timedelta(microseconds=int(text)),
    ),
}
_FROM_TEXT: Final = {code: read for code, _, read in _TEXTS.values()}
_AS_THEY_ARE: Final = (bool, float, str, bytes, type(None))
_DEEPEST: Final = 50

_encode = msgspec.msgpack.Encoder().encode


def pack(value: object) -> bytes:
    """Any value as bytes."""
    return _encode(_plain(value, _DEEPEST))


def unpack(data: bytes) -> Any:
    """What `pack` was given. Raises `msgspec.MsgspecError` for other bytes."""
    return _decode(data)


def _plain(value: Any, depth: int) -> Any:
    kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    if kind in _AS_THEY_ARE:
        return value
    if kind is int:
        return value if -(2**63) <= value < 2**64 else msgspec.msgpack.Ext(_BIG, str(value).encode())
    if kind in _TEXTS:
        code, write, _ = _TEXTS[kind]
        return msgspec.msgpack.Ext(code, write(value).encode())
    if depth == 0:
        return repr(value)
    if kind is list:
        return [_plain(item, depth - 1) for item in value]
    if kind in (tuple, set, frozenset):
        code = _TUPLE if kind is tuple else _SET if kind is set else _FROZENSET
        return msgspec.msgpack.Ext(code, _encode([_plain(item, depth - 1) for item in value]))
    if kind is dict:
        if all(type(key) is str for key in value):
            return {key: _plain(item, depth - 1) for key, item in value.items()}
        pairs = [[_plain(key, depth - 1), _plain(item, depth - 1)] for key, item in value.items()]
        return msgspec.msgpack.Ext(_DICT, _encode(pairs))
    try:
        built = msgspec.to_builtins(value)
    except Exception:  # noqa: BLE001 - whatever the user's class raises
        built = value
    return repr(value) if type(built) is kind else _plain(built, depth - 1)


def _from_extension(code: int, data: memoryview) -> Any:
    content = bytes(data)
    if code in _FROM_TEXT:
        return _FROM_TEXT[code](content.decode())
    if code == _BIG:
        return int(content)
    items = _decode(content)
    if code == _TUPLE:
        return tuple(items)
    if code == _DICT:
        return dict(items)
    return frozenset(items) if code == _FROZENSET else set(items)


_decode = msgspec.msgpack.Decoder(ext_hook=_from_extension).decode
