"""Three processes that dispatch to one store, while a reader follows its log: how much they reach together.

`python -m bench.processes URL FIRST STEP SECONDS ACCOUNTS` is one of them. It says when it is ready, begins at a line
on stdin, and ends with what it reached.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from time import perf_counter
from typing import Final

import msgspec

from bench.bank import Bank, bank
from bench.dispatching import fill
from bench.sample import MeasurementError, Sample, Size, require
from bench.servers import Server
from rehydrate.errors import VersionConflictError
from rehydrate.runtime.runtime import Runtime
from rehydrate.store.port import Store
from rehydrate.store.url import open_store

PROCESSES: Final = 3
_CALLERS: Final = 64
_PROJECT: Final = Path(__file__).parent.parent


class Reached(msgspec.Struct, frozen=True):
    """What one process did."""

    commands: int
    seconds: float
    conflicts: int
    sent_again: int
    """Commands that were decided again as often as the defaults allow, and then sent again by their caller."""


def rate_on_own_accounts(server: Server, size: Size, _: Path) -> Sample:
    """Each process has a third of the accounts."""
    with server.database() as url:
        return asyncio.run(_rate(url, size, shared=False))


def rate_on_shared_accounts(server: Server, size: Size, _: Path) -> Sample:
    """Every process sends commands to every account."""
    with server.database() as url:
        return asyncio.run(_rate(url, size, shared=True))


async def _rate(url: str, size: Size, *, shared: bool) -> Sample:
    domain = bank()
    async with domain.app.open(url) as runtime:
        ids = [f"account-{number}" for number in range(size.accounts)]
        await fill(runtime, domain, ids, size.events)
    step = 1 if shared else PROCESSES
    workers = [await _start(url, 0 if shared else number, step, size) for number in range(PROCESSES)]
    for worker in workers:
        await _line(worker)
    store = await open_store(url)
    ended = asyncio.Event()
    reader = asyncio.create_task(_follow(store, ended))
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(b"begin\n")
    reached = [msgspec.json.decode(await _line(worker), type=Reached) for worker in workers]
    for worker in workers:
        await worker.wait()
    ended.set()
    seen = await reader
    commands = sum(one.commands for one in reached)
    require(
        stored=(await store.head()).position,
        expected=size.accounts * size.events + commands,
        what="3 processes",
    )
    require(stored=seen, expected=size.accounts * size.events + commands, what="the reader")
    await store.close()
    return Sample(
        sum(one.commands / one.seconds for one in reached),
        {
            "commands": commands,
            "least share": min(one.commands for one in reached) / commands,
            "conflicts": sum(one.conflicts for one in reached),
            "sent again": sum(one.sent_again for one in reached),
            "missed by the reader": 0,
        },
    )


async def _start(url: str, first: int, step: int, size: Size) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.processes", url),
        *(str(first), str(step), str(size.seconds), str(size.accounts)),
        cwd=_PROJECT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )


async def _line(worker: asyncio.subprocess.Process) -> bytes:
    assert worker.stdout is not None
    line = await worker.stdout.readline()
    if not line:
        raise MeasurementError(f"one of the processes ended with {await worker.wait()}")
    return line


async def _follow(store: Store, ended: asyncio.Event) -> int:
    """Read on to the end again and again; how many events there were, each at its place in its stream."""
    versions: dict[str, int] = {}
    position = count = 0
    while True:
        was_over = ended.is_set()
        page = await store.read_all(after=position)
        for event in page.events:
            if event.position <= position or event.version != versions.get(event.stream, 0) + 1:
                raise MeasurementError(f"the reader met {event.stream} {event.version} out of order")
            position = event.position
            versions[event.stream] = event.version
        count += len(page.events)
        if page.is_last and was_over:
            return count
        if page.is_last:
            # A breath, as a consumer that waits for more takes it.
            await asyncio.sleep(0.005)


async def _caller(runtime: Runtime, domain: Bank, ids: Sequence[str], until: float) -> tuple[int, int]:
    """How many events were stored, and how often a command was sent again that had met too many conflicts."""
    answered = sent_again = 0
    for id in cycle(ids):
        for command in (domain.deposit(10), domain.withdraw(1)):
            while True:
                try:
                    answered += len((await runtime.dispatch(domain.account, id, command)).events)
                    break
                except VersionConflictError:
                    sent_again += 1
        if perf_counter() >= until:
            break
    return answered, sent_again


async def _work(url: str, first: int, step: int, seconds: float, accounts: int) -> None:
    domain = bank()
    async with domain.app.open(url) as runtime:
        ids = [f"account-{number}" for number in range(first, accounts, step)]
        for start in range(0, len(ids), _CALLERS):
            await asyncio.gather(*[runtime.state(domain.account, id) for id in ids[start : start + _CALLERS]])
        gc.collect()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        began = perf_counter()
        until = began + seconds
        # Where accounts are shared, each caller begins elsewhere, so that not all want the same one at once.
        answered = await asyncio.gather(
            *[
                _caller(runtime, domain, ids[number::_CALLERS] if step > 1 else ids[number * 7 :], until)
                for number in range(_CALLERS)
            ]
        )
        took = perf_counter() - began
        commands, sent_again = map(sum, zip(*answered, strict=True))
        reached = Reached(commands, took, runtime.statistics().conflicts, sent_again)
    print(msgspec.json.encode(reached).decode(), flush=True)


if __name__ == "__main__":
    _url, _first, _step, _seconds, _accounts = sys.argv[1:]
    asyncio.run(_work(_url, int(_first), int(_step), float(_seconds), int(_accounts)))
