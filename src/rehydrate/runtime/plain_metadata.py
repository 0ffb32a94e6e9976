"""The metadata of events whose command came with nothing: an id that was made for it."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from rehydrate.clock import NewId, unique_bytes

_encode = msgspec.json.Encoder().encode


class _OfCommand(msgspec.Struct, frozen=True, gc=False):
    """`Metadata` with nothing else in it."""

    command_id: str


def metadata_of(command_id: str) -> bytes:
    """The metadata that names this command."""
    return _encode(_OfCommand(command_id))


def own_metadata(new_id: NewId | None) -> Iterator[bytes]:
    """Without end, each with a new command id. In the ids that are made here nothing has to be escaped."""
    if new_id is None:
        return unique_bytes('{"command_id":"', '"}')
    return map(metadata_of, iter(new_id, None))
