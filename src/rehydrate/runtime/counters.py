"""What a runtime has counted since it was opened."""

from __future__ import annotations

from rehydrate.domain.rejection import Rejection


class Counters:
    """Plain numbers, changed in place on the hot path; `Runtime.statistics` shows them."""

    __slots__ = ("conflicts", "dispatched", "failed", "passivated", "rehydrated", "rejected", "snapshots")

    def __init__(self) -> None:
        self.dispatched = 0
        self.rejected = 0
        self.failed = 0
        self.conflicts = 0
        self.rehydrated = 0
        self.passivated = 0
        self.snapshots = 0

    def count(self, error: Exception | None) -> None:
        """A command was answered."""
        if error is None:
            self.dispatched += 1
        elif isinstance(error, Rejection):
            self.dispatched += 1
            self.rejected += 1
        else:
            self.failed += 1
