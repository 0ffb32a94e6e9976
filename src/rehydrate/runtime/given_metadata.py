"""The metadata that a caller gives with a command, as it is stored with its events."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from rehydrate.domain.envelope import Metadata, Scalar
from rehydrate.domain.streams import check_id
from rehydrate.errors import ConfigurationError
from rehydrate.runtime.mailbox import Pending


def encode_metadata(
    pending: Pending,
    correlation_id: str | None,
    causation_id: str | None,
    metadata: Mapping[str, Scalar] | None,
) -> bytes:
    """The metadata of the events, checked here: what was stored once can never be mended."""
    for kind, id in (("correlation id", correlation_id), ("causation id", causation_id)):
        if id is not None:
            check_id(id, kind)
    user = None if metadata is None else dict(metadata)
    try:
        encoded = msgspec.json.encode(
            Metadata(
                command_id=pending.command_id,
                correlation_id=correlation_id,
                causation_id=causation_id,
                fingerprint=pending.digest,
                user=user,
            )
        )
        back = msgspec.json.decode(encoded, type=Metadata).user
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"metadata={metadata!r} is not a mapping of str to JSON scalars: {error}"
        ) from error
    if back != user:
        raise ConfigurationError(f"metadata={metadata!r} does not come back as it is: it would be {back!r}")
    return encoded
