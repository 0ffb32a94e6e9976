"""What others ask of this node: commands for shards that it owns, answered when they are done."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from rehydrate.cluster import wire
from rehydrate.cluster.failures import as_reply
from rehydrate.cluster.membership import Membership
from rehydrate.cluster.shards import FOREIGN, MOVING, Shards
from rehydrate.cluster.table import WIRE
from rehydrate.cluster.wire import COMMAND, PING, STATE, Request
from rehydrate.codec.difference import difference
from rehydrate.domain.envelope import CommandResult
from rehydrate.errors import (
    ConfigurationError,
    MailboxFullError,
    StoreClosedError,
    UnknownAggregateError,
    UnknownCommandError,
)
from rehydrate.nats.connection import Connection
from rehydrate.runtime.blueprint import Blueprint
from rehydrate.runtime.decision import describe
from rehydrate.runtime.mailbox import STATE_QUERY, Pending
from rehydrate.runtime.runtime import Runtime

_log = logging.getLogger(__name__)

_ROOM: Final = 64 * 1024
"""Bytes of a message that are left for what is around its content."""
_KNOWN_REPEATS: Final = 50_000
"""How many commands that were repeated are remembered, so that a copy which comes late is not run."""
_UNSENT: Final = 1_000
"""Answers that are kept while there is no connection; for others the command is sent again."""
_AHEAD: Final = 1.0
"""Seconds to wait for news of an ownership that an asker has heard of already."""

E = TypeVar("E", bound=Exception)
Key: TypeAlias = tuple[str, str, str]


class Serving:
    """Runs what others send, and tells whoever is wrong here so."""

    def __init__(
        self, runtime: Runtime, connection: Connection, membership: Membership, shards: Shards, limit: int
    ) -> None:
        self._runtime = runtime
        self._connection = connection
        self._membership = membership
        self._shards = shards
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._under_way: dict[Key, list[str]] = {}
        """Where the answers to a command go that is being run."""
        self._latest: dict[Key, int] = {}
        self._latest_before: dict[Key, int] = {}
        """The last copy of each command that may have several."""
        self._unsent: deque[tuple[str, bytes]] = deque(maxlen=_UNSENT)
        """Answers that there was no connection for."""
        self._subscription: Any = None
        self._room = 0
        self.is_closing = False
        self.served = 0

    async def listen(self, node: str) -> None:
        """Be heard under this name, and no longer under the one before."""
        before = self._subscription
        client = self._connection.client
        self._room = self._connection.max_payload - _ROOM
        self._subscription = await client.subscribe(  # pyright: ignore[reportUnknownMemberType]
            f"{self._membership.subject}.node.{node}",
            cb=self._received,
            pending_msgs_limit=0,
            pending_bytes_limit=0,
        )
        if before is not None and before._conn is client:
            await before.unsubscribe()
        await client.flush()

    async def _received(self, message: Any) -> None:
        try:
            self._serve(message.data, message.reply)
        except Exception as error:  # noqa: BLE001 - the asker must hear of it
            _log.exception("a request of another node could not be served; this is a bug in Rehydrate")
            self._answer_failure(message.reply, error, "", "")

    def _serve(self, data: bytes, reply: str) -> None:
        try:
            request = wire.read_request(data)
        except msgspec.MsgspecError:
            request = Request(wire.wire_of(data) or 0, PING)
        if request.wire != WIRE:
            spoken = ConfigurationError(
                f"{self._membership.label} speaks version {WIRE} of the cluster's protocol, and was asked in version "
                f"{request.wire}: run one version in a cluster"
            )
            self._answer_failure(reply, spoken, "", "")
        elif request.kind == PING:
            self._connection.tell(reply, wire.encode(wire.Pong(WIRE)))
        else:
            self._admit(request, reply)

    def _admit(self, request: Request, reply: str) -> None:
        """Whatever becomes of this copy, no older one is run after it."""
        key = _key(request)
        latest = self._latest_of(key)
        if request.copy <= latest and key not in self._under_way:
            self._connection.tell(reply, wire.not_here("a later copy of it came before", latest))
            return
        if request.copy > 1 or request.is_given:
            # With an id of his own a caller may repeat a command himself, from any node: each of these counts from 1, and
            # is told where to go on.
            self._remember(key, max(request.copy, latest))
        self._run_or_refuse(request, reply)

    def _run_or_refuse(self, request: Request, reply: str) -> None:
        key = _key(request)
        waiting = self._under_way.get(key)
        if waiting is not None:
            waiting.append(reply)
        elif self.is_closing:
            self._refuse(reply, "it is leaving")
        elif self._shards.states[request.shard] == MOVING:
            self._shards.hold(request.shard, lambda: self._run_or_refuse(request, reply))
        elif not self._is_ours(request):
            self._refuse_or_wait(request, reply)
        elif request.copy < (latest := self._latest_of(key)):
            # While this one waited.
            self._connection.tell(reply, wire.not_here("a later copy of it came before", latest))
        else:
            self._run(request, key, reply)

    def _is_ours(self, request: Request) -> bool:
        membership = self._membership
        if not membership.is_member:
            membership.end_if_over()
            return False
        return (
            self._shards.states[request.shard] != FOREIGN
            and membership.table.given[request.shard].revision == request.revision
        )

    def _refuse_or_wait(self, request: Request, reply: str) -> None:
        """An asker may have heard first that this node has become the owner."""
        membership = self._membership
        if not membership.is_member or membership.table.given[request.shard].revision >= request.revision:
            self._refuse(reply, "another node owns the shard")
            return
        membership.look_soon()
        self._when_known(request, reply, self._loop.time() + _AHEAD)

    def _when_known(self, request: Request, reply: str, give_up: float) -> None:
        known = self._membership.table.given[request.shard].revision >= request.revision
        if known or self._loop.time() > give_up:
            if known:
                self._run_or_refuse(request, reply)
            else:
                self._refuse(reply, "this node has not heard of owning the shard")
        else:
            self._loop.call_later(0.01, self._when_known, request, reply, give_up)

    def _refuse(self, reply: str, reason: str) -> None:
        self._connection.tell(reply, wire.not_here(reason))

    # ----------------------------------------------------------------------------------------------------------- running

    def _run(self, request: Request, key: Key, reply: str) -> None:
        membership = self._membership
        if request.caused_at is not None:
            membership.position = max(membership.position, request.caused_at)
        stream = f"{request.aggregate}-{request.id}"
        try:
            blueprint = self._blueprint(request)
            if len(self._under_way) >= self._limit:
                raise MailboxFullError(stream, self._limit, "commands of other nodes under way")
            pending = self._pending(blueprint, request)
        except Exception as error:  # noqa: BLE001 - it is the answer
            self._answer_failure(reply, error, stream, request.type)
            return
        if pending is None:
            self._connection.tell(reply, wire.encode(wire.RunYourself(WIRE)))
            return
        self.served += 1
        self._under_way[key] = [reply]
        pending.moved = lambda: self._finish(key, wire.not_here("its actor had to leave"))
        self._deliver(blueprint, request, pending, key)

    def _deliver(
        self, blueprint: Blueprint[Any, Any, Any], request: Request, pending: Pending, key: Key
    ) -> None:
        stream = f"{request.aggregate}-{request.id}"

        def ended(outcome: asyncio.Future[Any]) -> None:
            if outcome.cancelled():
                self._finish(key, wire.not_here("it was cancelled"))
                return
            error = outcome.exception()
            self._finish(key, self._encoded(blueprint, request, outcome.result() if error is None else error))

        try:
            outcome = self._runtime.manager.deliver(blueprint, request.id, pending)
        except Exception as error:  # noqa: BLE001 - it is the answer
            self._finish(key, self._failure(error, stream, request.type))
            return
        if isinstance(outcome, asyncio.Future):
            future: asyncio.Future[Any] = outcome  # pyright: ignore[reportUnknownVariableType]
            future.add_done_callback(ended)
        else:
            self._finish(key, self._encoded(blueprint, request, outcome))

    def _blueprint(self, request: Request) -> Blueprint[Any, Any, Any]:
        known = self._runtime.blueprints
        blueprint = known.get(request.aggregate)
        if blueprint is None:
            raise self._named(UnknownAggregateError(request.aggregate, tuple(known)))
        return blueprint

    def _pending(self, blueprint: Blueprint[Any, Any, Any], request: Request) -> Pending | None:
        """The command as it goes into a mailbox; None for a state that cannot cross."""
        if request.kind == STATE:
            state = blueprint.codecs.state
            if state is None or state.fingerprint.encode() != request.data:
                return None
            return Pending(STATE_QUERY, request.command_id, request.remaining)
        commands = blueprint.codecs.commands
        if request.type not in commands.decoders:
            raise self._unknown(blueprint, request, "it is not declared there")
        try:
            command = commands.decoders[request.type](request.data)
        except Exception as error:
            raise self._unknown(
                blueprint, request, f"there it has another shape: {describe(error)}"
            ) from error
        return Pending(
            command,
            request.command_id,
            request.remaining,
            is_given=True,
            caused_at=request.caused_at,
            metadata=request.metadata,
            digest=request.digest,
        )

    def _unknown(
        self, blueprint: Blueprint[Any, Any, Any], request: Request, why: str
    ) -> UnknownCommandError:
        known = tuple(sorted(blueprint.codecs.commands.names.values()))
        return self._named(UnknownCommandError(blueprint.name, request.type, known), why)

    def _named(self, error: E, why: str = "it is not declared there") -> E:
        """With the name of this node, whose code may be older or newer than the asker's."""
        error.args = (f"{error.args[0]}; asked was {self._membership.label}, the node that owns it: {why}",)
        return error

    # --------------------------------------------------------------------------------------------------------- answering

    def _encoded(self, blueprint: Blueprint[Any, Any, Any], request: Request, outcome: Any) -> bytes:
        stream = f"{request.aggregate}-{request.id}"
        try:
            if isinstance(outcome, StoreClosedError) and self.is_closing:
                return wire.not_here("it is leaving")
            if isinstance(outcome, BaseException):
                return self._failure(outcome, stream, request.type)
            if request.kind == COMMAND:
                return self._encoded_result(blueprint, outcome)
            return self._encoded_state(blueprint, outcome)
        except Exception as error:  # noqa: BLE001 - an answer must go out, whatever the user's classes do
            return self._failure(error, stream, request.type)

    def _encoded_result(self, blueprint: Blueprint[Any, Any, Any], result: CommandResult[Any]) -> bytes:
        membership = self._membership
        membership.position = max(membership.position, result.position)
        names, encode = blueprint.codecs.events.names, blueprint.encode
        events = [(names[type(event)], encode(event)) for event in result.events]
        done = wire.encode(wire.Done(WIRE, result.version, result.position, events))
        if len(done) <= self._room:
            return done
        return wire.encode(wire.Stored(WIRE, result.version, result.position, len(events)))

    def _encoded_state(self, blueprint: Blueprint[Any, Any, Any], state: Any) -> bytes:
        codec = blueprint.codecs.state
        assert codec is not None
        try:
            data = codec.encode(state)
            if len(data) <= self._room and not difference(state, codec.decode(data)):
                return wire.encode(wire.StateIs(WIRE, data))
        except Exception as error:  # noqa: BLE001 - whatever the user's classes raise, the asker can fold the state itself
            _log.debug("a state of %s does not cross the wire: %s", blueprint.name, error)
        return wire.encode(wire.RunYourself(WIRE))

    def _failure(self, error: BaseException, stream: str, command: str) -> bytes:
        return wire.encode(as_reply(error, stream, command, self._membership.label))

    def _answer_failure(self, reply: str, error: BaseException, stream: str, command: str) -> None:
        self._connection.tell(reply, self._failure(error, stream, command))

    def _finish(self, key: Key, answer: bytes) -> None:
        if len(answer) > self._room:
            # A refusal or an error with large facts: whoever asks comes to the same, for nothing of it was stored.
            answer = wire.encode(wire.RunYourself(WIRE))
        for reply in self._under_way.pop(key, ()):
            if self._connection.is_connected:
                self._connection.tell(reply, answer)
            else:
                self._unsent.append((reply, answer))

    def regained(self) -> None:
        """The connection is back: give the answers that were come to meanwhile, for which others wait."""
        while self._unsent:
            self._connection.tell(*self._unsent.popleft())

    def _latest_of(self, key: Key) -> int:
        return self._latest.get(key, self._latest_before.get(key, 0))

    def _remember(self, key: Key, copy: int) -> None:
        self._latest[key] = copy
        if len(self._latest) >= _KNOWN_REPEATS:
            self._latest_before, self._latest = self._latest, {}

    def count_under_way(self) -> int:
        return len(self._under_way)


def _key(request: Request) -> Key:
    return request.aggregate, request.id, request.command_id
