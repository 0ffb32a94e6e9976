"""What is too large for one message of NATS takes another way."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from rehydrate import Aggregate, App, CommandResult, Rejection, Runtime
from rehydrate.testing.servers import NatsServer
from tests.cluster.cluster_nodes import balanced, ids_of, node, placement, quick

MESSAGE = 200_000


@dataclass(frozen=True)
class Write:
    text: str
    times: int = 1


@dataclass(frozen=True)
class Written:
    text: str


class Unwanted(Rejection): ...


def decide(state: str, command: Write) -> Iterable[Written]:
    if command.text == "no":
        raise Unwanted(text=command.text * 200_000)
    return [Written(command.text) for _ in range(command.times)]


def evolve(state: str, event: Written) -> str:
    return state + event.text


note = Aggregate(name="note", initial="", decide=decide, evolve=evolve, commands=Write, events=Written)
app = App(aggregates=[note])


@pytest.fixture
def nats_url(start_nats: Callable[..., NatsServer]) -> str:
    return start_nats(settings={"max_payload": MESSAGE}).fresh_url()


@asynccontextmanager
async def two(store: str, nats_url: str) -> AsyncGenerator[tuple[Runtime, Runtime]]:
    async with node(store, quick(nats_url), of=app) as here, node(store, quick(nats_url), of=app) as there:
        await balanced(here, there)
        yield here, there


async def test_a_result_that_is_too_large_is_read_from_the_store_and_so_is_the_state(
    store: str, nats_url: str
) -> None:
    async with two(store, nats_url) as (here, there):
        (id,) = ids_of(there, 1, note)
        text = "x" * 50_000
        result = await here.dispatch(note, id, Write(text, 10))
        assert result == CommandResult(10, result.position, (Written(text),) * 10)
        assert there.statistics().served == 1
        assert await here.state(note, id) == text * 10
        assert (await here.dispatch(note, id, Write("y"))).version == 11


async def test_a_command_that_is_too_large_is_run_where_it_is_asked_for(store: str, nats_url: str) -> None:
    async with two(store, nats_url) as (here, there):
        (id,) = ids_of(there, 1, note)
        await here.dispatch(note, id, Write("a"))
        text = "x" * 300_000
        assert (await here.dispatch(note, id, Write(text))).version == 2
        assert (there.statistics().served, here.statistics().live) == (1, 1)
        assert (await here.dispatch(note, id, Write("b"))).version == 3
        assert await there.state(note, id) == f"a{text}b"


async def test_a_refusal_that_is_too_large_is_run_where_it_is_asked_for(store: str, nats_url: str) -> None:
    async with two(store, nats_url) as (here, there):
        (id,) = ids_of(there, 1, note)
        with pytest.raises(Unwanted) as no:
            await here.dispatch(note, id, Write("no"))
        assert no.value.facts == {"text": "no" * 200_000}
        assert placement(there).connection.is_connected
