"""Events as lines of JSON, and back to the same bytes: the format of `rehydrate export`, which `docs/moving.md` shows.

The first line names the format, the last one says how many events there are: a file that was cut off has none.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from rehydrate.cli.misfit import why_misfit
from rehydrate.domain.streams import check_id, check_stream
from rehydrate.errors import InvalidIdError
from rehydrate.store.port import MAX_TIME, MIN_TIME, StoredEvent

FORMAT: Final = "rehydrate events"
VERSION: Final = 1

MAX_NESTING: Final = 100
"""How deep JSON may be nested that stands in a line as it is. How much deeper a decoder goes depends on where it is
called, so what is nested deeper is in base64: whoever reads the line gets as far as whoever wrote it."""

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - UTC, as everything here
_MICROSECOND: Final = timedelta(microseconds=1)

_TEXT: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_AS_LISTS: Final = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")


class MalformedEventError(ValueError):
    """A line is not what it should be; the message says why, without the number of the line."""


class FirstLine(msgspec.Struct, frozen=True):
    """What stands before the events."""

    format: str
    version: int


class LastLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands behind the events."""

    events: int


class EventLine(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """An event. Bytes that are no JSON on one line are in base64, under another name."""

    stream: str
    version: int
    position: int
    id: str
    type: str
    recorded_at: str | int
    """Microseconds since 1970 where the year has no four digits."""
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    data_base64: str | msgspec.UnsetType = msgspec.UNSET
    metadata: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    metadata_base64: str | msgspec.UnsetType = msgspec.UNSET


_encode: Final = msgspec.json.Encoder().encode
_decode_any: Final = msgspec.json.Decoder().decode
_decode_first: Final = msgspec.json.Decoder(FirstLine).decode
_decode_last: Final = msgspec.json.Decoder(LastLine).decode
_decode_event: Final = msgspec.json.Decoder(EventLine).decode


def first_line() -> bytes:
    """The line before the events."""
    return _encode(FirstLine(FORMAT, VERSION)) + b"\n"


def last_line(events: int) -> bytes:
    """The line behind that many events."""
    return _encode(LastLine(events)) + b"\n"


def as_lines(events: Sequence[StoredEvent]) -> bytes:
    """A line for each event."""
    return b"".join([_encode(_line_of(event)) + b"\n" for event in events])


def check_first(line: bytes) -> None:
    """Raise `MalformedEventError` unless this is the first line of an export that can be read."""
    try:
        first = _decode_first(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        first = None
    if first is None or first.format != FORMAT:
        raise MalformedEventError(
            f"an export begins with {first_line().decode().strip()}, and this does not: is it one?"
        )
    if first.version != VERSION:
        raise MalformedEventError(
            f"it has version {first.version} of the format, and this Rehydrate knows version {VERSION}: upgrade it"
        )


def count_in(line: bytes) -> int | None:
    """How many events the last line says that there are; None for another line."""
    if not line.startswith(b'{"events"'):
        return None
    try:
        return _decode_last(line).events
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def event_in(line: bytes, number: int) -> StoredEvent:
    """The event of a line, with the number of the line as its position. Raises `MalformedEventError`."""
    try:
        read = _decode_event(line)
        check_stream(read.stream)
        check_id(read.id, "event id")
        check_id(read.type, "event type")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, InvalidIdError) as error:
        raise MalformedEventError(f"not an event: {why_misfit(error)}") from error
    if read.version < 1:
        raise MalformedEventError(f"not an event: 'version' is {read.version}, and versions begin with 1")
    return StoredEvent(
        stream=read.stream,
        version=read.version,
        position=number,
        id=read.id,
        type=read.type,
        data=_bytes("data", read.data, read.data_base64),
        metadata=_bytes("metadata", read.metadata, read.metadata_base64),
        recorded_at=_microseconds(read.recorded_at),
    )


def _line_of(event: StoredEvent) -> EventLine:
    data_is_json, metadata_is_json = _may_stand(event.data), _may_stand(event.metadata)
    return EventLine(
        stream=event.stream,
        version=event.version,
        position=event.position,
        id=event.id,
        type=event.type,
        recorded_at=_iso(event.recorded_at),
        data=msgspec.Raw(event.data) if data_is_json else msgspec.UNSET,
        data_base64=msgspec.UNSET if data_is_json else base64.b64encode(event.data).decode(),
        metadata=msgspec.Raw(event.metadata) if metadata_is_json else msgspec.UNSET,
        metadata_base64=msgspec.UNSET if metadata_is_json else base64.b64encode(event.metadata).decode(),
    )


def _may_stand(data: bytes) -> bool:
    """Whether these bytes may stand in a line as they are, and come out of it as the same."""
    return _is_json(data) and not _is_deep(data)


def _is_deep(data: bytes) -> bool:
    """Whether this JSON is nested deeper than a line may be."""
    if data.count(b"[") + data.count(b"{") <= MAX_NESTING:
        return False
    # Not counted in what was decoded: of a key that is there twice, only the last value is left.
    brackets = _TEXT.sub(b"", data).translate(_AS_LISTS, _NO_BRACKETS)
    for _ in range(MAX_NESTING):
        # The innermost ones of this moment, and only these.
        brackets = brackets.replace(b"[]", b"")
        if not brackets:
            return False
    return True


def _is_json(data: bytes) -> bool:
    """Whether these bytes are JSON on one line, with nothing around it."""
    if b"\n" in data or b"\r" in data or data != data.strip():
        return False
    try:
        _decode_any(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _bytes(name: str, json: msgspec.Raw | msgspec.UnsetType, encoded: str | msgspec.UnsetType) -> bytes:
    if isinstance(json, msgspec.UnsetType) == isinstance(encoded, msgspec.UnsetType):
        raise MalformedEventError(f"not an event: it needs either {name!r} or '{name}_base64'")
    if not isinstance(json, msgspec.UnsetType):
        data = bytes(json)
        # A decoder that passes over a value looks at little of it.
        if not _is_json(data):
            raise MalformedEventError(f"not an event: {name!r} is no JSON")
        return data
    assert isinstance(encoded, str)
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedEventError(f"not an event: '{name}_base64' is no base64") from None


def _iso(microseconds: int) -> str | int:
    try:
        return (_EPOCH + timedelta(microseconds=microseconds)).isoformat(timespec="microseconds") + "Z"
    except OverflowError:
        return microseconds


def _microseconds(recorded_at: str | int) -> int:
    microseconds = recorded_at if isinstance(recorded_at, int) else _since_1970(recorded_at)
    if not MIN_TIME <= microseconds <= MAX_TIME:
        raise MalformedEventError(
            f"not an event: 'recorded_at' is {microseconds}, and a time is a whole number of 64 bits"
        )
    return microseconds


def _since_1970(written: str) -> int:
    try:
        moment = datetime.fromisoformat(written)
    except ValueError:
        moment = None
    if moment is None or (offset := moment.utcoffset()) is None:
        raise MalformedEventError("not an event: 'recorded_at' must be like 2024-05-17T09:30:00.000000Z")
    # As a duration: as a date in UTC it may have a year that no date has.
    return (moment.replace(tzinfo=None) - _EPOCH - offset) // _MICROSECOND
