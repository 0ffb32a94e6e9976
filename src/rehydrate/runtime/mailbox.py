"""What waits for an actor, and what becomes of it: the records that pass through a mailbox.

The garbage collector does not look at them: with a thousand commands in flight it would at most of what there is. So
none of them may be in a cycle once its command is answered, which `tests/runtime/test_what_is_kept.py` watches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from rehydrate.domain.envelope import CommandResult
from rehydrate.runtime.counters import Counters
from rehydrate.runtime.window import Seen, command_id_in
from rehydrate.store.port import NewEvent


class StateQuery:
    """Stands in the place of a command where a caller asks for the state: it waits its turn like one."""

    __slots__ = ()


STATE_QUERY = StateQuery()


class Pending(msgspec.Struct, gc=False):
    """A command from `dispatch` to its reply."""

    command: Any
    known_id: str
    """Its id; empty for one that nobody has asked for yet, and that `metadata` has."""
    timeout: float
    is_given: bool = False
    """Whether the caller named the id, so that it may be a repeat."""
    caused_at: int | None = None
    metadata: bytes = b""
    """Of its events, where the caller gave any of it; otherwise made with the first event."""
    deadline: float = 0.0
    """On the monotonic clock; set when the command has to wait."""
    future: asyncio.Future[Any] | None = None
    """Made when the command has to wait."""
    redecided: int = 0
    searched: bool = False
    """Whether the stream was read back as far as this command asks for."""
    seen: Seen | None = None
    """What that search found."""
    digest: str | None = None
    """Of the command; taken for ids that the caller gave."""
    moved: Callable[[], None] | None = None
    """Whom to tell, in place of the placement, if the actor has to leave before it has decided this."""

    @property
    def command_id(self) -> str:
        """Its id."""
        return self.known_id or command_id_in(self.metadata)

    @property
    def is_waiting(self) -> bool:
        """Whether somebody waits for the answer."""
        return self.future is not None and not self.future.done()

    @property
    def is_answered(self) -> bool:
        """Whether the caller has an answer; one that was cancelled has none."""
        return self.future is not None and self.future.done() and not self.future.cancelled()

    def put_back(self) -> None:
        """It will be decided again, on a stream that has grown: what was searched before does not count."""
        self.redecided += 1
        self.searched = False


class Answer(msgspec.Struct, gc=False):
    """What a command gets once its drain is settled."""

    pending: Pending
    version: int
    events: tuple[Any, ...] = ()
    error: Exception | None = None
    state: Any = None
    """For a `StateQuery`."""


class Drain(msgspec.Struct, eq=False, gc=False):
    """Commands of one actor decided together, each against the state that the one before it left."""

    state: Any
    version: int
    after: int
    """The version before the first of them."""
    after_position: int
    answers: list[Answer] = []
    events: list[NewEvent] = []
    size: int = 0
    """Bytes of data and metadata of the events."""
    by_id: dict[str, Answer] | None = None
    position: int = 0
    """Of the last event, once it is stored."""
    in_doubt: bool = False
    """Whether its append was sent and nobody knows what became of it."""
    tries: int = 0

    def take(
        self, pending: Pending, state: Any, events: list[NewEvent], decided: tuple[Any, ...], size: int
    ) -> None:
        """A command was decided: its events go out with the others."""
        self.state = state
        self.version += len(events)
        self.size += size
        self.events += events
        self.answers.append(Answer(pending, self.version, decided))

    def answer(self, pending: Pending, error: Exception) -> bool:
        """This is all that the command gets; nothing of it is stored. Always true: the command is dealt with."""
        self.answers.append(Answer(pending, self.version, error=error))
        return True

    def outcome(self, answer: Answer) -> Any:
        """What the caller gets: an error, a state, or the result with the place of the command's last event."""
        if answer.error is not None:
            return answer.error
        if answer.pending.command is STATE_QUERY:
            return answer.state
        if answer.version == self.after:
            return CommandResult(answer.version, self.after_position, answer.events)
        return CommandResult(answer.version, self.position - (self.version - answer.version), answer.events)

    def reply_all(self, counters: Counters) -> None:
        """Every answer is final: hand them out, once."""
        answers, self.answers = self.answers, []
        for answer in answers:
            pending = answer.pending
            if answer.error is None and (future := pending.future) is not None and not future.done():
                counters.dispatched += 1
                future.set_result(self.outcome(answer))
            elif not pending.is_answered:
                counters.count(answer.error)
                reply(pending, self.outcome(answer))


def reply(pending: Pending, answer: CommandResult[Any] | Exception | Any) -> None:
    """Hand the caller its answer, unless it has gone."""
    future = pending.future
    if future is None or future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
