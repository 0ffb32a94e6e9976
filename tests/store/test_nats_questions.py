"""Questions to JetStream are asked again while nobody answers them, and any answer will do."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from nats.aio.msg import Msg

from rehydrate.errors import StoreUnavailableError
from rehydrate.nats.address import read_nats_address
from rehydrate.nats.connection import Connection
from rehydrate.store.nats.jetstream import JetStream
from rehydrate.store.nats.turns import AT_ONCE
from rehydrate.store_url import StoreUrl
from rehydrate.testing.clock import HANG_LIMIT, settle, until


@pytest.fixture
async def connection(nats_url: str) -> AsyncIterator[Connection]:
    url = StoreUrl(nats_url)
    connection = Connection(read_nats_address(url))
    await connection.open()
    yield connection
    await connection.close()


@pytest.mark.parametrize("which", [0, 1], ids=["to the first", "to the second"])
async def test_a_question_without_an_answer_is_asked_once_more_and_the_answer_to_either_counts(
    connection: Connection, which: int
) -> None:
    """So it is when a leader is lost: the first may be heard by nobody, and by one who answers late."""
    heard: list[Msg] = []

    async def hear(question: Msg) -> None:
        heard.append(question)
        if len(heard) == 2:
            await heard[which].respond(b'{"name": "bank"}')

    await connection.client.subscribe("$JS.API.ASKED", cb=hear)  # pyright: ignore[reportUnknownMemberType]
    assert await JetStream(connection).api("ASKED") == {"name": "bank"}
    assert len(heard) == 2


async def test_while_nobody_answers_one_of_them_is_asked_again_at_a_time_and_then_all(
    connection: Connection,
) -> None:
    """Servers without a leader are not to be given more to do by everybody who waits for one."""
    heard: list[Msg] = []

    async def hear(question: Msg) -> None:
        heard.append(question)

    await connection.client.subscribe("$JS.API.ASKED", cb=hear)  # pyright: ignore[reportUnknownMemberType]
    jetstream = JetStream(connection)
    asked = [asyncio.create_task(jetstream.api("ASKED", {"n": n})) for n in range(20)]
    await until(lambda: len(heard) >= 23)
    assert [question.data for question in heard[20:23]] == [question.data for question in heard[:3]]
    answered = heard[-1]
    await answered.respond(b'{"name": "bank"}')
    others = {question.data for question in heard} - {answered.data}
    count = len(heard)
    await until(lambda: {question.data for question in heard[count:]} >= others)
    for question in heard[count:]:
        await question.respond(b'{"name": "bank"}')
    assert await asyncio.gather(*asked) == [{"name": "bank"}] * 20


async def test_a_server_that_knows_no_leader_does_not_speak_for_the_one_that_answers_after_it(
    connection: Connection,
) -> None:
    """The servers may have no leader of their own for seconds, while a JetStream stream has one, which answers."""
    heard: list[Msg] = []

    async def hear(question: Msg) -> None:
        heard.append(question)
        if len(heard) == 1:
            await question.respond(b'{"error":{"code":503,"err_code":10008,"description":"none"}}')
            await question.respond(b'{"name": "bank"}')

    await connection.client.subscribe("$JS.API.ASKED", cb=hear)  # pyright: ignore[reportUnknownMemberType]
    assert await JetStream(connection).api("ASKED") == {"name": "bank"}


async def test_who_has_no_leader_to_ask_is_told_so_when_the_time_is_over(nats_url: str) -> None:
    connection = Connection(read_nats_address(StoreUrl(f"{nats_url}?timeout=0.5")))
    await connection.open()
    heard: list[Msg] = []

    async def hear(question: Msg) -> None:
        heard.append(question)
        await question.respond(b'{"error":{"code":503,"err_code":10008,"description":"none"}}')

    await connection.client.subscribe("$JS.API.ASKED", cb=hear)  # pyright: ignore[reportUnknownMemberType]
    with pytest.raises(StoreUnavailableError, match="gives no answer: the servers have no leader"):
        await JetStream(connection).api("ASKED")
    assert len(heard) > 1
    await connection.close()


async def test_servers_are_asked_no_faster_than_they_answer(connection: Connection) -> None:
    """Else each question is asked again before its turn comes, and all of them are answered too late."""
    heard: dict[bytes, Msg] = {}
    answered: set[bytes] = set()
    most = 0

    async def hear(question: Msg) -> None:
        nonlocal most
        if question.data in answered:
            await question.respond(b'{"name": "bank"}')  # Asked again before the answer had come.
            return
        heard[question.data] = question
        most = max(most, len(heard))

    await connection.client.subscribe("$JS.API.ASKED", cb=hear)  # pyright: ignore[reportUnknownMemberType]
    jetstream = JetStream(connection)
    asked = [asyncio.create_task(jetstream.api("ASKED", {"n": n})) for n in range(3 * AT_ONCE)]
    async with asyncio.timeout(HANG_LIMIT):
        await until(lambda: len(heard) >= AT_ONCE)
        await settle()
        while not all(task.done() for task in asked):
            await until(lambda: bool(heard) or all(task.done() for task in asked))
            if heard:
                question = heard.pop(next(iter(heard)))
                answered.add(question.data)
                await question.respond(b'{"name": "bank"}')
    assert [task.result() for task in asked] == [{"name": "bank"}] * len(asked)
    assert most == AT_ONCE


async def test_who_waits_for_his_turn_is_told_when_nothing_is_answered(nats_url: str) -> None:
    connection = Connection(read_nats_address(StoreUrl(f"{nats_url}?timeout=0.3")))
    await connection.open()

    async def hear(_: Msg) -> None:
        """And say nothing."""

    await connection.client.subscribe("$JS.API.ASKED", cb=hear)  # pyright: ignore[reportUnknownMemberType]
    jetstream = JetStream(connection)
    asked = [asyncio.create_task(jetstream.api("ASKED", {"n": n})) for n in range(3 * AT_ONCE)]
    async with asyncio.timeout(HANG_LIMIT):
        ended = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(error, StoreUnavailableError) and "no answer" in str(error) for error in ended)
    await connection.close()


async def test_who_is_cancelled_while_he_waits_takes_no_turn(connection: Connection) -> None:
    heard: list[Msg] = []

    async def hear(question: Msg) -> None:
        heard.append(question)

    await connection.client.subscribe("$JS.API.ASKED", cb=hear)  # pyright: ignore[reportUnknownMemberType]
    jetstream = JetStream(connection)
    asked = [asyncio.create_task(jetstream.api("ASKED", {"n": n})) for n in range(2 * AT_ONCE)]
    await until(lambda: len(heard) >= AT_ONCE)
    for task in asked:
        task.cancel()
    assert len(await asyncio.gather(*asked, return_exceptions=True)) == len(asked)
    heard.clear()
    last = asyncio.create_task(jetstream.api("ASKED", {"n": -1}))
    await until(lambda: any(b"-1" in question.data for question in heard))
    await next(question for question in heard if b"-1" in question.data).respond(b'{"name": "bank"}')
    assert await last == {"name": "bank"}


async def page(question: Msg, numbers: list[int], *, lost: int = 0) -> None:
    """Answer as a server does, except for what is lost on its way."""
    last = 0
    for number in numbers:
        headers = {
            "Nats-Sequence": str(number),
            "Nats-Subject": f"bank.e.account.{number}",
            "Nats-Last-Sequence": str(last),
        }
        if number != lost:
            await question._client.publish(question.reply, b"data", headers=headers)
        last = number
    end = {"Status": "204", "Nats-Num-Pending": "0", "Nats-Last-Sequence": str(last)}
    await question._client.publish(question.reply, b"", headers=end)


@pytest.mark.parametrize("lost", [3, 5, 9])
async def test_a_page_of_which_a_part_is_lost_on_its_way_is_asked_for_again(
    connection: Connection, lost: int
) -> None:
    """Each message names the one before it: else a reader would pass events that he has not seen."""
    heard: list[Msg] = []

    async def hear(question: Msg) -> None:
        heard.append(question)
        await page(question, [3, 5, 9], lost=lost if len(heard) == 1 else 0)

    await connection.client.subscribe("$JS.API.DIRECT.GET.ASKED", cb=hear)  # pyright: ignore[reportUnknownMemberType]
    batch = await JetStream(connection).batch("ASKED", "bank.e.*.*", 1, 10, 1_000)
    assert [message.number for message in batch.messages] == [3, 5, 9]
    assert batch.is_end
    assert len(heard) == 2


async def test_a_name_that_two_pages_of_names_have_is_told_once(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is where another one came in between, and all behind it moved on."""
    jetstream = JetStream(connection)

    async def answer(_: str, question: dict[str, Any]) -> dict[str, Any]:
        if question["offset"] == 0:
            return {"total": 3, "state": {"subjects": {"a": 1, "c": 1}}}
        return {"total": 4, "state": {"subjects": {"c": 1, "d": 1}}}

    monkeypatch.setattr(jetstream, "api", answer)
    assert await jetstream.subjects("ASKED", ">") == ["a", "c", "d"]
