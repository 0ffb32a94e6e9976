"""Whether the views that are stored are of the type that this code declares."""

from __future__ import annotations

from typing import Any

from rehydrate.codec.json import JsonValueCodec
from rehydrate.domain.projection import Projection
from rehydrate.errors import ConfigurationError
from rehydrate.runtime.tenure import kept_in
from rehydrate.store.port import Checkpoint


def check_view_type(
    projection: Projection[Any, Any], codec: JsonValueCodec, checkpoint: Checkpoint | None
) -> None:
    """Raise `ConfigurationError` if they are of another."""
    if checkpoint is None or not checkpoint.position:
        return
    if kept_in(checkpoint).fingerprint != codec.fingerprint:
        raise ConfigurationError(
            f"projection {projection.name!r}: the type of its views is another than the one that is stored; "
            f"declare revision={projection.revision + 1}, which is built beside this one"
        )
