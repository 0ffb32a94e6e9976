"""Where a command runs: the seam between a runtime and whatever decides which process owns a stream.

Without a placement every actor runs where it is asked for, which is correct on a shared store by the fence. A cluster
puts one here that routes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

if TYPE_CHECKING:
    from rehydrate.runtime.blueprint import Blueprint
    from rehydrate.runtime.mailbox import Pending
    from rehydrate.runtime.manager import Actor


class PlacementCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What `Statistics` shows of a placement."""

    nodes: int
    shards: int
    routed: int
    served: int


class Placement(Protocol):
    """Decides for each command whether it runs here. Called on the event loop, and never awaited on a command's way."""

    def deliver(self, blueprint: Blueprint[Any, Any, Any], id: str, pending: Pending) -> Any:
        """Have a command run, here or elsewhere: its result, or a future of it; raises what is known at once."""
        ...

    def given_back(self, blueprint: Blueprint[Any, Any, Any], id: str, pending: Pending) -> None:
        """A command that waited here for an actor that had to leave: nothing of it was stored. Its future stays."""
        ...

    def started(self, actor: Actor) -> None:
        """An actor begins here."""
        ...

    def ended(self, actor: Actor) -> None:
        """An actor has left."""
        ...

    def lapsed(self) -> None:
        """`AggregateManager.owned_until` has passed: the actors of what is no longer owned have to leave at once."""
        ...

    def counts(self) -> PlacementCounts: ...

    async def finish(self) -> None:
        """Take nothing more from others, and wait for what was sent to them; the actors still run."""
        ...

    async def leave(self) -> None:
        """Give up what is owned, and say good-bye; the actors have ended."""
        ...
