"""Messages are told apart, however the bytes come in."""

import struct
from collections.abc import Iterable

import pytest

from rehydrate.testing.wire import MongoWire, PostgresWire, Wire, wire_of


def _typed(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack(">i", len(body) + 4) + body


def _first(code: int, body: bytes = b"") -> bytes:
    return struct.pack(">ii", len(body) + 8, code) + body


_SSL_REQUEST = _first(80877103)
_STARTUP = _first(196608, b"user\0postgres\0\0")


def _names(wire: Wire, chunks: Iterable[bytes], *, of_client: bool = True) -> list[str]:
    split = wire.from_client if of_client else wire.from_server
    found = [each for chunk in chunks for each in split(chunk)]
    assert b"".join(data for _, data in found) == b"".join(chunks)
    return [name for name, _ in found]


def _in_pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 3, 7, 1_000])
def test_messages_of_postgresql_are_told_apart(size: int) -> None:
    wire = PostgresWire()
    assert _names(wire, _in_pieces(_STARTUP, size)) == ["Startup"]
    said = _typed(b"R", b"\0\0\0\0") + _typed(b"Z", b"I")
    assert _names(wire, _in_pieces(said, size), of_client=False) == ["Authentication", "ReadyForQuery"]
    said = _typed(b"P", b"SELECT") + _typed(b"S") + _typed(b"?", b"new")
    assert _names(wire, _in_pieces(said, size)) == ["Parse", "Sync", "b'?'"]


def test_a_client_of_postgresql_that_is_denied_encryption_goes_on_without() -> None:
    wire = PostgresWire()
    assert _names(wire, [_SSL_REQUEST]) == ["SSLRequest"]
    assert _names(wire, [b"N"], of_client=False) == ["Consent"]
    assert _names(wire, [_STARTUP, _typed(b"X")]) == ["Startup", "Terminate"]


def test_what_is_encrypted_is_bytes() -> None:
    wire = PostgresWire()
    assert _names(wire, [_SSL_REQUEST]) == ["SSLRequest"]
    assert _names(wire, [b"S"], of_client=False) == ["Consent"]
    assert _names(wire, [b"\x16\x03\x01", b"\x02"]) == ["bytes", "bytes"]
    assert _names(wire, [b"\x16\x03"], of_client=False) == ["bytes"]


def test_a_request_to_cancel_is_told_apart() -> None:
    assert _names(PostgresWire(), [_first(80877102, b"12345678")]) == ["CancelRequest"]


def _mongo(opcode: int, body: bytes) -> bytes:
    return struct.pack("<iiii", len(body) + 16, 1, 0, opcode) + body


def _document(name: bytes) -> bytes:
    """The BSON of `{name: 1}`."""
    element = b"\x10" + name + b"\0" + struct.pack("<i", 1)
    return struct.pack("<i", len(element) + 5) + element + b"\0"


@pytest.mark.parametrize("size", [1, 5, 1_000])
def test_messages_of_mongodb_are_named_by_their_commands(size: int) -> None:
    said = (
        _mongo(
            2004, struct.pack("<i", 0) + b"admin.$cmd\0" + struct.pack("<ii", 0, -1) + _document(b"ismaster")
        )
        + _mongo(2013, struct.pack("<i", 0) + b"\0" + _document(b"insert"))
        + _mongo(2012, b"compressed")
    )
    wire = MongoWire()
    assert _names(wire, _in_pieces(said, size)) == ["ismaster", "insert", "opcode 2012"]
    assert _names(wire, _in_pieces(_mongo(1, b"ok"), size), of_client=False) == ["reply"]


def test_of_another_wire_nothing_is_known() -> None:
    wire = wire_of("redis")
    assert _names(wire, [b"any", b"thing"]) == ["bytes", "bytes"]
    assert _names(wire, [b"back"], of_client=False) == ["bytes"]
