"""Many who rehydrate share the way to the store, and nobody's trouble becomes another's."""

import asyncio
from collections.abc import Sequence

import pytest

from rehydrate.errors import StoreUnavailableError
from rehydrate.store.port import ReplayPage
from rehydrate.store.replays import Question, Replays
from rehydrate.store.together import answer_all
from rehydrate.testing.clock import settle


def page_of(question: Question) -> ReplayPage:
    stream, after = question.question
    return ReplayPage([], stream, "", after, is_last=True)


class Reader:
    """Answers when it is told to, and notes who came together."""

    def __init__(self) -> None:
        self.came: list[list[str]] = []
        self.may_go_on = asyncio.Event()
        self.replays = Replays(self.read_on, self.read_many)

    async def read_on(self, question: Question) -> None:
        self.came.append([question.question[0]])
        await self.may_go_on.wait()
        if question.question[0] == "bad":
            raise StoreUnavailableError("it is bad")
        answer_all([(question.answer, page_of(question))])

    async def read_many(self, questions: Sequence[Question]) -> None:
        self.came.append([question.question[0] for question in questions])
        await self.may_go_on.wait()
        if any(question.question[0] == "bad" for question in questions):
            raise StoreUnavailableError("one of them is bad")
        answer_all([(question.answer, page_of(question)) for question in questions])

    def ask(self, *streams: str) -> list[asyncio.Task[ReplayPage]]:
        return [asyncio.create_task(self.replays.page(stream, 7)) for stream in streams]


async def test_who_asks_in_one_turn_goes_together_and_the_next_ones_collect() -> None:
    reader = Reader()
    first = reader.ask("a", "b")
    await settle()
    second = reader.ask("c")
    await settle()
    third = reader.ask(*map(str, range(40)))
    await settle()
    assert reader.came == [["a", "b"], ["c"]]
    reader.may_go_on.set()
    pages = await asyncio.gather(*first, *second, *third)
    assert [(page.first_id, page.last_position) for page in pages[:4]] == [
        ("a", 7),
        ("b", 7),
        ("c", 7),
        ("0", 7),
    ]
    assert [len(together) for together in reader.came] == [2, 1, 32, 8]


async def test_an_error_meets_its_owner_only() -> None:
    reader = Reader()
    asked = reader.ask("a", "bad", "b")
    reader.may_go_on.set()
    a, bad, b = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(a, ReplayPage)
    assert isinstance(b, ReplayPage)
    assert str(bad) == "it is bad"
    assert reader.came == [["a", "bad", "b"], ["a"], ["bad"], ["b"]]


async def test_who_does_not_wait_any_more_is_not_asked_for() -> None:
    reader = Reader()
    reader.ask("first")[0].cancel()
    asked = reader.ask("a", "b", "c")
    await asyncio.sleep(0)
    asked[1].cancel()
    await settle()
    asked[0].cancel()
    reader.may_go_on.set()
    assert (await asked[2]).first_id == "c"
    assert reader.came == [["a", "c"]]


async def test_closing_waits_for_all_answers() -> None:
    reader = Reader()
    await reader.replays.close()
    asked = reader.ask(*map(str, range(100)))
    await settle()
    closing = [asyncio.create_task(reader.replays.close()) for _ in range(2)]
    await settle()
    assert not any(task.done() for task in closing)
    reader.may_go_on.set()
    await asyncio.gather(*closing)
    assert all(task.done() for task in asked)


@pytest.mark.parametrize("turns", [2, 30], ids=["before they begin", "while they wait"])
async def test_who_waits_is_let_go_when_all_tasks_of_the_loop_are_ended(turns: int) -> None:
    reader = Reader()
    asked = reader.ask("a", "b")
    for _ in range(turns):
        await asyncio.sleep(0)
    for job in vars(reader.replays)["_jobs"]:
        job.cancel()
    for task in asked:
        with pytest.raises(asyncio.CancelledError):
            await task
