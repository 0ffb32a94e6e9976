"""What a caller gives with a command, checked, and as it is stored with its events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from rehydrate.domain.envelope import Metadata, Scalar
from rehydrate.domain.quantities import check_place, check_seconds
from rehydrate.domain.streams import check_id, plain_id
from rehydrate.errors import ActorCrashedError, ConfigurationError
from rehydrate.runtime.blueprint import Blueprint
from rehydrate.runtime.decision import describe
from rehydrate.runtime.mailbox import Pending


def pending_of(
    blueprint: Blueprint[Any, Any, Any],
    id: str,
    command: object,
    timeout: float,
    command_id: str | None,
    caused_at: int | None,
    correlation_id: str | None,
    causation_id: str | None,
    metadata: Mapping[str, Scalar] | None,
) -> Pending:
    """A command with what its caller gave, all of it checked."""
    check_seconds("timeout", timeout)
    if command_id is None:
        if caused_at is not None:
            raise ConfigurationError(
                "caused_at= says how far back to look for a command_id=, so give that too"
            )
        pending = Pending(command, blueprint.new_id(), timeout)
        if correlation_id is None and causation_id is None and metadata is None:
            return pending
    else:
        command_id = plain_id(command_id, "command id")
        check_id(command_id, "command id")
        pending = Pending(command, command_id, timeout, is_given=True)
        pending.digest = _digest(blueprint, id, command)
        if caused_at is not None:
            pending.caused_at = _position(caused_at)
    pending.metadata = encode_metadata(
        pending.command_id, correlation_id, causation_id, metadata, fingerprint=pending.digest
    )
    return pending


def _digest(blueprint: Blueprint[Any, Any, Any], id: str, command: object) -> str:
    try:
        return blueprint.codecs.commands.digest(command)
    except Exception as error:
        reason = f"it cannot be encoded: {describe(error)}"
        raise ActorCrashedError(blueprint.aggregate.stream(id), type(command).__name__, reason) from error


def _position(caused_at: int) -> int:
    check_place("caused_at", caused_at, "position")
    if isinstance(caused_at, bool) or not isinstance(caused_at, int):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"caused_at={caused_at!r}: it must be a position, and so an int")
    return caused_at


def encode_metadata(
    command_id: str,
    correlation_id: str | None,
    causation_id: str | None,
    metadata: Mapping[str, Scalar] | None,
    *,
    fingerprint: str | None = None,
) -> bytes:
    """The metadata of the events, checked here: what was stored once can never be mended."""
    for kind, id in (("correlation id", correlation_id), ("causation id", causation_id)):
        if id is not None:
            check_id(id, kind)
    try:
        user = None if metadata is None else dict(metadata)
        encoded = msgspec.json.encode(
            Metadata(
                command_id=command_id,
                correlation_id=correlation_id,
                causation_id=causation_id,
                fingerprint=fingerprint,
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
