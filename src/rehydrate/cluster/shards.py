"""Which shards this node owns, the actors in each, and how a shard is handed over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from rehydrate.clock import Clock
from rehydrate.cluster.balance import plan
from rehydrate.cluster.membership import Membership, pause
from rehydrate.cluster.table import shard_of
from rehydrate.nats.connection import NotAnsweredError
from rehydrate.runtime.manager import Actor, AggregateManager

_log = logging.getLogger(__name__)

_STEP: Final = 0.25
"""Seconds between two looks at whether everybody has a fair share."""
_FINISH_WITHIN: Final = 5.0
"""Seconds that a hand-over waits for appends that are under way; beyond that, the fence sees to them."""
_CLAIMS: Final = 64
_MOVES: Final = 8
"""How many hand-overs are under way at a time: one that waits for its appends holds up no others."""

FOREIGN: Final = 0
OWNED: Final = 1
MOVING: Final = 2


class Shards:
    """The shards of one node: owned, being handed over, or somebody else's."""

    def __init__(self, manager: AggregateManager, clock: Clock) -> None:
        self._manager = manager
        self._clock = clock
        self._membership: Membership
        self.count = 0
        self.states = bytearray()
        self.owned = 0
        self._actors: list[set[Actor]] = []
        self._held: dict[int, list[Callable[[], None]]] = {}
        self._is_leaving = False
        self.wake = asyncio.Event()

    def use(self, membership: Membership) -> None:
        """Begin, once it is known how many there are."""
        self._membership = membership
        self.count = len(membership.table.given)
        self.states = bytearray(self.count)
        self._actors = [set() for _ in range(self.count)]

    def of(self, stream: str) -> int:
        return shard_of(stream, self.count)

    def started(self, actor: Actor) -> None:
        self._actors[self.of(actor.stream)].add(actor)

    def ended(self, actor: Actor) -> None:
        self._actors[self.of(actor.stream)].discard(actor)

    # --------------------------------------------------------------------------------------------------------- ownership

    def refresh(self, shards: Iterable[int] | None = None) -> None:
        """These shards were given to somebody: take over what is ours now, and let go of what no longer is."""
        node = self._membership.node
        given = self._membership.table.given
        for shard in range(self.count) if shards is None else shards:
            state = self.states[shard]
            is_ours = bool(node) and given[shard].node == node
            if is_ours and state == FOREIGN:
                self.states[shard] = OWNED
            elif not is_ours and state == OWNED:
                self.states[shard] = FOREIGN
                self._manager.departures.send_away(self._actors[shard])
        self.owned = self.states.count(OWNED)
        self.wake.set()

    def lose_all(self) -> None:
        """The lease has ended: every actor of what was owned leaves at once."""
        actors: list[Actor] = []
        for shard, state in enumerate(self.states):
            if state != FOREIGN:
                actors += self._actors[shard]
                self.states[shard] = FOREIGN
        self.owned = 0
        self._manager.departures.send_away(actors)
        for shard in list(self._held):
            self._release(shard)

    # ----------------------------------------------------------------------------------------------------------- holding

    def hold(self, shard: int, again: Callable[[], None]) -> None:
        """Call back when it is settled who owns the shard that is being handed over."""
        self._held.setdefault(shard, []).append(again)

    def _release(self, shard: int) -> None:
        for again in self._held.pop(shard, ()):
            again()

    # ------------------------------------------------------------------------------------------------------------ moving

    async def balance(self) -> None:
        """Claim what nobody owns, and hand over what is too much, for as long as this node is there."""
        while True:
            self.wake.clear()
            try:
                await self.step()
            except Exception:  # noqa: BLE001 - it is tried again
                _log.exception("shards could not be moved; this is a bug in Rehydrate")
            timer = self._clock.call_later(_STEP, self.wake.set)
            try:
                await self.wake.wait()
            finally:
                timer.cancel()

    async def step(self) -> None:
        """One small step towards a fair share."""
        membership = self._membership
        node = membership.node
        if not node or self._is_leaving:
            return
        leaving = [name for name, card in membership.table.nodes.items() if card.is_leaving]
        moves = plan(membership.table.shards_of(), leaving)
        claims = [move.shard for move in moves if move.giver is None and move.receiver == node]
        for start in range(0, len(claims), _CLAIMS):
            await asyncio.gather(*(membership.give(shard, node) for shard in claims[start : start + _CLAIMS]))
        if claims:
            membership.tell_of_change()
            return
        gifts = [move for move in moves if move.giver == node and self.states[move.shard] == OWNED]
        has_room = self.states.count(MOVING) < _MOVES
        if gifts and has_room and not any(move.giver is None for move in moves):
            membership.run(self.hand_over(gifts[0].shard, gifts[0].receiver))
            await pause(self._clock, 1 / membership.address.moves)
            self.wake.set()

    async def hand_over(self, shard: int, receiver: str) -> None:
        """Have the actors of a shard finish and leave, and name the new owner; what came meanwhile follows them."""
        membership = self._membership
        if self.states[shard] != OWNED:
            return
        self.states[shard] = MOVING
        try:
            left = self._manager.departures.send_away(self._actors[shard])
            await self._within(left)
            if self.states[shard] == MOVING and membership.is_member:
                if not await membership.give(shard, receiver):
                    await membership.look()
                membership.tell_of_change()
        except NotAnsweredError as error:
            _log.debug("it is not known whether shard %s was handed over: %s", shard, error)
        finally:
            if self.states[shard] == MOVING:
                self.states[shard] = FOREIGN
            self.refresh((shard,))
            self._release(shard)

    async def _within(self, left: asyncio.Future[None]) -> None:
        waited = asyncio.ensure_future(pause(self._clock, _FINISH_WITHIN))
        try:
            await asyncio.wait([left, waited], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waited.cancel()

    def stop_moving(self) -> None:
        """Neither claim nor hand over any more."""
        self._is_leaving = True

    async def leave(self) -> None:
        """Give everything to those who stay; the actors have ended."""
        membership = self._membership
        node = membership.node
        if not node:
            return
        leaving = [name for name, card in membership.table.nodes.items() if card.is_leaving]
        moves = plan(membership.table.shards_of(), [*leaving, node])
        gifts = [move for move in moves if move.giver == node]
        for start in range(0, len(gifts), _CLAIMS):
            await asyncio.gather(
                *(membership.give(move.shard, move.receiver) for move in gifts[start : start + _CLAIMS])
            )
        membership.tell_of_change()
