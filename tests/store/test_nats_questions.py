"""Questions to JetStream are asked again while nobody answers them, and any answer will do."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from nats.aio.msg import Msg

from rehydrate.nats.address import read_nats_address
from rehydrate.nats.connection import Connection
from rehydrate.store.nats.jetstream import JetStream
from rehydrate.store_url import StoreUrl


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
