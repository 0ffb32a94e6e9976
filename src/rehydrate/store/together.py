"""Questions to a store, many in one go: a way there and back costs more than most answers do."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Final, Generic, TypeVar

import msgspec

Q = TypeVar("Q")
A = TypeVar("A")

_JOBS: Final = 2
"""Under way at a time: one is read while what the other has brought is used."""


class Asked(msgspec.Struct, Generic[Q, A], frozen=True, eq=False):
    """A question, and the future of its answer."""

    question: Q
    answer: asyncio.Future[A]


class Together(Generic[Q, A]):
    """Questions that come while others are under way go out after them, together, but no more than `most`.

    Both functions answer what they are given, or raise.
    """

    def __init__(
        self,
        ask_one: Callable[[Asked[Q, A]], Awaitable[None]],
        ask_many: Callable[[Sequence[Asked[Q, A]]], Awaitable[None]],
        *,
        most: int = 32,
    ) -> None:
        self._ask_one = ask_one
        self._ask_many = ask_many
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Asked[Q, A]] = deque()
        self._alone: deque[Asked[Q, A]] = deque()
        """Of a job that failed: each is asked again by itself, so that an error meets its owner only."""
        self._jobs: set[asyncio.Task[None]] = set()
        self._is_due = False
        self._idle: asyncio.Future[None] | None = None

    async def ask(self, question: Q) -> A:
        """The answer, as of a moment after this was called."""
        answer: asyncio.Future[A] = self._loop.create_future()
        self._waiting.append(Asked(question, answer))
        if not self._is_due:
            # At the end of this turn, so that all who ask in it go together.
            self._loop.call_soon(self._send)
            self._is_due = True
        return await answer

    async def close(self) -> None:
        """Return when all who have asked have their answer."""
        if self._jobs or self._is_due:
            if self._idle is None:
                self._idle = self._loop.create_future()
            await asyncio.shield(self._idle)

    def _send(self) -> None:
        self._is_due = False
        while len(self._jobs) < _JOBS and (asked := self._next()):
            job = self._loop.create_task(self._do(asked))
            self._jobs.add(job)
            job.add_done_callback(partial(self._ended, asked))
        if not self._jobs and self._idle is not None:
            self._idle.set_result(None)
            self._idle = None

    def _next(self) -> list[Asked[Q, A]]:
        """Those whose owners still wait."""
        while self._alone:
            one = self._alone.popleft()
            if not one.answer.done():
                return [one]
        asked: list[Asked[Q, A]] = []
        while self._waiting and len(asked) < self._most:
            one = self._waiting.popleft()
            if not one.answer.done():
                asked.append(one)
        return asked

    async def _do(self, asked: Sequence[Asked[Q, A]]) -> None:
        try:
            if len(asked) > 1:
                await self._ask_many(asked)
            else:
                await self._ask_one(asked[0])
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to who asked
            if len(asked) > 1:
                self._alone.extend(asked)
            elif not asked[0].answer.done():
                asked[0].answer.set_exception(error)

    def _ended(self, asked: Sequence[Asked[Q, A]], job: asyncio.Task[None]) -> None:
        self._jobs.discard(job)
        if job.cancelled():
            # Somebody ends all tasks of this loop, some of them before their first step. Whoever asked must not wait for
            # an answer that never comes.
            for one in asked:
                one.answer.cancel()
        self._send()


def answer_all(found: Iterable[tuple[asyncio.Future[A], A]]) -> None:
    """To those who still wait."""
    for answer, value in found:
        if not answer.done():
            answer.set_result(value)


def all_at_once(ask: Callable[[Sequence[Q]], Awaitable[Sequence[A]]], *, most: int) -> Together[Q, A]:
    """Where one question is asked as many are."""

    async def ask_many(asked: Sequence[Asked[Q, A]]) -> None:
        answers = await ask([each.question for each in asked])
        answer_all(zip([each.answer for each in asked], answers, strict=True))

    async def ask_one(asked: Asked[Q, A]) -> None:
        await ask_many([asked])

    return Together(ask_one, ask_many, most=most)
