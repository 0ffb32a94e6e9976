"""What a peer on NATS does before its clock runs: a node hears a moment later of what another one has made."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

from bench.nats import as_soon_as_it_can, connect, create

Steps = tuple[Callable[[], Awaitable[object]], Callable[[], Awaitable[object]]]


@pytest.fixture
async def client(nats_url: str) -> AsyncIterator[Client]:
    client = await connect(nats_url)
    yield client
    await client.close()


async def _a_request(client: Client, name: str) -> Steps:
    async def answer(message: Msg) -> None:
        await message.respond(b"heard")

    async def listen() -> None:
        await client.subscribe(f"{name}-asked", cb=answer)  # pyright: ignore[reportUnknownMemberType]

    return (lambda: client.request(f"{name}-asked"), listen)


async def _a_publish(client: Client, name: str) -> Steps:
    jetstream = client.jetstream()  # pyright: ignore[reportUnknownMemberType]
    return (lambda: jetstream.publish(f"{name}.account-1", b""), lambda: create(client, name, 1))


async def _a_fetch(client: Client, name: str) -> Steps:
    jetstream = await create(client, name, 1)
    await jetstream.publish(f"{name}.account-1", b"")
    pulled = await jetstream.pull_subscribe_bind("reader", stream=f"{name}-raw")
    reader = ConsumerConfig(durable_name="reader", ack_policy=AckPolicy.NONE)

    async def add() -> Any:
        return await jetstream.add_consumer(f"{name}-raw", reader)  # pyright: ignore[reportUnknownMemberType]

    return (lambda: pulled.fetch(1), add)


@pytest.mark.parametrize("prepare", [_a_request, _a_publish, _a_fetch])
async def test_what_finds_nobody_yet_is_asked_again(
    client: Client, nats_url: str, prepare: Callable[[Client, str], Awaitable[Steps]]
) -> None:
    ask, make = await prepare(client, urlsplit(nats_url).path.strip("/"))
    asked = 0

    async def ask_and_make() -> object:
        nonlocal asked
        asked += 1
        try:
            return await ask()
        finally:
            if asked == 1:
                await make()

    assert await as_soon_as_it_can(ask_and_make)
    assert asked == 2
