"""The median time of a command that runs on another node, beside a plain request whose responder makes the same append.

`python -m bench.routing ROLE URL ACCOUNTS EVENTS` is the other node, or the plain responder. It says when it is ready,
and ends with its stdin.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from bench.appending import new_events
from bench.bank import bank
from bench.dispatching import fill
from bench.nats import EXPECTS, REPLICAS, as_soon_as_it_can, connect, create, fill_raw
from bench.sample import MeasurementError, Sample, Size, require
from bench.servers import Server, trust_own_servers
from rehydrate.cluster.address import SHARDS
from rehydrate.testing.clock import until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from nats.aio.msg import Msg

T = TypeVar("T")

_PROJECT: Final = Path(__file__).parent.parent
_SUBJECT: Final = "bench.append"
_NODES: Final = 2


class _Request(msgspec.Struct):
    account: int
    amount: int


def routed_latency(size: Size, _: Path) -> Sample:
    """One caller, who sends commands to those accounts that the other of two nodes owns."""
    with Server.NATS.database() as url:
        return asyncio.run(_routed(url, size))


def plain_latency(size: Size, _: Path) -> Sample:
    """One caller, who sends a request with nats-py; the responder does a `js.publish` on its expectation."""
    with Server.NATS.database() as url:
        return asyncio.run(_plain(url, size))


async def _routed(url: str, size: Size) -> Sample:
    domain = bank()
    async with _other("node", url, size), domain.app.open(url, cluster=f"{url}?moves=1000") as runtime:
        # Each node has its half as soon as both have seen each other, and the last shard has been handed over.
        await until(lambda: runtime.statistics().shards == SHARDS // _NODES)
        theirs: list[str] = []
        for id in (f"account-{number}" for number in range(size.accounts)):
            before = runtime.statistics().routed
            await runtime.dispatch(domain.account, id, domain.deposit(1))
            if runtime.statistics().routed > before:
                theirs.append(id)
        before = runtime.statistics().routed
        times = await _timed(theirs, size, lambda id: runtime.dispatch(domain.account, id, domain.deposit(1)))
        if runtime.statistics().routed - before != len(times):
            raise MeasurementError("not every command ran on the other node")
        stored = sum(await runtime.store.versions([domain.account.stream(id) for id in theirs]))
        require(stored=stored, expected=len(theirs) * (size.events + 1) + len(times), what="routed commands")
    return _sample(times)


async def _plain(url: str, size: Size) -> Sample:
    client = await connect(url)
    try:
        async with _other("responder", url, size):

            async def ask(account: int) -> None:
                answer = await client.request(_SUBJECT, msgspec.json.encode(_Request(account, 1)))
                if not answer.data.isdigit():
                    raise MeasurementError(answer.data.decode())

            await as_soon_as_it_can(lambda: ask(0))
            times = await _timed(range(size.accounts), size, ask)
    finally:
        await client.close()
    return _sample(times)


async def _timed(whom: Sequence[T], size: Size, ask: Callable[[T], Awaitable[object]]) -> list[float]:
    times: list[float] = []
    gc.collect()
    until = perf_counter() + size.seconds
    for one in cycle(whom):
        began = perf_counter()
        await ask(one)
        ended = perf_counter()
        times.append(ended - began)
        if ended >= until:
            break
    return times


def _sample(times: list[float]) -> Sample:
    times.sort()
    return Sample(
        median(times) * 1_000, {"commands": len(times), "p99 ms": times[int(len(times) * 0.99)] * 1_000}
    )


@asynccontextmanager
async def _other(role: str, url: str, size: Size) -> AsyncGenerator[None]:
    """The other process, from when it is ready until it has ended."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.routing", role, url, str(size.accounts), str(size.events)),
        cwd=_PROJECT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if not await process.stdout.readline():
            raise MeasurementError(f"the other process ended with {await process.wait()}")
        yield
    finally:
        process.stdin.close()
        await process.wait()


async def _node(url: str, accounts: int, events: int) -> None:
    domain = bank()
    async with domain.app.open(url, cluster=f"{url}?moves=1000") as runtime:
        await fill(runtime, domain, [f"account-{number}" for number in range(accounts)], events)
        await _serve()


async def _responder(url: str, accounts: int, events: int) -> None:
    client = await connect(url)
    name = urlsplit(url).path.strip("/")
    jetstream = await create(client, name, REPLICAS)
    subjects = [f"{name}.account-{number}" for number in range(accounts)]
    lasts = await fill_raw(jetstream, subjects, events)
    (event,) = new_events(1)

    async def append(message: Msg) -> None:
        subject = subjects[msgspec.json.decode(message.data, type=_Request).account]
        payload = msgspec.msgpack.encode(msgspec.structs.astuple(event))
        ack = await jetstream.publish(subject, payload, headers={EXPECTS: str(lasts[subject])})
        lasts[subject] = ack.seq
        await message.respond(str(ack.seq).encode())

    await client.subscribe(_SUBJECT, cb=append)  # pyright: ignore[reportUnknownMemberType]
    await client.flush()
    await _serve()
    await client.close()


async def _serve() -> None:
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    _role, _url, _accounts, _events = sys.argv[1:]
    trust_own_servers()
    asyncio.run((_node if _role == "node" else _responder)(_url, int(_accounts), int(_events)))
