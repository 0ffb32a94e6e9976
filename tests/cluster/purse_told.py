"""What `purse_node` tells."""

from __future__ import annotations

import msgspec


class Told(msgspec.Struct):
    """What came of a command."""

    outcome: str
    text: str = ""
    version: int = 0
