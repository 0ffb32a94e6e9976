"""What the callers of a fault test write down: each attempt before it is made, and each answer when it has come.

A journal is a file of JSON lines that one process appends to, each line with one write, so that `kill -9` cuts off
nothing but a line under way. Times are those of the machine's monotonic clock, which all its processes share.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

import msgspec


class Asked(msgspec.Struct, frozen=True, tag="asked", kw_only=True):
    """A caller makes an attempt at a command, or asks for the state of an account."""

    n: int
    """The attempt's number in this journal."""
    at: float
    account: str
    id: str
    """The same for all attempts at one command, or at one question about the state."""
    amount: int = 0
    """What the command is to change the balance by; 0 for a question about the state."""
    parts: int = 1
    """In how many events."""

    @property
    def is_command(self) -> bool:
        return self.amount != 0


class Stored(msgspec.Struct, frozen=True, tag="stored"):
    """The command is acknowledged: its last event is here."""

    n: int
    at: float
    version: int
    position: int


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The domain said no, to a state of this version and balance."""

    n: int
    at: float
    version: int
    balance: int


class Shown(msgspec.Struct, frozen=True, tag="shown"):
    """The state that was asked for."""

    n: int
    at: float
    version: int
    balance: int


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """An error came; the attempt may be repeated under the same id."""

    n: int
    at: float
    error: str
    stored: bool | None
    """False: it says that nothing was stored. None: it says that it does not know."""


Answer: TypeAlias = Stored | Refused | Shown | Failed
Line: TypeAlias = Asked | Answer


class Attempt(msgspec.Struct, frozen=True):
    """One attempt, and what came of it: nothing where its process or its caller ended first."""

    asked: Asked
    answer: Answer | None


class Journal:
    """Takes down what one process does."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._asked = 0

    def ask(self, account: str, id: str, *, amount: int = 0, parts: int = 1) -> int:
        """An attempt begins now; its number, for `write`."""
        self._asked += 1
        self.write(
            Asked(
                n=self._asked,
                at=time.monotonic(),
                account=account,
                id=id,
                amount=amount,
                parts=parts,
            )
        )
        return self._asked

    def write(self, line: Line) -> None:
        os.write(self._file, msgspec.json.encode(line) + b"\n")

    def close(self) -> None:
        os.close(self._file)


def read_journals(paths: Iterable[Path]) -> list[Attempt]:
    """Everything that was attempted, by when it was asked."""
    attempts = [attempt for path in paths for attempt in attempts_in(path.read_bytes())]
    return sorted(attempts, key=lambda attempt: attempt.asked.at)


def attempts_in(text: bytes) -> list[Attempt]:
    """The attempts of one journal; what was cut off at its end was not written."""
    decoder = msgspec.json.Decoder[Line](Line)
    asked: dict[int, Asked] = {}
    answers: dict[int, Answer] = {}
    for line in text.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        match decoder.decode(line):
            case Asked() as question:
                asked[question.n] = question
            case answer:
                answers[answer.n] = answer
    return [Attempt(question, answers.get(n)) for n, question in asked.items()]
