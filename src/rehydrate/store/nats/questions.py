"""Questions that are asked again until they are answered: a leader may be missing for seconds, and nobody says so.

While nobody answers, one of those that wait is asked again from time to time, and no more: servers in trouble are not to be
given more to do. Once one is answered, all that were asked before it and went unheard are asked again at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

from nats.aio.msg import Msg

from rehydrate.errors import StoreClosedError, StoreUnavailableError
from rehydrate.nats.connection import Connection, NotAnswered

ASK_AGAIN: Final = 0.1
"""Seconds without any answer until the one that has waited the longest is asked again."""
ASK_AGAIN_MOST: Final = 0.2
"""The same for later times: it doubles."""
_OVERTAKEN: Final = 0.05
"""Seconds by which a question that was answered may have been asked after one that will still be: they overtake each other."""
_MORE: Final = 0.8
"""Seconds that the rest of an answer has beyond that, once it has begun to come in: it may be large."""


class Answer(Protocol):
    """What comes in answer to one copy of a question."""

    def take(self, message: Msg) -> bool:
        """The next message of it; whether more are to come. What is no answer is `NoAnswerError`."""
        ...

    def whole(self) -> Any:
        """All of it, when no more is to come."""
        ...


class NoAnswerError(Exception):
    """What came in is none, and another copy may be answered better; or this one, by another server."""

    def __init__(self, reason: str, *, is_last: bool = True) -> None:
        super().__init__(reason)
        self.is_last = is_last


class Questions:
    """Those of one opened store, under way at the same time."""

    def __init__(self, connection: Connection, timeout: float) -> None:
        self._connection = connection
        self._timeout = timeout
        self._lines: dict[str, _Line] = {}

    async def ask(self, subject: str, payload: bytes, answer: Callable[[], Answer]) -> Any:
        """The whole of the first copy of an answer; `answer` makes what takes a copy in.

        Raises `StoreUnavailableError` when the time is over, and `StoreClosedError`.
        """
        line = self._lines.get(subject)
        if line is None:
            line = self._lines[subject] = _Line(self._connection, subject)
        question = _Question(payload, answer, self._timeout)
        try:
            line.begin(question)
            return await question.outcome
        except TimeoutError:
            connection = self._connection
            reason = connection.why_not if not connection.is_connected else question.failed
            raise StoreUnavailableError(
                f"{connection.address.shown} gives no answer: {reason or connection.why_not}"
            ) from None
        finally:
            if line.end(question):
                self._lines.pop(subject, None)


class _Question:
    def __init__(self, payload: bytes, answer: Callable[[], Answer], timeout: float) -> None:
        loop = asyncio.get_running_loop()
        self.payload = payload
        self.answer = answer
        self.outcome: asyncio.Future[Any] = loop.create_future()
        self.give_up = loop.time() + timeout
        self.failed = ""
        """Why what came last was no answer."""
        self.waits_since = 0.0


class _Line:
    """All that is asked under one subject, and so of the same servers."""

    def __init__(self, connection: Connection, subject: str) -> None:
        self._connection = connection
        self._subject = subject
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[_Question, None] = {}
        self._pause = ASK_AGAIN
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, question: _Question) -> None:
        self._waiting[question] = None
        self._ask(question)
        if self._timer is None:
            self._pause = ASK_AGAIN
            self._timer = self._loop.call_later(self._pause, self._look)

    def end(self, question: _Question) -> bool:
        """It waits no more; whether nobody does."""
        self._waiting.pop(question, None)
        if self._waiting:
            return False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return True

    def _ask(self, question: _Question) -> None:
        sent = question.waits_since = self._loop.time()
        answer = question.answer()

        def answered(message: Msg | NotAnswered) -> bool:
            if question.outcome.done():
                return False
            if isinstance(message, NotAnswered):
                self._failed(question, message)
                return False
            question.waits_since = self._loop.time()
            try:
                if answer.take(message):
                    question.waits_since += _MORE
                    return True
            except NoAnswerError as error:
                question.failed = str(error)
                return not error.is_last
            question.outcome.set_result(answer.whole())
            self._succeeded(sent)
            return False

        self._connection.call(
            self._subject, question.payload, answered, timeout=max(0.0, question.give_up - sent)
        )

    def _failed(self, question: _Question, failed: NotAnswered) -> None:
        question.failed = question.failed or failed.reason
        if self._connection.closed is not None:
            question.outcome.set_exception(StoreClosedError(self._connection.closed))
        elif not self._connection.is_connected and self._loop.time() < question.give_up:
            # It is the first to go out when there is a connection again.
            self._ask(question)

    def _succeeded(self, sent: float) -> None:
        """Who answers that would have answered what was asked of him before."""
        self._pause = ASK_AGAIN
        for other in list(self._waiting):
            if other.waits_since < sent - _OVERTAKEN and not other.outcome.done():
                self._ask(other)

    def _look(self) -> None:
        now = self._loop.time()
        longest: _Question | None = None
        for question in self._waiting:
            if question.outcome.done():
                continue
            if now >= question.give_up:
                question.outcome.set_exception(TimeoutError())
            elif longest is None or question.waits_since < longest.waits_since:
                longest = question
        if longest is not None and now - longest.waits_since >= self._pause and self._connection.is_connected:
            self._ask(longest)
            self._pause = min(2 * self._pause, ASK_AGAIN_MOST)
        self._timer = self._loop.call_later(self._pause, self._look)
