"""Asking where streams end: many who ask in one turn of the event loop share one question."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import TypeAlias

from rehydrate.errors import StoreError, StoreUnavailableError
from rehydrate.store.another import another
from rehydrate.store.port import StreamEnd

_Question: TypeAlias = tuple[Sequence[str], asyncio.Future[list[StreamEnd]]]


class EndQuestions:
    """Questions that come while one is under way go out after it, together: its answer may be older than they are."""

    def __init__(self, ask: Callable[[Sequence[str]], Awaitable[list[StreamEnd]]]) -> None:
        self._ask = ask
        self._loop = asyncio.get_running_loop()
        self._waiting: list[_Question] = []
        self._asking: asyncio.Task[None] | None = None

    async def ask(self, streams: Sequence[str]) -> list[StreamEnd]:
        """The last event of each stream, as of a moment after this was called."""
        answer: asyncio.Future[list[StreamEnd]] = self._loop.create_future()
        self._waiting.append((streams, answer))
        if self._asking is None:
            self._asking = self._loop.create_task(self._ask_all())
            self._asking.add_done_callback(self._ended)
        return await answer

    async def close(self) -> None:
        """Return when all who have asked have their answer."""
        if self._asking is not None:
            await asyncio.wait([self._asking])

    async def _ask_all(self) -> None:
        try:
            while self._waiting:
                questions, self._waiting = self._waiting, []
                await self._ask_together(questions)
        finally:
            self._asking = None

    def _ended(self, asking: asyncio.Task[None]) -> None:
        if self._asking is asking:
            # Before its first step: it has not come to the end of what it does.
            self._asking = None
            self._let_go(self._waiting, asyncio.CancelledError())

    async def _ask_together(self, questions: list[_Question]) -> None:
        try:
            ends = iter(await self._ask([stream for streams, _ in questions for stream in streams]))
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to those who asked
            for _, answer in questions:
                if not answer.done():
                    answer.set_exception(another(error) if isinstance(error, StoreError) else error)
            return
        except BaseException as error:
            # Somebody ends all tasks of this loop. Whoever asked must not wait for an answer that never comes.
            self._let_go([*questions, *self._waiting], error)
            raise
        for streams, answer in questions:
            mine = list(islice(ends, len(streams)))
            if not answer.done():
                answer.set_result(mine)

    def _let_go(self, questions: Sequence[_Question], error: BaseException) -> None:
        self._waiting = []
        for _, answer in questions:
            if not answer.done():
                answer.set_exception(StoreUnavailableError(f"the question was ended by {error!r}"))
