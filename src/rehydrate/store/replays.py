"""Reading streams for rehydration: many in one go, or one that is read on while it is being folded.

A way to a store and back costs more than a short stream does. So questions that come while others are under way go there
together, and who asks alone gets the next pages, too, each as soon as it is there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

import msgspec

from rehydrate.store.port import ReplayPage

MAX_PAGES: Final = 10
"""How many pages are read on in one go; together they should have no more bytes than one may have."""
_JOBS: Final = 2
"""Under way at a time: one is read while what the other has brought is folded."""
_QUESTIONS: Final = 32
"""The most that go to the store together."""

Answer: TypeAlias = asyncio.Future[ReplayPage | None]
"""A page; None where it has to be asked for, which the first page of a question never is."""


class Question(msgspec.Struct, frozen=True, eq=False):
    """For the page of a stream after a version, and for its answer."""

    stream: str
    after: int
    answer: Answer


class Replays:
    """The questions of all who rehydrate. Both functions answer what they are given, or raise."""

    def __init__(
        self,
        read_on: Callable[[Question], Awaitable[None]],
        read_many: Callable[[Sequence[Question]], Awaitable[None]],
    ) -> None:
        self._read_on = read_on
        self._read_many = read_many
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Question] = deque()
        self._alone: deque[Question] = deque()
        """Of a job that failed: each is asked again by itself, so that an error meets its owner only."""
        self._jobs: set[asyncio.Task[None]] = set()
        self._is_due = False
        self._idle: asyncio.Future[None] | None = None

    async def ask(self, stream: str, after: int) -> ReplayPage:
        """A page of a stream, without what rehydration does not need."""
        answer: Answer = self._loop.create_future()
        self._waiting.append(Question(stream, after, answer))
        if not self._is_due:
            # At the end of this turn, so that all who ask in it go together.
            self._loop.call_soon(self._send)
            self._is_due = True
        page = await answer
        assert page is not None
        return page

    async def close(self) -> None:
        """Return when all who have asked have their answer."""
        if self._jobs or self._is_due:
            if self._idle is None:
                self._idle = self._loop.create_future()
            await asyncio.shield(self._idle)

    def _send(self) -> None:
        self._is_due = False
        while len(self._jobs) < _JOBS and (questions := self._next_questions()):
            job = self._loop.create_task(self._read(questions))
            self._jobs.add(job)
            job.add_done_callback(self._ended)
        if not self._jobs and self._idle is not None:
            self._idle.set_result(None)
            self._idle = None

    def _next_questions(self) -> list[Question]:
        """Those whose owners still wait."""
        while self._alone:
            question = self._alone.popleft()
            if not question.answer.done():
                return [question]
        questions: list[Question] = []
        while self._waiting and len(questions) < _QUESTIONS:
            question = self._waiting.popleft()
            if not question.answer.done():
                questions.append(question)
        return questions

    async def _read(self, questions: Sequence[Question]) -> None:
        try:
            if len(questions) > 1:
                await self._read_many(questions)
            else:
                await self._read_on(questions[0])
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to who asked
            if len(questions) > 1:
                self._alone.extend(questions)
            elif not questions[0].answer.done():
                questions[0].answer.set_exception(error)
        except BaseException:
            # Somebody ends all tasks of this loop. Whoever asked must not wait for an answer that never comes.
            for question in questions:
                question.answer.cancel()
            raise

    def _ended(self, job: asyncio.Task[None]) -> None:
        self._jobs.discard(job)
        self._send()


def answer_all(found: Sequence[tuple[Answer, ReplayPage]]) -> None:
    """To those who still wait."""
    for answer, page in found:
        if not answer.done():
            answer.set_result(page)
