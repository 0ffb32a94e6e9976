"""A process that is a node with the `purse` that its PYTHONPATH has: `python -m tests.cluster.purse_node STORE CLUSTER`.

A line on stdin is an id, a blank, and the JSON of `[class, fields]` of a command; what came of it is told as JSON.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import msgspec
import purse  # type: ignore[import-not-found] # pyright: ignore[reportMissingImports]

from rehydrate import App, RehydrateError, Rejection, Runtime
from tests.cluster.purse_told import Told


async def run(runtime: Runtime, id: str, kind: str, fields: dict[str, Any]) -> Told:
    module: Any = purse
    try:
        result = await runtime.dispatch(module.purse, id, getattr(module, kind)(**fields))
    except (Rejection, RehydrateError) as error:
        return Told(type(error).__name__, str(error))
    return Told("stored", version=result.version)


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main(store: str, cluster: str) -> None:
    module: Any = purse
    loop = asyncio.get_running_loop()
    async with App(aggregates=[module.purse]).open(store, cluster=cluster) as runtime:
        tell("ready")
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            id, _, command = line.partition(" ")
            kind, fields = msgspec.json.decode(command)
            told = await run(runtime, id, kind, fields)
            tell(msgspec.json.encode(told).decode())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
