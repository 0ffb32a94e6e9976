"""A process that stands still, or is killed, in the middle of an append on the wire: others go on within seconds.

The proxy holds the append at one of its messages. There are no hooks in the code for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from rehydrate import Runtime
from rehydrate.runtime.window import metadata_in
from rehydrate.testing.clock import until
from rehydrate.testing.proxy import Held, Proxy
from rehydrate.testing.wire import Message
from tests.bank import Account, Deposit, account, app
from tests.faults.campaign import whole_log
from tests.faults.real_servers import impatient
from tests.faults.worker import Run, Stored
from tests.faults.workers import Worker, Workers, workers_on

PATIENCE = 10.0
"""Seconds within which others have to go on. They need a few milliseconds; a lock would hold them up for a minute."""

CASES = {
    ("postgres", "alone"): ["Bind", "half of Bind", "Execute", "Sync", "answer"],
    ("postgres", "overtaken"): ["Bind", "half of Bind", "Execute", "Sync", "answer"],
    ("mongodb", "alone"): ["update", "half of update", "answer"],
    ("mongodb", "overtaken"): ["find", "update", "half of update"],
}
"""What is sent where nobody else has appended since, and where somebody has: with the lock, and after a look."""


@pytest.fixture
def server_url(request: pytest.FixtureRequest, kind: str) -> str:
    return impatient(request.getfixturevalue(f"{kind}_url"))


@pytest.fixture
async def proxy(server_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(server_url) as proxy:
        yield proxy


@pytest.fixture
async def workers(proxy: Proxy) -> AsyncIterator[Workers]:
    async with workers_on(proxy.url) as workers:
        yield workers


@pytest.fixture
async def bank(server_url: str) -> AsyncIterator[Runtime]:
    """The others, who have a network of their own."""
    async with app.open(server_url) as bank:
        yield bank


class HeldWriter:
    """A process with a bank, whose appends are held at a message."""

    def __init__(self, proxy: Proxy, worker: Worker, bank: Runtime, message: str, *, overtaken: bool) -> None:
        self.worker = worker
        self._proxy = proxy
        self._bank = bank
        self._message = message
        self._overtaken = overtaken
        self._connection = 0
        """Over which it appends."""
        proxy.on_message = self._look

    def _look(self, message: Message) -> None:
        if message.name in {"Bind", "insert", "update"} and b"Deposited" in message.data:
            self._connection = message.connection

    async def begin(self, *ids: str) -> None:
        """Append, so that its connection is there, its statements are known, and it knows whether others append."""
        for id in ids:
            await self._be_overtaken(id)
            assert isinstance(await self.worker.ask(order(id), id), Stored)

    async def _be_overtaken(self, id: str) -> None:
        if self._overtaken:
            await deposit(self._bank, f"before {id}")

    async def stands_still(self, id: str) -> Held:
        """Have it append, and stop it when its message is held."""
        await self._be_overtaken(id)
        held = self._hold()
        self.worker.order(order(id))
        await held.reached()
        self.worker.pause()
        return held

    def _hold(self) -> Held:
        connection = self._connection
        assert connection, "nothing was appended yet"

        def is_there(message: Message) -> bool:
            return message.connection == connection

        if self._message == "answer":
            return self._proxy.hold_answer(where=is_there)
        half, _, name = self._message.rpartition(" ")
        return self._proxy.hold(name, where=is_there, part=0.5 if half else 0.0)

    async def goes_on(self, held: Held, id: str) -> Stored:
        self.worker.resume()
        held.release()
        await self.worker.told(lambda: id in self.worker.answers)
        answer = self.worker.answers.pop(id)
        assert isinstance(answer, Stored), answer
        return answer


async def deposit(bank: Runtime, id: str) -> Stored:
    result = await bank.dispatch(account, "ada", Deposit(1), command_id=id)
    return Stored(id, result.version, result.position)


def order(id: str) -> Run:
    return Run(id=id, account="ada", amount=1)


async def others_go_on(bank: Runtime, *ids: str) -> list[Stored]:
    """On the same account, and on another."""
    async with asyncio.timeout(PATIENCE):
        stored = [await deposit(bank, id) for id in ids]
        await bank.dispatch(account, "bob", Deposit(1))
        await bank.state(account, "ada")
    return stored


async def verify_once(bank: Runtime, *answers: Stored) -> None:
    """Each of them is there once, where it was told to be, and the states are those of the log."""
    log = await whole_log(bank.store)
    ids = [metadata_in(event).command_id for event in log]
    assert len(set(ids)) == len(ids), "a command is there twice"
    for answer in answers:
        event = log[answer.position - 1]
        assert (ids[answer.position - 1], event.version) == (answer.id, answer.version)
    count = sum(event.stream == account.stream("ada") for event in log)
    async with app.open(bank.store) as fresh:
        for one in (bank, fresh):
            assert await one.state(account, "ada") == Account(count, count)


@pytest.mark.parametrize(
    ("kind", "way", "message"),
    [
        pytest.param(kind, way, message, id=f"{kind}, {way}, {message}")
        for (kind, way), messages in CASES.items()
        for message in messages
    ],
)
async def test_a_process_held_in_the_middle_of_an_append_holds_nobody_up_and_stores_it_once(
    proxy: Proxy, workers: Workers, bank: Runtime, way: str, message: str
) -> None:
    writer = HeldWriter(proxy, await workers.start(), bank, message, overtaken=way == "overtaken")
    await writer.begin("first", "second")

    # It stands still, the others append to the same account, and it goes on.
    held = await writer.stands_still("held")
    faster = await others_go_on(bank, "faster", "faster still")
    await verify_once(bank, *faster, await writer.goes_on(held, "held"))

    # It stands still, somebody else repeats its command, and it goes on.
    await writer.begin("third")
    held = await writer.stands_still("held again")
    repeated = await others_go_on(bank, "held again", "behind it")
    assert await writer.goes_on(held, "held again") == repeated[0]
    await verify_once(bank, *faster, *repeated)

    # It stands still and is killed; what it sent last arrives when it is dead and its command was repeated.
    await writer.begin("fourth")
    held = await writer.stands_still("left behind")
    faster = await others_go_on(bank, "faster again")
    await writer.worker.kill()
    repeated = await others_go_on(bank, "left behind", "the last")
    held.release()
    await until(lambda: not proxy.connections)
    await verify_once(bank, *faster, *repeated)
