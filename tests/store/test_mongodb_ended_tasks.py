"""Somebody ends all tasks of the event loop: the driver's own, which it would never begin again, are not among them."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Final

import pytest

from rehydrate.store.port import Checkpoint, NewEvent, Store, ViewChange
from rehydrate.store.url import open_store
from rehydrate.testing.clock import settle
from rehydrate.testing.conformance.material import events, fill
from rehydrate.testing.proxy import Proxy

pytestmark = pytest.mark.filterwarnings(
    # On Python 3.11 somebody who ends all tasks ends those in which PyMongo connects, and it leaves their sockets to
    # the garbage collector (its PYTHON-5867), with their transports where they have got that far.
    r"ignore:unclosed <socket\.socket fd=\d+, family=\d+, type=1, proto=6, laddr=\('[0-9.]+', \d+\):ResourceWarning",
    r"ignore:unclosed transport <_SelectorSocketTransport fd=\d+:ResourceWarning",
)
SOON: Final = 5.0
"""Seconds; the store's patience is twice as long."""


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """What is left to the garbage collector is told of here, rather than in another test."""
    yield
    gc.collect()


def end_all_tasks() -> None:
    """All but those of the test and of its network."""
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        coroutine: Any = task.get_coro()
        if not coroutine.cr_code.co_filename.endswith(("/testing/proxy.py", "/asyncio/streams.py")):
            task.cancel()


async def in_full_use(store: Store) -> list[asyncio.Task[None]]:
    """Callers of every kind, more than there are connections."""

    async def read(caller: int) -> None:
        await store.read_stream(f"account-{caller}")

    async def append(caller: int) -> None:
        stream = f"account-{caller}"
        await store.append(stream, events(1), expected_version=(await store.versions([stream]))[0])

    async def save(caller: int) -> None:
        name = f"balances-{caller}"
        previous = await store.load_checkpoint(name)
        position = 1 if previous is None else previous.position + 1
        checkpoint = Checkpoint(name=name, position=position, event_id="e", epoch=1, data=b"")
        await store.save_checkpoint(checkpoint, previous=previous, views=[ViewChange(key="k", data=b"1")])

    async def again_and_again(call: Callable[[int], Awaitable[None]], caller: int) -> None:
        while True:
            await call(caller)

    def begin(coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.create_task(coroutine)

    return [
        begin(store.wait(after=1_000_000)),
        *[begin(again_and_again(read, caller)) for caller in range(20)],
        *[begin(again_and_again(append, caller)) for caller in range(5)],
        *[begin(again_and_again(save, caller)) for caller in range(3)],
    ]


async def test_a_store_in_full_use_is_closed_at_once(mongodb_url: str) -> None:
    for turns in range(6):
        store = await open_store(mongodb_url)
        callers = await in_full_use(store)
        for _ in range(40 + 15 * turns):
            await asyncio.sleep(0)
        end_all_tasks()
        async with asyncio.timeout(SOON):
            await store.close()
            await asyncio.wait(callers)


async def test_a_connection_that_breaks_afterwards_is_made_anew(mongodb_url: str) -> None:
    async with Proxy(mongodb_url) as proxy:
        store = await open_store(proxy.url)
        await fill(store, "account-1", 1)
        end_all_tasks()
        proxy.cut()
        async with asyncio.timeout(SOON):
            await fill(store, "account-2", 1)
            assert len((await store.read_stream("account-1")).events) == 1
            await store.close()


async def test_a_look_at_the_server_that_was_cut_off_is_taken_again(mongodb_url: str) -> None:
    async with Proxy(mongodb_url) as proxy:
        store = await open_store(f"{proxy.url}&heartbeatFrequencyMS=500")
        held = proxy.hold("hello")
        await held.reached()
        end_all_tasks()
        held.release()
        await settle()
        proxy.cut()
        async with asyncio.timeout(SOON):
            await fill(store, "account-1", 1)
            await store.close()


@pytest.mark.parametrize("kind", ["update", "commitTransaction"])
async def test_what_was_under_way_is_done_once_and_its_outcome_told(mongodb_url: str, kind: str) -> None:
    async with Proxy(mongodb_url) as proxy:
        store = await open_store(proxy.url)
        await fill(store, "account-1", 1)
        checkpoint = Checkpoint(name="balances", position=1, event_id="e", epoch=1, data=b"")
        held = proxy.hold(kind)
        under_way: asyncio.Task[Any]
        if kind == "update":
            event = NewEvent("new", "Happened", b"{}")
            under_way = asyncio.create_task(store.append("account-1", [event], expected_version=1))
        else:
            views = [ViewChange(key="k", data=b"1")]
            under_way = asyncio.create_task(store.save_checkpoint(checkpoint, previous=None, views=views))
        await held.reached()
        end_all_tasks()
        held.release()
        async with asyncio.timeout(SOON):
            await asyncio.wait([under_way])
            await store.close()
        store = await open_store(mongodb_url)
        if kind == "update":
            assert len((await store.read_stream("account-1")).events) == 2
        else:
            assert await store.load_checkpoint("balances") == checkpoint
        await store.close()


NEVER_CLOSED = """
import asyncio, sys
from rehydrate import open_store
from rehydrate.store.port import NewEvent

async def main():
    store = await open_store(sys.argv[1])
    await store.append("account-1", [NewEvent("one", "Happened", b"{}")], expected_version=0)
    print("done")

asyncio.run(main())
"""


async def test_a_program_that_never_closes_its_store_ends_quietly(mongodb_url: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", NEVER_CLOSED, mongodb_url,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert await process.communicate() == (b"done\n", b"")
