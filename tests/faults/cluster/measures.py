"""What a fault cost those who called: how long nobody was answered, and how fast it went before and after."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence

import msgspec

from tests.faults.cluster.journal import Attempt, Failed


class Measures(msgspec.Struct, frozen=True, kw_only=True):
    acknowledged: int
    """Answers that were no errors."""
    errors: Mapping[str, int]
    silence: float
    """The longest time in which nobody was answered, though somebody was waiting."""
    worst: float
    """The longest time in which nobody was answered who waited for one and the same account."""
    worst_account: str
    before: float
    """Answers in a second, before the first fault."""
    after: float
    """And at the end."""


class _Wait(msgspec.Struct):
    """One question of one caller, from its first attempt to its answer."""

    account: str
    asked: float
    answered: float | None = None


def measures(
    attempts: Sequence[Attempt], *, began: float, fault: float, over: float, ended: float
) -> Measures:
    """What happened between `began` and `ended`; the fault came at `fault`, and from `over` on nothing else was done."""
    waits = [wait for wait in _waits(attempts) if wait.asked >= began]
    by_account: defaultdict[str, list[_Wait]] = defaultdict(list)
    for wait in waits:
        by_account[wait.account].append(wait)
    worst, worst_account = max(((_longest(of), name) for name, of in by_account.items()), default=(0.0, ""))
    answered = [wait.answered for wait in waits if wait.answered is not None]
    errors: defaultdict[str, int] = defaultdict(int)
    for attempt in attempts:
        if isinstance(attempt.answer, Failed):
            errors[attempt.answer.error] += 1
    return Measures(
        acknowledged=len(answered),
        errors=dict(sorted(errors.items())),
        silence=_longest(waits),
        worst=worst,
        worst_account=worst_account,
        before=_rate(answered, began, fault),
        after=_rate(answered, over, ended),
    )


def _rate(answered: Sequence[float], begin: float, end: float) -> float:
    return sum(begin <= at < end for at in answered) / (end - begin) if end > begin else 0.0


def _waits(attempts: Sequence[Attempt]) -> list[_Wait]:
    waits: list[_Wait] = []
    by_id: dict[str, _Wait] = {}
    for attempt in attempts:
        asked, answer = attempt.asked, attempt.answer
        wait = by_id.get(asked.id)
        if wait is None:
            wait = by_id[asked.id] = _Wait(asked.account, asked.at)
            waits.append(wait)
        if answer is not None and not isinstance(answer, Failed):
            wait.answered = answer.at
    return waits


def _longest(waits: Sequence[_Wait]) -> float:
    """The longest time without an answer while somebody was waiting. Who never got one (its caller was killed) did not wait."""
    ended = sorted(
        (wait for wait in waits if wait.answered is not None), key=lambda wait: wait.answered or 0.0
    )
    begun = sorted((wait.asked, wait.answered or 0.0) for wait in ended)
    open_now: list[tuple[float, float]] = []
    place, last, longest = 0, 0.0, 0.0
    for wait in ended:
        assert wait.answered is not None
        while place < len(begun) and begun[place][0] <= wait.answered:
            heapq.heappush(open_now, begun[place])
            place += 1
        while open_now[0][1] < wait.answered:
            # It was answered before, and waits no more.
            heapq.heappop(open_now)
        longest = max(longest, wait.answered - max(last, open_now[0][0]))
        last = wait.answered
    return longest
