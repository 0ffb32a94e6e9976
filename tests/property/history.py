"""What was asked of the runtimes and what they answered, held against what is stored.

The truth is the log of the store. Each command carries its number in the metadata of its events, so that the log
shows which commands are there, whatever their ids are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import groupby, pairwise
from typing import Any

from rehydrate import (
    ActorCrashedError,
    CommandResult,
    CommandTimeoutError,
    DuplicateCommandError,
    MailboxFullError,
    OutcomeUnknownError,
    StoreClosedError,
    StoreUnavailableError,
    VersionConflictError,
)
from rehydrate.runtime.window import metadata_in
from rehydrate.store.port import Store, StoredEvent
from tests.property.ledger import Break, Command, Ledger, Overdrawn, decoded, events_of, states_of

NEVER_STORED = (CommandTimeoutError, MailboxFullError, StoreClosedError, VersionConflictError)
"""What an attempt may be answered with that says: this attempt stored nothing, and never will."""


class Fate(Enum):
    """What is known of an attempt."""

    WAITING = "waiting"
    STORED = "stored"
    """Acknowledged."""
    REFUSED = "refused"
    UNKNOWN = "unknown"
    """Its outcome is not known, but nothing decides it any more: at most an append is under way."""
    LEFT = "left"
    """Nobody waits for it, and its runtime may still decide it."""


@dataclass(eq=False, repr=False)
class Attempt:
    """A command on its way through one runtime."""

    sent: Sent
    node: object
    answer: asyncio.Future[CommandResult[Any]]
    floor: int
    """The version of its stream that had been shown when it was sent: what decides it is not older."""
    began: int
    history: int
    fate: Fate = Fate.WAITING
    ended: int = 0

    def __repr__(self) -> str:
        return f"<{self.node} steps {self.began}-{self.ended} {self.fate.value} {self.answer}>"


@dataclass(eq=False, repr=False)
class Sent:
    """A command, with all the attempts to run it."""

    number: int
    account: str
    command: Command
    id: str | None
    caused_at: int | None
    twins: list[Sent]
    """All commands that were sent with this id, this one among them."""
    attempts: list[Attempt] = field(default_factory=list[Attempt])
    result: CommandResult[Any] | None = None
    """Acknowledged, and not lost by bringing back an older log since."""
    acknowledged: int = 0
    """The step at which the result was first seen."""

    def __repr__(self) -> str:
        others = [twin.number for twin in self.twins if twin is not self]
        return f"<#{self.number} {self.command} id={self.id} others={others} {self.result} {self.attempts}>"

    @property
    def is_open(self) -> bool:
        """Whether it may be stored or not, as far as the answers tell."""
        return self.result is None and any(attempt.fate is not Fate.REFUSED for attempt in self.attempts)


@dataclass(eq=False)
class Question:
    """A state that was asked for."""

    account: str
    node: object
    answer: asyncio.Future[Ledger]
    floor: int
    history: int


class Log:
    """All that is stored, checked for what holds of every log."""

    def __init__(self, events: Sequence[StoredEvent]) -> None:
        self.events = events
        positions = [event.position for event in events]
        assert all(0 < a < b for a, b in pairwise(positions)), f"positions: {positions}"
        self.streams: dict[str, list[StoredEvent]] = {}
        for event in events:
            self.streams.setdefault(event.stream.partition("-")[2], []).append(event)
        self.states: dict[str, list[Ledger]] = {}
        self.commands: dict[int, list[StoredEvent]] = {}
        """By the command's number."""
        for account, stored in self.streams.items():
            versions = [event.version for event in stored]
            assert versions == list(range(1, len(stored) + 1)), f"versions of {account}: {versions}"
            self.states[account] = states_of(decoded(stored))
            assert all(state.balance >= 0 for state in self.states[account]), f"{account} was overdrawn"
            self._group(account, stored)

    def _group(self, account: str, stored: list[StoredEvent]) -> None:
        ids: set[str] = set()
        for metadata, events in groupby(stored, metadata_in):
            number = (metadata.user or {})["command"]
            assert isinstance(number, int)
            assert number not in self.commands, f"command {number} is there twice: {self.show(account)}"
            assert metadata.command_id not in ids, (
                f"id {metadata.command_id} is there twice: {self.show(account)}"
            )
            self.commands[number] = list(events)
            ids.add(metadata.command_id)

    def version(self, account: str) -> int:
        return len(self.streams.get(account, ()))

    def state(self, account: str, version: int) -> Ledger:
        return self.states.get(account, [Ledger()])[version]

    @property
    def position(self) -> int:
        return self.events[-1].position if self.events else 0

    def show(self, account: str) -> str:
        stored = self.streams.get(account, ())
        return f"{account}: " + ", ".join(
            f"{event.version}@{event.position} {event.type}{event.data.decode()} {event.metadata.decode()}"
            for event in stored
        )


async def read_log(store: Store) -> Log:
    events: list[StoredEvent] = []
    while True:
        page = await store.read_all(after=events[-1].position if events else 0)
        events += page.events
        if page.is_last:
            return Log(events)


class History:
    """Holds every answer against the log of the moment at which it was seen."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.questions: list[Question] = []
        self.floors: dict[str, int] = {}
        """The newest version of each stream that anybody has been shown."""
        self.number = 0
        """Another one after each return to an older log."""
        self.step = 0

    def add(
        self, account: str, command: Command, id: str | None, caused_at: int | None, of: Sent | None = None
    ) -> Sent:
        twins = of.twins if of is not None else []
        sent = Sent(len(self.sent), account, command, id, caused_at, twins)
        twins.append(sent)
        self.sent.append(sent)
        return sent

    def attempt(self, sent: Sent, node: object, answer: asyncio.Future[CommandResult[Any]]) -> Attempt:
        floor = self.floors.get(sent.account, 0)
        attempt = Attempt(sent, node, answer, floor, self.step, self.number)
        sent.attempts.append(attempt)
        return attempt

    def ask(self, account: str, node: object, answer: asyncio.Future[Ledger]) -> None:
        self.questions.append(Question(account, node, answer, self.floors.get(account, 0), self.number))

    @property
    def waiting(self) -> list[Attempt]:
        """The attempts that somebody waits for."""
        return [attempt for sent in self.sent for attempt in sent.attempts if attempt.fate is Fate.WAITING]

    # ---- what happens beside the answers

    def cancelled(self, attempt: Attempt) -> None:
        attempt.fate, attempt.ended = Fate.LEFT, self.step

    def killed(self, node: object) -> None:
        """That runtime decides nothing any more; what it has sent may still arrive."""
        for sent in self.sent:
            for attempt in sent.attempts:
                if attempt.node is node and attempt.fate in {Fate.WAITING, Fate.LEFT}:
                    attempt.fate, attempt.ended = Fate.UNKNOWN, self.step
        self.questions = [question for question in self.questions if question.node is not node]

    def settled(self, log: Log) -> None:
        """Nothing is under way anywhere: what is not there now never will be."""
        for sent in self.sent:
            for attempt in sent.attempts:
                if attempt.fate in {Fate.UNKNOWN, Fate.LEFT} and sent.number not in log.commands:
                    attempt.fate = Fate.REFUSED

    def went_back(self, log: Log) -> None:
        """An older log was brought back: what was acknowledged after it is gone, and may be sent again."""
        self.number += 1
        self.floors = {account: log.version(account) for account in log.streams}
        for sent in self.sent:
            if sent.caused_at is not None:
                sent.caused_at = min(sent.caused_at, log.position)
            if sent.result is not None and sent.result.events and sent.number not in log.commands:
                sent.result = None
                for attempt in sent.attempts:
                    attempt.fate = Fate.REFUSED if attempt.fate is Fate.STORED else attempt.fate

    # ---- what is checked after each step

    def check(self, log: Log) -> None:
        self.step += 1
        self._look_at_answers(log)
        for account, floor in self.floors.items():
            assert log.version(account) >= floor, (
                f"version {floor} of {account} was shown: {log.show(account)}"
            )
        for sent in self.sent:
            self._check(sent, log)

    def _look_at_answers(self, log: Log) -> None:
        for attempt in self.waiting:
            if attempt.answer.done():
                attempt.ended = self.step
                self._look(attempt, log)
        for question in self.questions:
            if question.answer.done():
                self._look_at_state(question, log)
        self.questions = [question for question in self.questions if not question.answer.done()]

    def _look(self, attempt: Attempt, log: Log) -> None:
        sent, error = attempt.sent, attempt.answer.exception()
        is_same_log = attempt.history == self.number
        match error:
            case None:
                result = attempt.answer.result()
                if is_same_log:
                    attempt.fate = Fate.STORED
                    self._acknowledged(attempt, result, log)
                else:
                    attempt.fate = Fate.UNKNOWN
            case Overdrawn():
                attempt.fate = Fate.REFUSED
                if is_same_log:
                    assert not self._is_repeat(attempt), f"{sent} was acknowledged, and then: {error!r}"
                    self._decided_against(attempt)
                    self._check_rejection(attempt, error.facts, log)
            case ActorCrashedError():
                assert isinstance(sent.command, Break), f"{sent} crashed: {error!r}"
                attempt.fate = Fate.REFUSED
            case DuplicateCommandError():
                attempt.fate = Fate.REFUSED
                if is_same_log:
                    assert not self._is_repeat(attempt), f"{sent} was acknowledged, and then: {error!r}"
                    assert any(_may_be_first(twin, attempt) for twin in sent.twins), f"{sent}: {error!r}"
            case OutcomeUnknownError():
                attempt.fate = Fate.UNKNOWN
                sent.id = error.command_id
            case StoreUnavailableError():
                assert error.stored is False, f"{sent} got an answer that is none: {error!r}"
                attempt.fate = Fate.REFUSED
            case _:
                assert isinstance(error, NEVER_STORED), f"{sent}: {error!r}"
                attempt.fate = Fate.REFUSED

    def _acknowledged(self, attempt: Attempt, result: CommandResult[Any], log: Log) -> None:
        sent = attempt.sent
        assert not isinstance(sent.command, Break), f"{sent} was accepted"
        assert result.events == events_of(sent.command), f"{sent}: {result}"
        if not result.events:
            assert attempt.floor <= result.version <= log.version(sent.account), f"{sent}: {result}"
            stored = log.streams.get(sent.account, [])[: result.version]
            assert result.position == (stored[-1].position if stored else 0), f"{sent}: {result}"
        if sent.result is None:
            sent.result, sent.acknowledged = result, self.step
        self._show(sent.account, result.version)

    @staticmethod
    def _is_repeat(attempt: Attempt) -> bool:
        """Whether the command was known to be stored when this attempt began."""
        sent = attempt.sent
        return sent.result is not None and sent.result.events != () and sent.acknowledged < attempt.began

    def _decided_against(self, refused: Attempt) -> None:
        """What ended before this attempt began can never land: the state that refused it is of a later version."""
        for attempt in refused.sent.attempts:
            if attempt.fate is Fate.UNKNOWN and attempt.ended < refused.began:
                attempt.fate = Fate.REFUSED

    def _check_rejection(self, attempt: Attempt, facts: dict[str, Any], log: Log) -> None:
        account, version = attempt.sent.account, facts["version"]
        assert attempt.floor <= version <= log.version(account), (
            f"{attempt.sent}: {facts}, {log.show(account)}"
        )
        assert log.state(account, version).balance == facts["balance"], (
            f"{attempt.sent}: {facts}, {log.show(account)}"
        )

    def _look_at_state(self, question: Question, log: Log) -> None:
        account, error = question.account, question.answer.exception()
        if error is not None:
            assert isinstance(error, (*NEVER_STORED, OutcomeUnknownError, StoreUnavailableError)), repr(error)
            return
        if question.history != self.number:
            return
        state = question.answer.result()
        assert question.floor <= state.version <= log.version(account), f"{question}, {log.show(account)}"
        assert state == log.state(account, state.version), f"{question}, {log.show(account)}"
        self._show(account, state.version)

    def _show(self, account: str, version: int) -> None:
        self.floors[account] = max(version, self.floors.get(account, 0))

    def _check(self, sent: Sent, log: Log) -> None:
        there = log.commands.get(sent.number, [])
        if there:
            assert decoded(there) == events_of(sent.command), f"{sent} is there in part: {there}"
        if sent.result is not None and sent.result.events:
            assert there, f"{sent} was acknowledged and is not there: {log.show(sent.account)}"
            place = (there[-1].version, there[-1].position)
            assert place == (sent.result.version, sent.result.position), f"{sent} is elsewhere: {there}"
        elif not sent.is_open:
            assert not there, f"{sent} was refused and is there: {there}"


def _may_be_first(twin: Sent, refused: Attempt) -> bool:
    """Whether a command may have used the id before another attempt was refused for that."""
    return twin is not refused.sent and (twin.result is not None or twin.is_open)
