"""Histories as they may be: callers, accounts and an honest store, without a process or a clock."""

from __future__ import annotations

import random
from collections import defaultdict

from tests.faults.cluster.history import Entry
from tests.faults.cluster.journal import Answer, Asked, Attempt, Failed, Refused, Shown, Stored

_PER_APPEND = 4_096
"""Positions have gaps between appends, as in NATS."""


class Simulation:
    """So many steps of callers who ask, a store that decides, and answers that are late, lost, or errors."""

    def __init__(self, chance: random.Random, *, steps: int, accounts: int = 3, callers: int = 4) -> None:
        self.log: list[Entry] = []
        self.attempts: list[Attempt] = []
        self._chance = chance
        self._accounts = [f"a{n}" for n in range(accounts)]
        self._versions: defaultdict[str, int] = defaultdict(int)
        self._balances: defaultdict[str, int] = defaultdict(int)
        self._results: dict[str, tuple[int, int]] = {}
        self._now = 0.0
        self._asked = 0
        self._callers = [_Caller() for _ in range(callers)]
        for _ in range(steps):
            self._step(chance.choice(self._callers))
        # Who is not answered at the end has been killed.
        self.attempts += [Attempt(caller.asked, None) for caller in self._callers if caller.asked]
        self.attempts.sort(key=lambda attempt: attempt.asked.at)

    def _step(self, caller: _Caller) -> None:
        self._now += 1
        if caller.asked is None:
            caller.asked = self._question(caller.repeats)
            caller.repeats = caller.decided = None
        elif caller.decided is None and self._chance.random() < 0.8:
            caller.decided = self._decide(caller.asked)
        else:
            self._answer(caller, caller.asked)

    def _question(self, repeats: Asked | None) -> Asked:
        self._asked += 1
        if repeats is not None:
            return Asked(
                n=self._asked,
                at=self._now,
                account=repeats.account,
                id=repeats.id,
                amount=repeats.amount,
                parts=repeats.parts,
            )
        account = self._chance.choice(self._accounts)
        if self._chance.random() < 0.2:
            return Asked(n=self._asked, at=self._now, account=account, id=f"q{self._asked}")
        parts = self._chance.choice([1, 1, 3])
        amount = parts * self._chance.randint(1, 9) if parts > 1 else self._chance.choice([5, 9, -3, -20])
        return Asked(
            n=self._asked,
            at=self._now,
            account=account,
            id=f"c{self._asked}",
            amount=amount,
            parts=parts,
        )

    def _decide(self, asked: Asked) -> Answer:
        name, id = asked.account, asked.id
        version, balance = self._versions[name], self._balances[name]
        if not asked.is_command:
            return Shown(asked.n, 0, version, balance)
        if id not in self._results:
            if balance + asked.amount < 0:
                return Refused(asked.n, 0, version, balance)
            first = (self.log[-1].position // _PER_APPEND + 1) * _PER_APPEND if self.log else _PER_APPEND
            self.log += [
                Entry(first + n, name, version + 1 + n, id, asked.amount // asked.parts)
                for n in range(asked.parts)
            ]
            self._versions[name] += asked.parts
            self._balances[name] += asked.amount
            self._results[id] = (self.log[-1].version, self.log[-1].position)
        return Stored(asked.n, 0, *self._results[id])

    def _answer(self, caller: _Caller, asked: Asked) -> None:
        answer: Answer
        match caller.decided:
            case None:
                answer = Failed(asked.n, self._now, "CommandTimeoutError", stored=False)
            case Stored() if self._chance.random() < 0.2:
                answer = Failed(asked.n, self._now, "OutcomeUnknownError", stored=None)
            case Stored(_, _, version, position):
                answer = Stored(asked.n, self._now, version, position)
            case Refused(_, _, version, balance):
                answer = Refused(asked.n, self._now, version, balance)
            case Shown(_, _, version, balance):
                answer = Shown(asked.n, self._now, version, balance)
            case Failed():
                raise AssertionError
        self.attempts.append(Attempt(asked, answer))
        if isinstance(answer, Failed) and asked.is_command:
            caller.repeats = asked
        caller.asked = caller.decided = None


class _Caller:
    def __init__(self) -> None:
        self.asked: Asked | None = None
        self.decided: Answer | None = None
        self.repeats: Asked | None = None
