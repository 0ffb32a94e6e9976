"""Where a message ends on the wire of PostgreSQL and of MongoDB, and what it is called.

As much of the two protocols as a proxy needs that stops between two messages, or in the middle of one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message, or, on a wire that nothing is known of, bytes as they came."""

    name: str
    """As the protocol's documentation calls it: `Bind`, `Sync`; in MongoDB the command: `insert`."""
    data: bytes
    from_client: bool
    connection: int
    """Connections are numbered in the order in which they were opened, from 1."""


class Wire(Protocol):
    """What is known of the two directions of one connection."""

    background: ClassVar[frozenset[str]]
    """What a driver sends by itself, at any time."""
    last_of_answer: ClassVar[str | None]
    """The message after which the server has said all that it had to say to a request; None for every message."""

    def from_client(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        """The messages, with their names, that are complete with this data."""
        ...

    def from_server(self, data: bytes) -> Iterator[tuple[str, bytes]]: ...


class BytesWire:
    """Nothing is known: bytes pass as they come, under the name `bytes`."""

    background: ClassVar[frozenset[str]] = frozenset()
    last_of_answer: ClassVar[str | None] = None

    def from_client(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        yield "bytes", data

    from_server = from_client


_STARTUP: Final = {80877102: "CancelRequest", 80877103: "SSLRequest", 80877104: "GSSENCRequest"}
"""What a client may send first, by the number that stands where a protocol version would."""
_FROM_CLIENT: Final = {
    b"B": "Bind",
    b"C": "Close",
    b"D": "Describe",
    b"E": "Execute",
    b"F": "FunctionCall",
    b"H": "Flush",
    b"P": "Parse",
    b"Q": "Query",
    b"S": "Sync",
    b"X": "Terminate",
    b"c": "CopyDone",
    b"d": "CopyData",
    b"f": "CopyFail",
    b"p": "Password",
}
_FROM_SERVER: Final = {
    b"1": "ParseComplete",
    b"2": "BindComplete",
    b"3": "CloseComplete",
    b"A": "NotificationResponse",
    b"C": "CommandComplete",
    b"D": "DataRow",
    b"E": "ErrorResponse",
    b"G": "CopyInResponse",
    b"H": "CopyOutResponse",
    b"I": "EmptyQueryResponse",
    b"K": "BackendKeyData",
    b"N": "NoticeResponse",
    b"R": "Authentication",
    b"S": "ParameterStatus",
    b"T": "RowDescription",
    b"Z": "ReadyForQuery",
    b"c": "CopyDone",
    b"d": "CopyData",
    b"n": "NoData",
    b"s": "PortalSuspended",
    b"t": "ParameterDescription",
    b"v": "NegotiateProtocolVersion",
}


class PostgresWire:
    """A type byte and a length; before them the client's start, which has no type byte.

    Encrypted traffic is passed on as `bytes`: let the proxy do the encryption, and it can be told apart.
    """

    background: ClassVar[frozenset[str]] = frozenset()
    last_of_answer: ClassVar[str | None] = "ReadyForQuery"

    def __init__(self) -> None:
        self._client = bytearray()
        self._server = bytearray()
        self._is_starting = True
        self._awaits_consent = False
        self._is_encrypted = False

    def from_client(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        self._client += data
        while self._client and not self._is_encrypted:
            size = self._size(self._client, 0 if self._is_starting else 1)
            if size is None:
                return
            message = _taken(self._client, size)
            yield self._name(message), message
        if self._client:
            yield "bytes", _taken(self._client, len(self._client))

    def from_server(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        self._server += data
        if self._awaits_consent and self._server:
            consent = _taken(self._server, 1)
            self._awaits_consent = False
            self._is_encrypted = consent in {b"S", b"G"}
            yield "Consent", consent
        while self._server and not self._is_encrypted:
            size = self._size(self._server, 1)
            if size is None:
                return
            message = _taken(self._server, size)
            yield _FROM_SERVER.get(message[:1], repr(message[:1])), message
        if self._server:
            yield "bytes", _taken(self._server, len(self._server))

    def _size(self, data: bytearray, head: int) -> int | None:
        """Of the first message, if it is there as a whole; its length does not count the type byte."""
        if len(data) < head + 4:
            return None
        size = head + int(struct.unpack_from(">i", data, head)[0])
        return size if len(data) >= size else None

    def _name(self, message: bytes) -> str:
        if not self._is_starting:
            return _FROM_CLIENT.get(message[:1], repr(message[:1]))
        name = _STARTUP.get(int(struct.unpack_from(">i", message, 4)[0]), "Startup")
        self._is_starting = name != "Startup"
        self._awaits_consent = name in {"SSLRequest", "GSSENCRequest"}
        return name


_OP_QUERY: Final = 2004
_OP_MSG: Final = 2013


class MongoWire:
    """A length, in a header of 16 bytes; a request is named by its command."""

    background: ClassVar[frozenset[str]] = frozenset(
        {"hello", "ismaster", "isMaster", "ping", "endSessions", "killCursors"}
    )
    last_of_answer: ClassVar[str | None] = None

    def __init__(self) -> None:
        self._client = bytearray()
        self._server = bytearray()

    def from_client(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        self._client += data
        while message := self._first(self._client):
            yield self._command(message), message

    def from_server(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        self._server += data
        while message := self._first(self._server):
            yield "reply", message

    def _first(self, data: bytearray) -> bytes:
        """Take the first message, or nothing while it is not there as a whole."""
        if len(data) < 4:
            return b""
        size = int(struct.unpack_from("<i", data)[0])
        return _taken(data, size) if len(data) >= size else b""

    def _command(self, message: bytes) -> str:
        """The name of the first element of the command: after its length and its type."""
        opcode = struct.unpack_from("<i", message, 12)[0]
        if opcode == _OP_MSG and message[20] == 0:
            start = 21
        elif opcode == _OP_QUERY:
            start = message.index(0, 20) + 1 + 8
        else:
            return f"opcode {opcode}"
        return message[start + 5 : message.index(0, start + 5)].decode()


def _taken(data: bytearray, size: int) -> bytes:
    """Take so many bytes off the front."""
    front = bytes(data[:size])
    del data[:size]
    return front


def wire_of(scheme: str) -> Wire:
    """What is known of the wire of a URL of that scheme."""
    match scheme:
        case "postgresql" | "postgres":
            return PostgresWire()
        case "mongodb":
            return MongoWire()
        case _:
            return BytesWire()
