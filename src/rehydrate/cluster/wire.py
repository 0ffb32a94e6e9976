"""What nodes say to each other, as arrays of MessagePack.

A message begins with the version of these forms, so that whoever speaks another one is told so.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec

from rehydrate.cluster.table import WIRE

COMMAND: Final = 0
STATE: Final = 1
PING: Final = 2


class Request(msgspec.Struct, array_like=True, gc=False):
    """A command, a question for a state, or a look at whether somebody is there."""

    wire: int
    kind: int
    shard: int = 0
    revision: int = 0
    """Of the ownership that it is meant for: no other owner may run this copy."""
    aggregate: str = ""
    id: str = ""
    command_id: str = ""
    type: str = ""
    data: bytes = b""
    """The command; of a question for a state the fingerprint of the state's type."""
    remaining: float = 0.0
    """Seconds until nobody waits any more."""
    copy: int = 1
    """Which copy of the command this is; an owner runs none after it has got a later one."""
    is_given: bool = False
    """Whether the caller chose the command id."""
    digest: str | None = None
    caused_at: int | None = None
    """A position before which no copy of it can have run."""
    metadata: bytes = b""


class Done(msgspec.Struct, array_like=True, tag=0, gc=False):
    """The command has its result."""

    wire: int
    version: int
    position: int
    events: list[tuple[str, bytes]]


class Stored(msgspec.Struct, array_like=True, tag=1, gc=False):
    """As `Done`, with events that are too large for the wire: they are read from the store."""

    wire: int
    version: int
    position: int
    count: int


class StateIs(msgspec.Struct, array_like=True, tag=2, gc=False):
    wire: int
    data: bytes


class Refused(msgspec.Struct, array_like=True, tag=3, gc=False):
    """The domain said no."""

    wire: int
    names: list[str]
    """Of its class, and of those that it derives from, nearest first."""
    content: bytes
    """Its arguments and attributes."""


class Failed(msgspec.Struct, array_like=True, tag=4, gc=False):
    """It ended in an error of Rehydrate."""

    wire: int
    names: list[str]
    content: bytes
    cause: str


class NotHere(msgspec.Struct, array_like=True, tag=5, gc=False):
    """This node has not run it, and will run neither this copy nor an earlier one that was meant for the same ownership."""

    wire: int
    reason: str
    seen: int = 0
    """The latest copy that it has got, if that is why."""


class RunYourself(msgspec.Struct, array_like=True, tag=6, gc=False):
    """This cannot cross the wire."""

    wire: int


class Pong(msgspec.Struct, array_like=True, tag=7, gc=False):
    wire: int


Reply: TypeAlias = Done | Stored | StateIs | Refused | Failed | NotHere | RunYourself | Pong

encode: Final = msgspec.msgpack.Encoder().encode
read_request: Final = msgspec.msgpack.Decoder(Request).decode
_read_reply: Final = msgspec.msgpack.Decoder(Reply).decode
_read_any: Final = msgspec.msgpack.Decoder().decode


def read_reply(data: bytes) -> Any:
    """A reply. Raises `msgspec.MsgspecError` for what is none of this version."""
    return _read_reply(data)


def wire_of(data: bytes) -> int | None:
    """The version that a request was written in."""
    try:
        return int(_read_any(data)[0])
    except (msgspec.MsgspecError, TypeError, ValueError, IndexError):
        return None


def not_here(reason: str, seen: int = 0) -> bytes:
    return encode(NotHere(WIRE, reason, seen))
