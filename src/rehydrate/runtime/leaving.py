"""Actors that have to leave, because what they are of is to live in another process.

What was sent to the store is brought to its end here; what still waits is given back to the placement, which sends it
where it belongs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rehydrate.runtime.actor import AggregateActor
    from rehydrate.runtime.mailbox import Pending
    from rehydrate.runtime.manager import Actor, AggregateManager


class Departures:
    """Actors that have been taken out of reach and still have an append under way."""

    __slots__ = ("_manager", "_waiting", "actors")

    def __init__(self, manager: AggregateManager) -> None:
        self._manager = manager
        self.actors: set[Actor] = set()
        self._waiting: list[tuple[set[Actor], asyncio.Future[None]]] = []

    def send_away(self, actors: Iterable[Actor]) -> asyncio.Future[None]:
        """Have them leave at once; the future is done when nothing of theirs is under way any more."""
        leaving = {actor for actor in list(actors) if self._send_away(actor)}
        self.actors |= leaving
        done: asyncio.Future[None] = self._manager.loop.create_future()
        if leaving:
            self._waiting.append((leaving, done))
        else:
            done.set_result(None)
        return done

    def _send_away(self, actor: Actor) -> bool:
        """Whether something of it is still under way."""
        waiting, actor.mailbox = actor.mailbox or (), None
        is_under_way = actor.drain is not None
        if is_under_way:
            self._manager.detach(actor)
        else:
            self._manager.drop(actor)
        for pending in waiting:
            give_back(actor, pending)
        return is_under_way

    def rested(self, actor: Actor) -> None:
        """An actor has nothing left to do."""
        if actor not in self.actors:
            return
        self.actors.discard(actor)
        for leaving, done in self._waiting:
            leaving.discard(actor)
            if not leaving and not done.done():
                done.set_result(None)
        self._waiting = [waiting for waiting in self._waiting if waiting[0]]


def give_back(actor: AggregateActor[Any, Any, Any], pending: Pending) -> None:
    """A command of which nothing was stored, and never will be by this actor, goes where it belongs."""
    if pending.is_answered:
        return
    pending.searched = False
    placement = actor.blueprint.manager.placement
    if pending.moved is not None:
        pending.moved()
    elif placement is not None:
        placement.given_back(actor.blueprint, actor.id, pending)
