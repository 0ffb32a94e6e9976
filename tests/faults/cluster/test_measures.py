"""What the matrix says of time is the time in which somebody waited and nobody was answered."""

from __future__ import annotations

import pytest

from tests.faults.cluster.journal import Asked, Attempt, Failed, Shown
from tests.faults.cluster.measures import Measures, measures


def shown(n: int, account: str, asked: float, answered: float) -> Attempt:
    return Attempt(Asked(n=n, at=asked, account=account, id=f"q{n}"), Shown(n, answered, 0, 0))


def measured(*attempts: Attempt) -> Measures:
    ordered = sorted(attempts, key=lambda attempt: attempt.asked.at)
    return measures(ordered, began=0, fault=10, over=20, ended=30)


def test_time_in_which_nobody_waits_does_not_count() -> None:
    assert measured(shown(1, "ada", 1, 2), shown(2, "ada", 9, 10)).silence == 1


def test_the_longest_silence_of_an_account_is_told_where_others_were_answered_meanwhile() -> None:
    told = measured(shown(1, "ada", 1, 9), *(shown(n, "bob", n, n + 1) for n in range(2, 12)))
    assert (told.worst, told.worst_account) == (8, "ada")
    assert told.silence == 2


def test_who_is_answered_ends_the_silence_for_those_who_still_wait() -> None:
    told = measured(shown(1, "ada", 1, 9), shown(2, "ada", 2, 6))
    assert told.worst == 5


def test_a_command_waits_from_its_first_attempt() -> None:
    first = Asked(n=1, at=1, account="ada", id="c")
    again = Asked(n=2, at=5, account="ada", id="c")
    told = measured(
        Attempt(first, Failed(1, 4, "OutcomeUnknownError", stored=None)), Attempt(again, Shown(2, 8, 0, 0))
    )
    assert told.worst == 7
    assert told.errors == {"OutcomeUnknownError": 1}


def test_who_was_killed_did_not_wait() -> None:
    told = measured(Attempt(Asked(n=1, at=1, account="ada", id="q1"), None), shown(2, "ada", 20, 21))
    assert told.silence == 1


def test_rates_are_of_the_time_before_the_fault_and_after_all_of_it() -> None:
    told = measured(
        shown(1, "ada", 1, 2), shown(2, "ada", 12, 13), *(shown(n, "bob", n, n) for n in range(20, 30))
    )
    assert told.before == pytest.approx(0.1)
    assert told.after == pytest.approx(1.0)
    assert told.acknowledged == 12
