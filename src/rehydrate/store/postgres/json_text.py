"""Lists on their way to PostgreSQL: as JSON, with bytes in base64."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

_encode = msgspec.json.Encoder().encode


def json_text(values: Sequence[object]) -> str:
    """A list as the driver takes it for `jsonb`."""
    return _encode(values).decode()
