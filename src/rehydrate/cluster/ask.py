"""One command that is run somewhere: its copies, and what may be said of it when some of them were never answered."""

from __future__ import annotations

from typing import Any, NamedTuple

from rehydrate.cluster.table import WIRE, Ownership
from rehydrate.cluster.wire import COMMAND, STATE, Request
from rehydrate.codec.aggregate import AggregateCodecs
from rehydrate.domain.envelope import CommandResult
from rehydrate.domain.rejection import Rejection
from rehydrate.errors import ActorCrashedError, DuplicateCommandError, OutcomeUnknownError
from rehydrate.runtime.blueprint import Blueprint
from rehydrate.runtime.decision import describe
from rehydrate.runtime.mailbox import STATE_QUERY, Pending


class SentCopy(NamedTuple):
    """A copy that is under way."""

    owner: Ownership
    lost: int
    """How many had been lost when it was sent: of these it finds whatever they have stored."""


class Ask:
    """A command, or a question for a state, until its caller has an answer."""

    __slots__ = (
        "blueprint",
        "caused_at",
        "command",
        "data",
        "held",
        "held_since",
        "id",
        "is_over",
        "is_running_here",
        "kind",
        "lost",
        "open",
        "pending",
        "sent",
        "shard",
        "since",
        "stream",
        "tries",
        "waits_for",
    )

    def __init__(
        self, blueprint: Blueprint[Any, Any, Any], id: str, shard: int, pending: Pending, position: int
    ) -> None:
        self.blueprint = blueprint
        self.id = id
        self.shard = shard
        self.pending = pending
        self.stream = blueprint.aggregate.stream(id)
        self.kind = STATE if pending.command is STATE_QUERY else COMMAND
        self.caused_at = pending.caused_at if pending.is_given else position
        """A position before which no copy can have run; of an id that the caller chose only the caller can tell."""
        self.command = ""
        self.data: bytes | None = None
        self.sent = 0
        """The number of the last copy that went to another node."""
        self.open: dict[int, SentCopy] = {}
        """Those that may still be run."""
        self.lost = 0
        """Copies that cannot be run any more, and may have been: nobody has said what became of them."""
        self.held: Any = None
        """An outcome by which nothing was stored, until no other copy can store anything."""
        self.held_since = 0
        """How many copies had been lost when the run began that came to it."""
        self.waits_for = ""
        """The node whose answer is waited for."""
        self.since = 0.0
        self.tries = 0
        self.is_running_here = False
        self.is_over = False

    def encode(self) -> None:
        """Make the bytes that cross the wire.

        Raises `ActorCrashedError` for a command that cannot be encoded.
        """
        codecs: AggregateCodecs = self.blueprint.codecs
        if self.kind == STATE:
            # Where the state cannot cross, this is not called.
            assert codecs.state is not None
            self.data = codecs.state.fingerprint.encode()
            return
        command = self.pending.command
        self.command = codecs.commands.names[type(command)]
        try:
            self.data = codecs.commands.encode(command)
        except Exception as error:
            reason = f"it cannot be encoded for the node that owns it: {describe(error)}"
            raise ActorCrashedError(self.stream, type(command).__name__, reason) from error

    def copy(self, revision: int, remaining: float) -> Request:
        """One more copy for the owner of that revision."""
        pending = self.pending
        assert self.data is not None
        return Request(
            WIRE,
            self.kind,
            self.shard,
            revision,
            self.blueprint.name,
            self.id,
            pending.command_id,
            self.command,
            self.data,
            remaining,
            self.sent + 1,
            pending.is_given,
            pending.digest,
            self.caused_at,
            pending.metadata,
        )

    def run_here(self, remaining: float) -> Pending:
        """The command for an actor of this process."""
        pending = self.pending
        is_repeat = self.sent > 0 and self.kind == COMMAND
        return Pending(
            pending.command,
            pending.command_id,
            remaining,
            is_given=pending.is_given or is_repeat,
            caused_at=self.caused_at if pending.is_given or is_repeat else None,
            metadata=pending.metadata,
            digest=pending.digest,
        )

    def close_copy(self, copy: int, *, is_decided: bool) -> int:
        """Its owner has answered; how many copies had been lost when it was sent.

        An owner runs no copy that is older than one which it has answered. What it has decided, it has decided knowing what
        became of those; of anything else that it says, they know nothing.
        """
        answered = self.open.pop(copy, None)
        if answered is None:
            return -1
        older = [
            number
            for number, sent in self.open.items()
            if number < copy and sent.owner.node == answered.owner.node
        ]
        for number in older:
            del self.open[number]
        if not is_decided:
            self.lost += len(older)
        return answered.lost

    def lose_copies(self, node: str) -> int:
        """The node is gone, and decides nothing any more; how many copies it had got."""
        lost = [number for number, sent in self.open.items() if sent.owner.node == node]
        for number in lost:
            del self.open[number]
        self.lost += len(lost)
        return len(lost)

    def waits_at(self, node: str) -> bool:
        return any(sent.owner.node == node for sent in self.open.values())

    def stores_nothing(self, outcome: Any) -> bool:
        """Whether it was decided, on a state that holds no copy of the command, that there is nothing to store.

        A copy that has not been decided yet, elsewhere or here, might come to something else; and so might one have that
        was decided after this.
        """
        return self.kind == COMMAND and _stores_nothing(outcome)

    @property
    def may_yet_store(self) -> bool:
        """Whether a copy is somewhere where it may still be decided."""
        return bool(self.open) or self.is_running_here

    def speaks_for_itself(self, outcome: Any) -> bool:
        """Whether it says of one copy that it was not stored, and nothing of the others."""
        return (
            self.kind == COMMAND
            and isinstance(outcome, Exception)
            and not _stores_nothing(outcome)
            and not isinstance(outcome, (OutcomeUnknownError, DuplicateCommandError))
        )

    def final(self, outcome: Any) -> Any:
        """What the caller is told: that nothing was stored is not said by a run that does not speak for the others."""
        if (self.may_yet_store or self.lost) and self.speaks_for_itself(outcome):
            unknown = OutcomeUnknownError(self.stream, self.pending.command_id)
            unknown.__cause__ = outcome
            return unknown
        return outcome


def _stores_nothing(outcome: Any) -> bool:
    """Whether it was decided, on a state that holds no copy of the command, that there is nothing to store."""
    if isinstance(outcome, (Rejection, ActorCrashedError)):
        return True
    return outcome.__class__ is CommandResult and not outcome.events
