"""The checker: given all that callers saw, and the log as it is afterwards, what must not have happened."""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Literal, TypeAlias

import msgspec

from tests.faults.cluster.journal import Asked, Attempt, Failed, Refused, Shown, Stored

Kind: TypeAlias = Literal[
    "lost", "doubled", "torn", "moved", "refused", "denied", "stranger", "gap", "order", "stale", "early", "balance"
]  # fmt: skip


class Entry(msgspec.Struct, frozen=True):
    """An event of the log."""

    position: int
    account: str
    version: int
    command_id: str
    amount: int
    """What it changed the balance by."""


class Violation(msgspec.Struct, frozen=True):
    kind: Kind
    what: str


def violations(attempts: Sequence[Attempt], log: Sequence[Entry]) -> list[Violation]:
    """Everything that contradicts the promises. `log` is in the order in which the store read it."""
    history = _History(attempts, log)
    return [
        *history.gaps(),
        *history.commands(),
        *history.answers(),
        *history.freshness(),
        *history.real_time(),
    ]


class _History:
    def __init__(self, attempts: Sequence[Attempt], log: Sequence[Entry]) -> None:
        self.attempts = attempts
        self.log = log
        self.streams: defaultdict[str, list[Entry]] = defaultdict(list)
        self.by_command: defaultdict[str, list[Entry]] = defaultdict(list)
        for entry in log:
            self.streams[entry.account].append(entry)
            self.by_command[entry.command_id].append(entry)
        self.balances = {
            name: [0, *accumulate(entry.amount for entry in entries)]
            for name, entries in self.streams.items()
        }
        """Of each account, at each version."""
        self.by_id: defaultdict[str, list[Attempt]] = defaultdict(list)
        for attempt in attempts:
            if attempt.asked.is_command:
                self.by_id[attempt.asked.id].append(attempt)

    def gaps(self) -> Iterable[Violation]:
        """Positions rise, and the versions of each stream run 1, 2, 3."""
        for before, after in pairwise(self.log):
            if after.position <= before.position:
                yield Violation("gap", f"position {after.position} was read behind {before.position}")
        for name, entries in self.streams.items():
            for version, entry in enumerate(entries, start=1):
                if entry.version != version:
                    yield Violation("gap", f"{name}: {entry} where version {version} should be")
                    break

    def commands(self) -> Iterable[Violation]:
        """Each acknowledged command is there once and where it was said, each refused one nowhere, any other at most once."""
        for id in self.by_command.keys() - self.by_id.keys():
            yield Violation("stranger", f"{id} is there, and nobody sent it")
        for id, attempts in self.by_id.items():
            yield from self._command(id, attempts, self.by_command.get(id, []))

    def _command(self, id: str, attempts: list[Attempt], entries: list[Entry]) -> Iterable[Violation]:
        asked = attempts[0].asked
        answers = [attempt.answer for attempt in attempts]
        for answer in answers:
            if isinstance(answer, Stored):
                if not entries:
                    yield Violation("lost", f"{id} was acknowledged as {answer}, and is not there")
                elif (answer.version, answer.position) not in {(e.version, e.position) for e in entries}:
                    yield Violation("moved", f"{id} is {entries}, and was acknowledged as {answer}")
                elif (answer.version, answer.position) != (entries[-1].version, entries[-1].position):
                    yield Violation("moved", f"{id} ends elsewhere than {answer} says: {entries}")
            if isinstance(answer, Refused) and entries:
                yield Violation("refused", f"{id} was refused as {answer}, and is there: {entries}")
        if not entries:
            return
        if all(isinstance(answer, Failed) and answer.stored is False for answer in answers):
            yield Violation(
                "denied", f"{id} is there, and each answer said that nothing was stored: {answers}"
            )
        if len(entries) > asked.parts:
            yield Violation("doubled", f"{id} is there more than once: {entries}")
        elif len(entries) < asked.parts or not _is_whole(asked, entries):
            yield Violation("torn", f"{asked}: {entries}")

    def answers(self) -> Iterable[Violation]:
        """What an answer says of a state was the state at that version."""
        for asked, answer in self._with_version():
            balances = self.balances.get(asked.account, [0])
            if isinstance(answer, Stored):
                continue
            if answer.version >= len(balances):
                yield Violation("balance", f"{asked.account} never was at the version of {answer}")
            elif balances[answer.version] != answer.balance:
                yield Violation(
                    "balance", f"{asked.account} had {balances[answer.version]}, where {answer} was told"
                )
            elif isinstance(answer, Refused) and answer.balance >= -asked.amount:
                yield Violation("balance", f"{asked} was refused in spite of {answer}")

    def freshness(self) -> Iterable[Violation]:
        """No answer was decided on a state older than what anybody had been told before it was asked for."""
        told: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
        for asked, answer in self._with_version():
            told[asked.account].append((answer.at, answer.version))
        newest = {name: _running_maximum(answers) for name, answers in told.items()}
        for asked, answer in self._with_version():
            known = _newest_before(newest[asked.account], asked.at)
            # A repeat is answered with the first result, which may be an old one.
            is_repeat = isinstance(answer, Stored) and self.by_id[asked.id][0].asked.n != asked.n
            if not is_repeat and answer.version < known + isinstance(answer, Stored):
                yield Violation("stale", f"{asked} got {answer}, when version {known} had been told already")

    def real_time(self) -> Iterable[Violation]:
        """What was acknowledged before another command was first sent stands before it; nothing is shown before it is sent."""
        first_asked = {id: attempts[0].asked.at for id, attempts in self.by_id.items()}
        acknowledged = sorted(
            (answer.at, answer.position)
            for attempt in self.attempts
            if isinstance(answer := attempt.answer, Stored)
        )
        newest = _running_maximum(acknowledged)
        for id, entries in self.by_command.items():
            if id in first_asked:
                known = _newest_before(newest, first_asked[id])
                if entries[0].position <= known:
                    yield Violation(
                        "order", f"{id} stands before {known}, which was acknowledged before it was sent"
                    )
        for asked, answer in self._with_version():
            shown = self.streams.get(asked.account, [])[: answer.version]
            if shown and first_asked.get(shown[-1].command_id, 0.0) > answer.at:
                yield Violation("early", f"{answer} tells of {shown[-1]}, which had not been sent")

    def _with_version(self) -> Iterable[tuple[Asked, Stored | Refused | Shown]]:
        for attempt in self.attempts:
            if isinstance(attempt.answer, Stored | Refused | Shown):
                yield attempt.asked, attempt.answer


def _is_whole(asked: Asked, entries: Sequence[Entry]) -> bool:
    first = entries[0]
    return sum(entry.amount for entry in entries) == asked.amount and all(
        (entry.account, entry.version, entry.position)
        == (asked.account, first.version + n, first.position + n)
        for n, entry in enumerate(entries)
    )


def _running_maximum(told: Iterable[tuple[float, int]]) -> tuple[list[float], list[int]]:
    ordered = sorted(told)
    return [at for at, _ in ordered], list(accumulate((value for _, value in ordered), max))


def _newest_before(newest: tuple[list[float], list[int]], at: float) -> int:
    times, values = newest
    place = bisect.bisect_left(times, at)
    return values[place - 1] if place else 0


def summary(found: Sequence[Violation]) -> Mapping[str, int]:
    """How many of each kind."""
    return Counter(violation.kind for violation in found)
