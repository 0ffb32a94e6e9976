"""Two versions of one module, each in processes of its own, in one cluster: an upgrade, node by node."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from rehydrate.testing.clock import HANG_LIMIT
from tests.cluster.purse_told import Told

_ROOT = Path(__file__).parent.parent.parent

_OLD = """
from dataclasses import dataclass
from rehydrate import Aggregate, Rejection

@dataclass(frozen=True)
class Put:
    amount: int

@dataclass(frozen=True)
class WasPut:
    amount: int

class TooMuch(Rejection): ...

def decide(state, command):
    if command.amount > 100:
        raise TooMuch(amount=command.amount)
    return [WasPut(command.amount)]

def evolve(state, event):
    return state + event.amount

purse = Aggregate(name="purse", initial=0, decide=decide, evolve=evolve, commands=Put, events=WasPut)
"""
_NEW = """
from dataclasses import dataclass
from rehydrate import Aggregate, Rejection

@dataclass(frozen=True)
class Put:
    amount: int
    currency: str = "EUR"

@dataclass(frozen=True)
class Award:
    amount: int

@dataclass(frozen=True)
class WasPut:
    amount: int

class TooMuch(Rejection): ...

def decide(state, command):
    if command.amount > 100:
        raise TooMuch(amount=command.amount)
    return [WasPut(command.amount)]

def evolve(state, event):
    return state + event.amount

purse = Aggregate(name="purse", initial=0, decide=decide, evolve=evolve, commands=Put | Award, events=WasPut)
"""


class Node:
    """One process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self) -> bytes:
        assert self._process.stdout is not None
        async with asyncio.timeout(HANG_LIMIT):
            return await self._process.stdout.readline()

    async def ask(self, id: str, command: str, **fields: Any) -> Told:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{id} ".encode() + msgspec.json.encode((command, fields)) + b"\n")
        return msgspec.json.decode(await self.line(), type=Told)

    async def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        async with asyncio.timeout(HANG_LIMIT):
            assert await self._process.wait() == 0

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def a_node(code: Path, store: str, cluster: str) -> AsyncGenerator[Node]:
    path = [str(code), *(path for path in sys.path if path)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.cluster.purse_node", store, cluster),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
    )
    node = Node(process)
    try:
        assert await node.line() == b"ready\n"
        yield node
    finally:
        await node.kill()


async def test_an_upgrade_node_by_node_loses_no_command_and_refuses_what_is_not_known_yet(
    store: str, cluster: str, tmp_path: Path
) -> None:
    for name, text in (("old", _OLD), ("new", _NEW)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "purse.py").write_text(text)
    ids = [f"p{number}" for number in range(30)]
    async with (
        a_node(tmp_path / "old", store, cluster) as old,
        a_node(tmp_path / "new", store, cluster) as new,
    ):
        told = [await new.ask(id, "Award", amount=1) for id in ids]
        # What the old node owned refuses the new command, and says which node that was.
        refused = [each for each in told if each.outcome == "UnknownCommandError"]
        assert {each.outcome for each in told} == {"stored", "UnknownCommandError"}
        assert all("'purse' takes no command 'Award' (it takes: Put)" in each.text for each in refused)
        assert all("the node that owns it" in each.text for each in refused)
        versions = {id: each.version for id, each in zip(ids, told, strict=True)}
        for id in ids:
            for node in (old, new):
                versions[id] += 1
                assert (await node.ask(id, "Put", amount=5)).version == versions[id]
                no = await node.ask(id, "Put", amount=500)
                assert (no.outcome, no.text) == ("TooMuch", "too much: amount 500")
        await old.close()
        async with a_node(tmp_path / "new", store, cluster) as newer:
            for id in ids:
                for node in (new, newer):
                    versions[id] += 1
                    assert (await node.ask(id, "Award", amount=1)).version == versions[id]
