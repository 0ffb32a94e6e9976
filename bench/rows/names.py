"""Names of contestants who stand in rows of several families."""

from __future__ import annotations

from typing import Final

REHYDRATE: Final = "Rehydrate"
ON_UVLOOP: Final = "Rehydrate, uvloop"
PEER: Final = "eventsourcing"
"""In its fastest setting wherever it has commands to do; where it is asked to rehydrate, without a cache."""
PEER_CACHED: Final = "eventsourcing, cached"
PEER_PLAIN: Final = "eventsourcing, plain"
BARE_STORE: Final = "bare store"
DRIVER: Final = "the driver"
ONE_BY_ONE: Final = "one INSERT a commit"
FOLD: Final = "fold, decoded events"
