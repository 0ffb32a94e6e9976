"""Commands that belong to other nodes: sent to the owner of their shard, or run here when nobody is there to take them.

Whatever is sent twice carries the same id and the same `caused_at`, so an actor that decides it looks for it first in all
that its stream has got since then: it is stored once, however many copies there are and however late one is.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from rehydrate.clock import Clock, Timer
from rehydrate.cluster import wire
from rehydrate.cluster.ask import Ask, SentCopy
from rehydrate.cluster.failures import error_from, rejection_from
from rehydrate.cluster.membership import Membership
from rehydrate.cluster.shards import MOVING, Shards
from rehydrate.cluster.table import WIRE, Ownership
from rehydrate.cluster.wire import PING, STATE
from rehydrate.domain.envelope import CommandResult
from rehydrate.domain.rejection import Rejection
from rehydrate.domain.streams import check_id
from rehydrate.errors import (
    CommandTimeoutError,
    MailboxFullError,
    OutcomeUnknownError,
    RehydrateError,
    StoreUnavailableError,
)
from rehydrate.nats.connection import Connection, NotAnswered
from rehydrate.runtime.blueprint import Blueprint
from rehydrate.runtime.mailbox import Pending, reply
from rehydrate.runtime.rehydration import decode_event
from rehydrate.runtime.runtime import Runtime
from rehydrate.store.port import every_event

_SWEEP_EVERY: Final = 0.1
_GRACE: Final = 0.25
"""Seconds after a deadline in which the owner may still tell what became of the command."""
_TRIES: Final = 8
"""Owners that say it is not theirs, one after the other; then it is run here."""
_SLOWEST: Final = 1
"""How often the time doubles after which a command that is not answered is sent again: whoever has it under way notes
one more place for the answer, so it costs little, and it is what a caller waits for whose answer was lost."""
_FIRST_PAUSE: Final = 0.005
_ROOM: Final = 64 * 1024


class Asking:
    """All commands of this node's callers that are run through other nodes."""

    def __init__(
        self,
        runtime: Runtime,
        connection: Connection,
        membership: Membership,
        shards: Shards,
        clock: Clock,
        limit: int,
    ) -> None:
        self._runtime = runtime
        self._connection = connection
        self._membership = membership
        self._shards = shards
        self._clock = clock
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._asks: set[Ask] = set()
        self._silent: set[str] = set()
        """Nodes that have not answered in time: what is theirs is run here until they do."""
        self._pinged: dict[str, float] = {}
        self._sweep: Timer | None = None
        self._finished: asyncio.Future[None] | None = None
        self._reads: set[asyncio.Task[None]] = set()
        self.routed = 0

    def route(self, shard: int, blueprint: Blueprint[Any, Any, Any], id: str, pending: Pending) -> Any:
        """Have a command run by whoever owns its shard. A future of what comes of it."""
        check_id(id)
        if pending.future is None:
            if len(self._asks) >= self._limit:
                raise MailboxFullError(
                    blueprint.aggregate.stream(id), self._limit, "commands under way to other nodes"
                )
            pending.future = self._loop.create_future()
            pending.deadline = self._clock.monotonic() + pending.timeout
        ask = Ask(blueprint, id, shard, pending, self._membership.position)
        self._asks.add(ask)
        if self._sweep is None:
            self._sweep = self._clock.call_later(_SWEEP_EVERY, self._look_at_all)
        self._step(ask)
        return pending.future

    def _step(self, ask: Ask) -> None:
        """Do the next thing that can bring an answer."""
        if ask.is_over or ask.is_running_here:
            return
        if ask.held is not None:
            self._ask_for_held(ask)
            return
        if self._shards.states[ask.shard] == MOVING:
            self._shards.hold(ask.shard, lambda: self._step(ask))
            return
        if ask.pending.deadline <= self._clock.monotonic():
            self._give_up(ask)
            return
        owner = self._membership.table.owner(ask.shard)
        if (
            owner is None
            or owner.node == self._membership.node
            or owner.node in self._silent
            or not self._connection.is_connected
            or ask.tries >= _TRIES
            or (ask.kind == STATE and ask.blueprint.codecs.state is None)
        ):
            self._run_here(ask)
        else:
            self._send(ask, owner)

    # ----------------------------------------------------------------------------------------------------------- sending

    def _send(self, ask: Ask, owner: Ownership) -> None:
        now = self._clock.monotonic()
        remaining = ask.pending.deadline - now
        if ask.data is None:
            try:
                ask.encode()
            except RehydrateError as error:
                self._finish(ask, error)
                return
        request = wire.encode(ask.copy(owner.revision, max(remaining, 0.001)))
        if len(request) > self._connection.max_payload - _ROOM:
            self._run_here(ask)
            return
        if ask.sent == 0:
            self.routed += 1
        ask.sent += 1
        copy = ask.sent
        ask.open[copy] = SentCopy(owner, ask.lost)
        ask.waits_for = owner.node
        ask.since = now

        def answered(message: Any) -> bool:
            self._answered(ask, copy, owner.node, message)
            return False

        self._connection.call(
            self._subject(owner.node), request, answered, timeout=max(remaining, 0.0) + 2 * _GRACE
        )

    def _subject(self, node: str) -> str:
        return f"{self._membership.subject}.node.{node}"

    def _answered(self, ask: Ask, copy: int, node: str, message: Any) -> None:
        if ask.is_over:
            return
        if isinstance(message, NotAnswered):
            self._not_answered(ask, copy, node, message)
            return
        self._silent.discard(node)
        try:
            answer = self._read_answer(ask, message.data)
        except Exception as error:  # noqa: BLE001 - another version, or other code
            answer = OutcomeUnknownError(ask.stream, ask.pending.command_id)
            answer.__cause__ = error
        is_decided = not isinstance(answer, wire.NotHere | wire.RunYourself) and not ask.speaks_for_itself(
            answer
        )
        since = ask.close_copy(copy, is_decided=is_decided)
        if ask.waits_for == node and not ask.waits_at(node):
            ask.waits_for = ""
        self._take(ask, answer, since)

    def _not_answered(self, ask: Ask, copy: int, node: str, message: NotAnswered) -> None:
        if not message.is_sent or message.has_nobody:
            # This copy has reached nobody, and never will.
            ask.open.pop(copy, None)
            if message.has_nobody:
                self._fell_silent(node)
            if ask.held is not None:
                self._tell_held(ask)
            elif ask.waits_for and copy == ask.sent:
                ask.waits_for = ""
                self._run_here(ask)
        elif not self._connection.is_connected and copy == ask.sent:
            # When the connection is back it goes out again; `_look_at_all` does not wait for ever.
            ask.waits_for = ""
            ask.since = self._clock.monotonic()

    def _read_answer(self, ask: Ask, data: bytes) -> Any:
        """What the owner says, as the caller is to get it where it is that."""
        answer = wire.read_reply(data)
        if isinstance(answer, wire.Done):
            decoders = ask.blueprint.decoders
            events = tuple([decoders[name](event) for name, event in answer.events])
            return CommandResult(answer.version, answer.position, events)
        if isinstance(answer, wire.StateIs):
            assert ask.blueprint.codecs.state is not None
            return ask.blueprint.codecs.state.decode(answer.data)
        if isinstance(answer, wire.Refused):
            return rejection_from(answer, ask.blueprint.codecs.rejections)
        if isinstance(answer, wire.Failed):
            return error_from(answer)
        return answer

    def _take(self, ask: Ask, answer: Any, since: int) -> None:
        if isinstance(answer, wire.NotHere):
            ask.sent = max(ask.sent, answer.seen)
            if not ask.is_running_here and not ask.waits_for:
                self._again(ask)
        elif isinstance(answer, wire.RunYourself):
            self._run_here(ask)
        elif isinstance(answer, wire.Stored):
            self._heard_of(answer.position)
            self._read(ask, answer)
        else:
            if isinstance(answer, CommandResult):
                self._heard_of(answer.position)
            self._settle(ask, answer, since)

    def _heard_of(self, position: int) -> None:
        self._membership.position = max(self._membership.position, position)

    def _again(self, ask: Ask) -> None:
        """Whoever had it does not run it: to the next owner, after a look at who that is."""
        if ask.held is not None:
            self._tell_held(ask)
            return
        ask.tries += 1
        self._membership.look_soon()
        if ask.tries == 1 and self._shards.states[ask.shard] == MOVING:
            self._step(ask)
        else:
            self._clock.call_later(_FIRST_PAUSE * 2 ** min(ask.tries, 6), lambda: self._step(ask))

    # ----------------------------------------------------------------------------------------------------- running here

    def _run_here(self, ask: Ask) -> None:
        """Under the fence of the store, which lets nothing be decided twice."""
        if ask.is_over or ask.is_running_here:
            return
        if ask.held is not None:
            self._tell_held(ask)
            return
        remaining = ask.pending.deadline - self._clock.monotonic()
        pending = ask.run_here(max(remaining, 0.001))
        pending.moved = lambda: self._given_back(ask)
        ask.is_running_here = True
        ask.waits_for = ""
        since = ask.lost
        try:
            outcome = self._runtime.manager.deliver(ask.blueprint, ask.id, pending)
        except (Rejection, RehydrateError) as error:
            self._ran_here(ask, error, since)
            return
        if isinstance(outcome, asyncio.Future):
            future: asyncio.Future[Any] = outcome  # pyright: ignore[reportUnknownVariableType]
            future.add_done_callback(lambda ended: self._ran_here(ask, _outcome_of(ended), since))
        else:
            self._ran_here(ask, outcome, since)

    def _ran_here(self, ask: Ask, outcome: Any, since: int) -> None:
        ask.is_running_here = False
        if not ask.is_over:
            self._settle(ask, outcome, since)

    def _given_back(self, ask: Ask) -> None:
        """The actor had to leave before it was decided."""
        ask.is_running_here = False
        self._again(ask)

    # ---------------------------------------------------------------------------------------------------------- settling

    def _settle(self, ask: Ask, outcome: Any, since: int) -> None:
        """A run has ended that began when so many copies had been lost."""
        if ask.stores_nothing(outcome):
            ask.held, ask.held_since = outcome, since
            self._tell_held(ask)
        elif not ask.speaks_for_itself(outcome):
            self._finish(ask, ask.final(outcome))
        elif ask.held is not None:
            # That copy stored nothing, and never will.
            self._tell_held(ask)
        elif not ask.is_running_here and not ask.waits_for:
            self._finish(ask, ask.final(outcome))

    def _tell_held(self, ask: Ask) -> None:
        """Tell that nothing was stored, if it is so.

        Not while another copy may still come to something else. And where one was lost after the run had begun, it may have
        stored the command after the run had found nothing: then it is asked once more.
        """
        if ask.may_yet_store:
            return
        if ask.held_since == ask.lost:
            self._finish(ask, ask.held)
        else:
            ask.held = None
            self._step(ask)

    def _finish(self, ask: Ask, outcome: Any) -> None:
        if ask.is_over:
            return
        ask.is_over = True
        ask.held = None
        self._asks.discard(ask)
        if isinstance(outcome, Exception):
            outcome.__traceback__ = None
        reply(ask.pending, outcome)
        if not self._asks:
            self._all_done()

    def _all_done(self) -> None:
        if self._finished is not None and not self._finished.done():
            self._finished.set_result(None)

    def _read(self, ask: Ask, stored: wire.Stored) -> None:
        """The events were too large for the wire: they are in the store."""
        task = self._loop.create_task(self._read_events(ask, stored))
        self._reads.add(task)
        task.add_done_callback(self._reads.discard)

    async def _read_events(self, ask: Ask, stored: wire.Stored) -> None:
        try:
            store = self._runtime.manager.store
            after = stored.version - stored.count
            events = [
                decode_event(ask.blueprint.decoders, event)
                async for event in every_event(store, ask.stream, after=after, limit=stored.count)
            ]
            if len(events) != stored.count:
                raise StoreUnavailableError(f"{ask.stream} does not show version {stored.version} yet")
        except Exception as error:  # noqa: BLE001 - it was stored, and cannot be shown
            unknown = OutcomeUnknownError(ask.stream, ask.pending.command_id)
            unknown.__cause__ = error
            self._finish(ask, unknown)
        else:
            self._finish(ask, CommandResult(stored.version, stored.position, tuple(events)))

    # ---------------------------------------------------------------------------------------------------- what happens

    def gone(self, nodes: set[str]) -> None:
        """These nodes have no lease any more, and decide nothing of what was sent to them."""
        self._silent -= nodes
        for node in nodes:
            self._pinged.pop(node, None)
        for ask in list(self._asks):
            if not sum([ask.lose_copies(node) for node in nodes]):
                continue
            if ask.held is not None:
                self._tell_held(ask)
            elif ask.waits_for in nodes or not ask.waits_for:
                ask.waits_for = ""
                self._step(ask)

    def regained(self) -> None:
        """The connection is back: what was under way goes out again."""
        for ask in list(self._asks):
            if ask.sent and not ask.waits_for:
                self._step(ask)

    def _look_at_all(self) -> None:
        self._sweep = None
        now = self._clock.monotonic()
        patience = self._membership.address.patience
        for ask in list(self._asks):
            if ask.pending.deadline + _GRACE <= now:
                self._expire(ask, now)
            elif ask.sent and not ask.is_running_here:
                self._look_at(ask, now, now - ask.since, patience)
        for node in list(self._silent):
            self._ping(node, now)
        if self._asks or self._silent:
            self._sweep = self._clock.call_later(_SWEEP_EVERY, self._look_at_all)

    def _look_at(self, ask: Ask, now: float, waited: float, patience: float) -> None:
        if ask.waits_for and ask.held is None and waited >= patience / 4:
            self._ping(ask.waits_for, now)
        if not ask.waits_for and ask.held is None:
            if waited >= patience:
                self._run_here(ask)
        elif waited >= patience * 2 ** min(ask.sent - 1, _SLOWEST) and self._connection.is_connected:
            # It may be that it never came there, or that its answer was lost: a server of NATS has died on the way.
            self._step(ask)

    def _expire(self, ask: Ask, now: float) -> None:
        # An actor of this process keeps the deadline by itself.
        if not ask.is_running_here or ask.pending.deadline + 4 * _GRACE <= now:
            self._give_up(ask)

    def _give_up(self, ask: Ask) -> None:
        is_unknown = ask.open or ask.lost or ask.is_running_here
        error = OutcomeUnknownError if is_unknown else CommandTimeoutError
        self._finish(ask, error(ask.stream, ask.pending.command_id))

    def _ping(self, node: str, now: float) -> None:
        """Ask whether a node is there at all: a command may take its time, this does not."""
        patience = self._membership.address.patience
        if now - self._pinged.get(node, float("-inf")) < patience / 2:
            return
        self._pinged[node] = now

        def answered(message: Any) -> bool:
            if not isinstance(message, NotAnswered):
                self._silent.discard(node)
                for ask in list(self._asks):
                    if ask.held is not None and ask.waits_at(node):
                        self._ask_for_held(ask)
            elif self._connection.is_connected and node in self._membership.table.nodes:
                self._fell_silent(node)
            return False

        self._connection.call(
            self._subject(node), wire.encode(wire.Request(WIRE, PING)), answered, timeout=patience
        )

    def _ask_for_held(self, ask: Ask) -> None:
        """Have those say what became of the copies that they have got, who may still run them."""
        for owner in {sent.owner.node: sent.owner for sent in ask.open.values()}.values():
            self._send(ask, owner)

    def _fell_silent(self, node: str) -> None:
        if node in self._membership.table.nodes:
            self._silent.add(node)
        for ask in list(self._asks):
            if ask.waits_for == node:
                self._run_here(ask)

    async def finish(self, within: float) -> None:
        """Wait until every caller has an answer, for so many seconds at most."""
        if self._asks:
            self._finished = self._loop.create_future()
            timer = self._clock.call_later(within, self._all_done)
            await self._finished
            timer.cancel()

    def abandon(self) -> None:
        """Whoever still waits is told what is true by now."""
        for ask in list(self._asks):
            self._give_up(ask)
        if self._sweep is not None:
            self._sweep.cancel()
        for task in self._reads:
            task.cancel()


def _outcome_of(future: asyncio.Future[Any]) -> Any:
    if future.cancelled():
        return StoreUnavailableError("the command was given up", stored=None)
    error = future.exception()
    return future.result() if error is None else error
