"""Who asks where streams end, or waits for more events, hears of whatever ends that."""

import asyncio
from collections.abc import Sequence

import pytest

from rehydrate.errors import StoreClosedError, StoreUnavailableError
from rehydrate.store.end_questions import EndQuestions
from rehydrate.store.log_watch import LogWatch
from rehydrate.store.port import StreamEnd
from rehydrate.testing.clock import settle


class Database:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.position = 0
        self.asked = 0
        self.answers = asyncio.Event()
        self.error: Exception | None = None

    async def ends(self, streams: Sequence[str]) -> list[StreamEnd]:
        self.asked += 1
        await self.answers.wait()
        if self.error is not None:
            raise self.error
        return [StreamEnd(1, stream) for stream in streams]

    async def last_position(self) -> int:
        self.asked += 1
        if self.error is not None and self.asked > 1:
            raise self.error
        return self.position


async def cancel(owner: EndQuestions | LogWatch, task: str) -> None:
    """As a framework does with all tasks before it stops its loop."""
    vars(owner)[task].cancel()
    await settle()


async def test_who_asks_together_gets_each_his_own_ends_and_who_comes_meanwhile_asks_anew() -> None:
    database = Database()
    questions = EndQuestions(database.ends)
    first = [asyncio.create_task(questions.ask([name])) for name in "ab"]
    await settle()
    late = asyncio.create_task(questions.ask(["c", "d"]))
    await settle()
    assert database.asked == 1
    database.answers.set()
    assert await asyncio.gather(*first) == [[StreamEnd(1, "a")], [StreamEnd(1, "b")]]
    assert await late == [StreamEnd(1, "c"), StreamEnd(1, "d")]
    assert database.asked == 2
    await questions.close()


async def test_a_question_whose_task_is_ended_by_somebody_is_answered_all_the_same() -> None:
    database = Database()
    questions = EndQuestions(database.ends)
    asked = [asyncio.create_task(questions.ask(["a"]))]
    await settle()
    asked.append(asyncio.create_task(questions.ask(["b"])))
    await settle()
    await cancel(questions, "_asking")
    for each in asked:
        with pytest.raises(StoreUnavailableError, match="CancelledError"):
            await each
    database.answers.set()
    assert await questions.ask(["c"]) == [StreamEnd(1, "c")]
    await questions.close()


async def test_a_question_whose_task_is_ended_before_it_begins_is_answered_too() -> None:
    database = Database()
    questions = EndQuestions(database.ends)
    asked = [asyncio.create_task(questions.ask([name])) for name in "ab"]
    await asyncio.sleep(0)
    await cancel(questions, "_asking")
    assert database.asked == 0
    for each in asked:
        with pytest.raises(StoreUnavailableError, match="CancelledError"):
            await each
    database.answers.set()
    assert await questions.ask(["c"]) == [StreamEnd(1, "c")]
    await questions.close()


async def test_a_watch_that_is_ended_before_it_begins_keeps_nobody_waiting_either() -> None:
    database = Database()
    watch = LogWatch(database.last_position, poll=3_600)
    waiting = asyncio.create_task(watch.wait(0))
    await asyncio.sleep(0)
    await cancel(watch, "_looking")
    with pytest.raises(StoreUnavailableError, match="CancelledError"):
        await waiting
    database.position = 1
    await watch.wait(0)
    watch.close()


async def test_a_watch_that_is_ended_by_somebody_keeps_nobody_waiting_and_the_next_one_begins_anew() -> None:
    database = Database()
    watch = LogWatch(database.last_position, poll=3_600)
    waiting = asyncio.create_task(watch.wait(0))
    await settle()
    await cancel(watch, "_looking")
    with pytest.raises(StoreUnavailableError, match="CancelledError"):
        await waiting
    again = asyncio.create_task(watch.wait(0))
    await settle()
    database.position = 1
    watch.hint()
    await again
    watch.close()


async def test_a_watch_that_fails_in_a_way_that_nobody_thought_of_keeps_nobody_waiting() -> None:
    database = Database()
    database.error = ValueError("a mistake")
    watch = LogWatch(database.last_position, poll=3_600)
    waiting = asyncio.create_task(watch.wait(0))
    await settle()
    looking = vars(watch)["_looking"]
    watch.hint()
    with pytest.raises(StoreUnavailableError, match="a mistake"):
        await waiting
    with pytest.raises(ValueError, match="a mistake"):
        await looking
    watch.close()


async def test_who_waits_when_a_watch_is_closed_is_told_so() -> None:
    watch = LogWatch(Database().last_position, poll=3_600)
    waiting = asyncio.create_task(watch.wait(0))
    await settle()
    watch.close()
    with pytest.raises(StoreClosedError):
        await waiting
