"""Stored bytes and the user's values as JSON, whatever they are."""

from __future__ import annotations

import base64

import msgspec


def as_json(data: bytes) -> msgspec.Raw:
    """Stored bytes as they are if they are JSON on one line, else as `{"base64": "..."}`."""
    try:
        msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return msgspec.Raw(msgspec.json.encode({"base64": base64.b64encode(data).decode()}))
    # Another codec may have written its JSON on several lines.
    return msgspec.Raw(msgspec.json.format(data, indent=-1) if b"\n" in data else data)


def encode_any(value: object) -> bytes:
    """A value as JSON; what JSON has no form for is written as text."""
    try:
        return msgspec.json.encode(value, enc_hook=str)
    except Exception:  # noqa: BLE001 - whatever a user's value raises, there is something to show
        return msgspec.json.encode(repr(value))
