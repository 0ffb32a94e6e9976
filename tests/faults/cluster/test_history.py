"""What checks the matrix is checked: honest histories pass, and every kind of lie in one is told."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.faults.cluster.history import Entry, Violation, summary, violations
from tests.faults.cluster.journal import (
    Asked,
    Attempt,
    Failed,
    Journal,
    Refused,
    Shown,
    Stored,
    attempts_in,
    read_journals,
)
from tests.faults.cluster.simulation import Simulation

Attempts: TypeAlias = list[Attempt]
Log: TypeAlias = list[Entry]
Lie: TypeAlias = Callable[[random.Random, Attempts, Log], None]
replaced = msgspec.structs.replace


def acknowledged(attempts: Sequence[Attempt]) -> list[tuple[int, Stored]]:
    return [
        (place, attempt.answer)
        for place, attempt in enumerate(attempts)
        if isinstance(attempt.answer, Stored)
    ]


def one_of(chance: random.Random, things: Sequence[tuple[int, Stored]]) -> tuple[int, Stored]:
    assume(things)
    return chance.choice(things)


def appended(log: Log, entry: Entry, **changes: object) -> None:
    """Put an event at the end that looks like the one given."""
    version = 1 + max((other.version for other in log if other.account == entry.account), default=0)
    log.append(replaced(entry, version=version, position=log[-1].position + 4_096, **changes))


def an_acknowledged_command_is_lost(chance: random.Random, attempts: Attempts, log: Log) -> None:
    place, _ = one_of(chance, acknowledged(attempts))
    id = attempts[place].asked.id
    log[:] = [entry for entry in log if entry.command_id != id]


def a_command_is_doubled(chance: random.Random, attempts: Attempts, log: Log) -> None:
    assume(log)
    appended(log, chance.choice(log))


def an_unanswered_command_is_doubled(chance: random.Random, attempts: Attempts, log: Log) -> None:
    stored = {attempts[place].asked.id for place, _ in acknowledged(attempts)}
    unknown = [entry for entry in log if entry.command_id not in stored]
    assume(unknown)
    appended(log, chance.choice(unknown))


def a_part_of_a_command_is_missing(chance: random.Random, attempts: Attempts, log: Log) -> None:
    torn = [place for place, entry in enumerate(log) if log[place - 1].command_id == entry.command_id]
    assume(torn)
    del log[chance.choice(torn)]


def an_event_has_another_amount(chance: random.Random, attempts: Attempts, log: Log) -> None:
    assume(log)
    place = chance.randrange(len(log))
    log[place] = replaced(log[place], amount=log[place].amount + 1)


def an_answer_names_another_version(chance: random.Random, attempts: Attempts, log: Log) -> None:
    place, answer = one_of(chance, acknowledged(attempts))
    attempts[place] = replaced(attempts[place], answer=replaced(answer, version=answer.version + 1))


def an_answer_names_another_position(chance: random.Random, attempts: Attempts, log: Log) -> None:
    place, answer = one_of(chance, acknowledged(attempts))
    attempts[place] = replaced(attempts[place], answer=replaced(answer, position=answer.position + 4_096))


def an_answer_names_the_first_event_of_several(chance: random.Random, attempts: Attempts, log: Log) -> None:
    several = [(place, answer) for place, answer in acknowledged(attempts) if attempts[place].asked.parts > 1]
    place, answer = one_of(chance, several)
    first = replaced(answer, version=answer.version - 2, position=answer.position - 2)
    attempts[place] = replaced(attempts[place], answer=first)


def a_refused_command_is_stored(chance: random.Random, attempts: Attempts, log: Log) -> None:
    refused = [attempt.asked for attempt in attempts if isinstance(attempt.answer, Refused)]
    assume(refused and log)
    asked = chance.choice(refused)
    appended(log, Entry(0, asked.account, 0, asked.id, asked.amount))


def a_command_is_stored_that_was_said_not_to_be(chance: random.Random, attempts: Attempts, log: Log) -> None:
    place, _answer = one_of(chance, acknowledged(attempts))
    id = attempts[place].asked.id
    for other, attempt in enumerate(attempts):
        if attempt.asked.id == id and attempt.answer is not None:
            denied = Failed(attempt.asked.n, attempt.answer.at, "CommandTimeoutError", stored=False)
            attempts[other] = replaced(attempt, answer=denied)
        assume(attempt.asked.id != id or attempt.answer is not None)


def nobody_sent_an_event(chance: random.Random, attempts: Attempts, log: Log) -> None:
    assume(log)
    appended(log, chance.choice(log), command_id="nobody's")


def a_version_is_left_out(chance: random.Random, attempts: Attempts, log: Log) -> None:
    assume(log)
    place = chance.randrange(len(log))
    moved = log[place]
    for later in range(place, len(log)):
        if log[later].account == moved.account:
            log[later] = replaced(log[later], version=log[later].version + 1)


def two_events_change_places(chance: random.Random, attempts: Attempts, log: Log) -> None:
    assume(len(log) > 1)
    place = chance.randrange(len(log) - 1)
    log[place], log[place + 1] = log[place + 1], log[place]


def an_old_state_is_shown(chance: random.Random, attempts: Attempts, log: Log) -> None:
    """A state as it was right before the newest answer that came before the question."""
    _, answer = one_of(chance, acknowledged(attempts))
    entry = next(entry for entry in log if entry.position == answer.position)
    balance = sum(
        other.amount for other in log if other.account == entry.account and other.version < entry.version
    )
    asked = Asked(n=10_000, at=answer.at + 0.1, account=entry.account, id="late")
    attempts.append(Attempt(asked, Shown(10_000, answer.at + 10_000, entry.version - 1, balance)))


def a_refusal_is_decided_on_an_old_state(chance: random.Random, attempts: Attempts, log: Log) -> None:
    """Refused to one who asked after somebody else had been told of a deposit."""
    deposits = [
        (place, answer) for place, answer in acknowledged(attempts) if attempts[place].asked.amount > 0
    ]
    _, answer = one_of(chance, deposits)
    entry = next(entry for entry in log if entry.position == answer.position)
    balance = sum(
        other.amount for other in log if other.account == entry.account and other.version < entry.version
    )
    asked = Asked(n=10_000, at=answer.at + 0.1, account=entry.account, id="late", amount=-balance - 1)
    attempts.append(Attempt(asked, Refused(10_000, answer.at + 10_000, entry.version - 1, balance)))


def a_state_is_shown_that_never_was(chance: random.Random, attempts: Attempts, log: Log) -> None:
    assume(log)
    entry = log[-1]
    balance = sum(other.amount for other in log if other.account == entry.account)
    asked = Asked(n=10_000, at=10_000, account=entry.account, id="late")
    attempts.append(Attempt(asked, Shown(10_000, 10_001, entry.version, balance + 1)))


def a_state_is_shown_of_a_version_to_come(chance: random.Random, attempts: Attempts, log: Log) -> None:
    assume(log)
    entry = log[-1]
    balance = sum(other.amount for other in log if other.account == entry.account)
    asked = Asked(n=10_000, at=10_000, account=entry.account, id="late")
    attempts.append(Attempt(asked, Shown(10_000, 10_001, entry.version + 1, balance)))


def a_command_is_refused_that_the_balance_covers(chance: random.Random, attempts: Attempts, log: Log) -> None:
    assume(log)
    entry = log[-1]
    balance = sum(other.amount for other in log if other.account == entry.account)
    asked = Asked(n=10_000, at=10_000, account=entry.account, id="covered", amount=-balance)
    attempts.append(Attempt(asked, Refused(10_000, 10_001, entry.version, balance)))


def a_later_command_stands_before_an_acknowledged_one(
    chance: random.Random, attempts: Attempts, log: Log
) -> None:
    """On another account, so that no version shows it."""
    _place, answer = one_of(chance, acknowledged(attempts))
    asked = Asked(n=10_000, at=answer.at + 0.1, account="another", id="late", amount=1)
    log.insert(0, Entry(1, "another", 1, "late", 1))
    attempts.append(Attempt(asked, Stored(10_000, answer.at + 10_000, 1, 1)))


def a_state_tells_of_a_command_that_is_sent_later(
    chance: random.Random, attempts: Attempts, log: Log
) -> None:
    place, answer = one_of(chance, acknowledged(attempts))
    id = attempts[place].asked.id
    entry = next(entry for entry in log if entry.position == answer.position)
    balance = sum(
        other.amount for other in log if other.account == entry.account and other.version <= entry.version
    )
    first = min(attempt.asked.at for attempt in attempts if attempt.asked.id == id)
    asked = Asked(n=10_000, at=first - 0.2, account=entry.account, id="late")
    attempts.append(Attempt(asked, Shown(10_000, first - 0.1, entry.version, balance)))


LIES: list[tuple[Lie, str]] = [
    (an_acknowledged_command_is_lost, "lost"),
    (a_command_is_doubled, "doubled"),
    (an_unanswered_command_is_doubled, "doubled"),
    (a_part_of_a_command_is_missing, "torn"),
    (an_event_has_another_amount, "torn"),
    (an_answer_names_another_version, "moved"),
    (an_answer_names_another_position, "moved"),
    (an_answer_names_the_first_event_of_several, "moved"),
    (a_refused_command_is_stored, "refused"),
    (a_command_is_stored_that_was_said_not_to_be, "denied"),
    (nobody_sent_an_event, "stranger"),
    (a_version_is_left_out, "gap"),
    (two_events_change_places, "gap"),
    (an_old_state_is_shown, "stale"),
    (a_refusal_is_decided_on_an_old_state, "stale"),
    (a_state_is_shown_that_never_was, "balance"),
    (a_state_is_shown_of_a_version_to_come, "balance"),
    (a_command_is_refused_that_the_balance_covers, "balance"),
    (a_later_command_stands_before_an_acknowledged_one, "order"),
    (a_state_tells_of_a_command_that_is_sent_later, "early"),
]

chances = st.integers(0, 2**32 - 1).map(random.Random)


@given(chances, st.integers(0, 200))
@settings(max_examples=50, deadline=None)
def test_an_honest_history_passes(chance: random.Random, steps: int) -> None:
    simulation = Simulation(chance, steps=steps)
    assert violations(simulation.attempts, simulation.log) == []


@pytest.mark.parametrize(("lie", "kind"), LIES, ids=[lie.__name__ for lie, _ in LIES])
def test_every_lie_is_told(lie: Lie, kind: str) -> None:
    @given(chances, st.integers(60, 200))
    @settings(max_examples=15, deadline=None)
    def is_told(chance: random.Random, steps: int) -> None:
        simulation = Simulation(chance, steps=steps)
        lie(chance, simulation.attempts, simulation.log)
        assert kind in summary(violations(simulation.attempts, simulation.log))

    is_told()


def test_a_violation_names_the_command() -> None:
    asked = Asked(n=1, at=1, account="ada", id="c1", amount=5)
    assert violations([Attempt(asked, Stored(1, 2, 1, 4_096))], []) == [
        Violation(
            "lost", "c1 was acknowledged as Stored(n=1, at=2, version=1, position=4096), and is not there"
        )
    ]


def test_a_journal_is_read_as_it_was_written_and_its_cut_off_end_was_not(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    first = journal.ask("ada", "c1", amount=5)
    journal.write(Stored(first, 2.0, 1, 4_096))
    journal.ask("ada", "q2")
    journal.close()
    answered, unanswered = read_journals([path])
    assert answered.asked.id == "c1"
    assert answered.answer == Stored(1, 2.0, 1, 4_096)
    assert (unanswered.asked.n, unanswered.asked.id, unanswered.answer) == (2, "q2", None)
    cut_off = path.read_bytes()[:-1]
    assert [attempt.asked.n for attempt in attempts_in(cut_off)] == [1]
