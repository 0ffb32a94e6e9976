"""Names of contestants who stand in rows of several families."""

from __future__ import annotations

from typing import Final

REHYDRATE: Final = "Rehydrate"
PEER: Final = "eventsourcing"
BARE_STORE: Final = "bare store"
DRIVER: Final = "the driver"
FOLD: Final = "fold, decoded events"
