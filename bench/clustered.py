"""Three processes on one store, each by itself and as a cluster: what they reach, how long commands take, and conflicts.

`python -m bench.clustered URL CLUSTER NUMBER USE SECONDS ACCOUNTS` is one of them; CLUSTER may be empty. It says when it
is ready, begins at a line on stdin, and ends with what it reached.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from contextlib import ExitStack
from enum import Enum
from itertools import cycle
from pathlib import Path
from time import perf_counter, process_time
from typing import Final

import msgspec

from bench.bank import Bank, bank
from bench.dispatching import fill
from bench.sample import MeasurementError, Sample, Size, require
from bench.servers import Server, trust_own_servers
from rehydrate.cluster.address import SHARDS
from rehydrate.errors import VersionConflictError
from rehydrate.runtime.runtime import Runtime
from rehydrate.testing.clock import until

PROCESSES: Final = 3
_CALLERS: Final = 16
_HOT: Final = 12
_PROJECT: Final = Path(__file__).parent.parent


class Use(Enum):
    """Which accounts a process sends commands to."""

    OWN = "own"
    """A third of them, which no other process uses."""
    SHARED = "shared"
    """All of them, as the others do."""
    HOT = "hot"
    """The same few as the others."""


class Reached(msgspec.Struct, frozen=True):
    """What one process did."""

    seconds: float
    times: list[float]
    """How long each command took."""
    conflicts: int
    routed: int
    processor: float
    """Seconds of it that the process took."""


def rate(server: Server, use: Use, size: Size, _: Path, *, is_cluster: bool) -> Sample:
    """Commands a second of all three together."""
    with ExitStack() as stack:
        url = stack.enter_context(server.database())
        if not is_cluster:
            cluster = ""
        elif server is Server.NATS:
            cluster = f"{url}?moves=1000"
        else:
            cluster = f"{stack.enter_context(Server.NATS.database())}?moves=1000"
        return asyncio.run(_rate(url, cluster, use, size))


async def _rate(url: str, cluster: str, use: Use, size: Size) -> Sample:
    domain = bank()
    async with domain.app.open(url) as runtime:
        ids = [f"account-{number}" for number in range(size.accounts)]
        await fill(runtime, domain, ids, size.events)
        workers = await asyncio.gather(
            *[_start(url, cluster, number, use, size) for number in range(PROCESSES)]
        )
        try:
            for worker in workers:
                await _line(worker)
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write(b"begin\n")
            reached = [msgspec.json.decode(await _line(worker), type=Reached) for worker in workers]
        finally:
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.close()
                await worker.wait()
        times = sorted(time for one in reached for time in one.times)
        stored = sum(await runtime.store.versions([domain.account.stream(id) for id in ids]))
    require(stored=stored, expected=size.accounts * size.events + len(times), what="3 processes")
    return Sample(
        sum(len(one.times) / one.seconds for one in reached),
        {
            "commands": len(times),
            "p50 ms": times[len(times) // 2] * 1_000,
            "p99 ms": times[int(len(times) * 0.99)] * 1_000,
            "processor ms": sum(one.processor for one in reached) * 1_000 / len(times),
            "conflicts per 1,000": sum(one.conflicts for one in reached) * 1_000 / len(times),
            "routed per 1,000": sum(one.routed for one in reached) * 1_000 / len(times),
        },
    )


async def _start(url: str, cluster: str, number: int, use: Use, size: Size) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.clustered", url, cluster, str(number), use.value),
        *(str(size.seconds), str(size.accounts)),
        cwd=_PROJECT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**26,
    )


async def _line(worker: asyncio.subprocess.Process) -> bytes:
    assert worker.stdout is not None
    line = await worker.stdout.readline()
    if not line:
        raise MeasurementError(f"one of the processes ended with {await worker.wait()}")
    return line


async def _work(url: str, cluster: str, number: int, use: Use, seconds: float, accounts: int) -> None:
    domain = bank()
    async with domain.app.open(url, cluster=cluster or None) as runtime:
        if cluster:
            # Each has its share as soon as all have seen each other.
            await until(lambda: runtime.statistics().shards in {SHARDS // PROCESSES, SHARDS // PROCESSES + 1})
        ids = [f"account-{one}" for one in _accounts(use, number, accounts)]
        for start in range(0, len(ids), _CALLERS):
            await asyncio.gather(*[runtime.state(domain.account, id) for id in ids[start : start + _CALLERS]])
        gc.collect()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        before = runtime.statistics()
        began, processor = perf_counter(), process_time()
        # Each caller begins elsewhere, so that not all of a process want the same account at once.
        callers = [
            _caller(runtime, domain, _from(ids, (one * PROCESSES + number) * 7), began + seconds)
            for one in range(_CALLERS)
        ]
        times = [time for taken in await asyncio.gather(*callers) for time in taken]
        took = perf_counter() - began
        after = runtime.statistics()
        reached = Reached(
            seconds=took,
            times=times,
            conflicts=after.conflicts - before.conflicts,
            routed=after.routed - before.routed,
            processor=process_time() - processor,
        )
        print(msgspec.json.encode(reached).decode(), flush=True)
        # An owner stays until all have what they asked for.
        await asyncio.to_thread(sys.stdin.readline)


def _accounts(use: Use, number: int, accounts: int) -> range:
    match use:
        case Use.OWN:
            return range(number, accounts, PROCESSES)
        case Use.SHARED:
            return range(accounts)
        case Use.HOT:
            return range(_HOT)


def _from(ids: list[str], first: int) -> list[str]:
    first %= len(ids)
    return ids[first:] + ids[:first]


async def _caller(runtime: Runtime, domain: Bank, ids: list[str], until: float) -> list[float]:
    """One caller's loop: how long each of its commands took, each of which stored one event.

    Whoever loses too many conflicts in a row is told so, and sends the command again: its time goes on.
    """
    times: list[float] = []
    for id in cycle(ids):
        began = perf_counter()
        while True:
            try:
                await runtime.dispatch(domain.account, id, domain.deposit(1))
            except VersionConflictError:
                continue
            break
        ended = perf_counter()
        times.append(ended - began)
        if ended >= until:
            break
    return times


if __name__ == "__main__":
    _url, _cluster, _number, _use, _seconds, _most = sys.argv[1:]
    trust_own_servers()
    asyncio.run(_work(_url, _cluster, int(_number), Use(_use), float(_seconds), int(_most)))
