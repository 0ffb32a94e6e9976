"""Nodes that are processes of their own, and callers whose commands are counted in the log afterwards."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from rehydrate import (
    CommandResult,
    OutcomeUnknownError,
    RehydrateError,
    Rejection,
    Runtime,
    VersionConflictError,
    open_store,
)
from rehydrate.store.port import every_event
from rehydrate.testing.clock import until
from tests.bank import Deposit, Withdraw, account
from tests.faults.workers import Worker

_numbers = itertools.count()
_ROOT = Path(__file__).parent.parent.parent


@asynccontextmanager
async def processes(store: str, cluster: str, count: int) -> AsyncGenerator[list[Worker]]:
    """So many processes that are nodes; none is left behind."""
    workers: list[Worker] = []
    try:
        workers += [await start(store, cluster) for _ in range(count)]
        for worker in workers:
            await worker.ready()
        yield workers
    finally:
        for worker in workers:
            await worker.kill()


async def start(store: str, cluster: str) -> Worker:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.cluster.bank_node", store, cluster),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    return Worker(process)


class Caller:
    """Puts money into one account and tries to take too much out of it, without a pause, and keeps the books."""

    def __init__(self, runtime: Runtime, id: str, name: str) -> None:
        self.runtime = runtime
        self.id = id
        self.name = name
        self.stored: list[str] = []
        self.refused: list[str] = []
        self.unknown: list[str] = []
        self.failed: list[RehydrateError] = []
        self.balances: list[tuple[int, object, int]] = []
        """What was acknowledged when a refusal was decided, the balance that it names, and what was unknown."""
        self.longest = 0.0
        """Seconds that the slowest command took."""
        self.answered = 0
        self._asked = 0

    async def run(self, is_over: Callable[[], bool]) -> None:
        while not is_over():
            began = time.monotonic()
            await self._deposit()
            await self._withdraw_too_much()
            self.longest = max(self.longest, time.monotonic() - began)
            self.answered += 1

    def _next(self) -> str:
        self._asked += 1
        return f"{self.name} {self.id} {self._asked}"

    async def _deposit(self) -> None:
        order = self._next()
        try:
            result = await self.runtime.dispatch(account, self.id, Deposit(1), metadata={"order": order})
        except OutcomeUnknownError:
            self.unknown.append(order)
        except VersionConflictError:
            # While an owner is silent several nodes decide for one account; whoever was always slower is told so.
            self.refused.append(order)
        except RehydrateError as error:
            self.failed.append(error)
        else:
            assert isinstance(result, CommandResult)
            self.stored.append(order)

    async def _withdraw_too_much(self) -> None:
        order = self._next()
        try:
            await self.runtime.dispatch(account, self.id, Withdraw(10**9), metadata={"order": order})
        except Rejection as no:
            self.refused.append(order)
            self.balances.append((len(self.stored), no.facts["balance"], len(self.unknown)))
        except OutcomeUnknownError:
            self.unknown.append(order)
        except VersionConflictError:
            self.refused.append(order)
        except RehydrateError as error:
            self.failed.append(error)


@asynccontextmanager
async def calling(runtime: Runtime, ids: list[str]) -> AsyncGenerator[list[Caller]]:
    """A caller for each account, until the end of `with`."""
    is_over = False
    name = f"caller{next(_numbers)}"
    callers = [Caller(runtime, id, name) for id in ids]
    async with asyncio.TaskGroup() as running:
        for caller in callers:
            running.create_task(caller.run(lambda: is_over))
        try:
            await progress(callers)
            yield callers
            await progress(callers)
        finally:
            is_over = True


async def progress(callers: list[Caller], rounds: int = 3) -> None:
    """Wait until each of them has been answered some more times."""
    before = [caller.answered for caller in callers]
    await until(
        lambda: all(caller.answered >= count + rounds for caller, count in zip(callers, before, strict=True))
    )


async def check(store: str, callers: list[Caller]) -> None:
    """Each acknowledged command is stored once, each refused one nowhere, and no other one twice."""
    found: Counter[str] = Counter()
    opened = await open_store(store)
    try:
        for id in sorted({caller.id for caller in callers}):
            versions: list[int] = []
            async for event in every_event(opened, account.stream(id)):
                versions.append(event.version)
                found[msgspec.json.decode(event.metadata)["user"]["order"]] += 1
            assert versions == list(range(1, len(versions) + 1))
    finally:
        await opened.close()
    for caller in callers:
        assert not caller.failed, caller.failed
        others = sum(len(other.stored) + len(other.unknown) for other in callers if other.id == caller.id)
        for stored, balance, unknown in caller.balances:
            assert isinstance(balance, int)
            is_alone = others == len(caller.stored) + len(caller.unknown)
            assert stored <= balance <= (stored + unknown if is_alone else others)
        assert [order for order in caller.stored if found[order] != 1] == []
        assert [order for order in caller.refused if found[order]] == []
        assert [order for order in caller.unknown if found[order] > 1] == []
