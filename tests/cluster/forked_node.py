"""A process that is a node and forks: `python -m tests.cluster.forked_node STORE CLUSTER`.

It writes as JSON what the child was answered for an aggregate of each of two nodes, and then what the parent was.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack

import msgspec

from rehydrate import Runtime
from tests.bank import Deposit, account
from tests.cluster.cluster_nodes import ids_of, nodes


async def ask(bank: Runtime, ids: list[str]) -> list[str]:
    """What comes of a command for each."""
    told: list[str] = []
    for id in ids:
        try:
            done = await bank.dispatch(account, id, Deposit(1), timeout=5)
            told.append(str(done.version))
        except Exception as error:  # noqa: BLE001 - whatever it is, the test decides
            told.append(type(error).__name__)
    return told


def main(store: str, cluster: str) -> None:
    loop = asyncio.new_event_loop()
    stack = AsyncExitStack()
    first, second = loop.run_until_complete(stack.enter_async_context(nodes(store, cluster)))
    ids = [*ids_of(first), *ids_of(second)]
    before = loop.run_until_complete(ask(first, ids))
    read, write = os.pipe()
    child = os.fork()
    if not child:
        told = loop.run_until_complete(ask(first, ids))
        loop.run_until_complete(first.close())
        os.write(write, msgspec.json.encode(told))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    in_child = msgspec.json.decode(os.read(read, 65_536))
    after = loop.run_until_complete(ask(first, ids))
    owned = first.statistics().shards, second.statistics().shards
    loop.run_until_complete(stack.aclose())
    print(msgspec.json.encode([before, in_child, after, owned]).decode())  # noqa: T201 - it is what the test reads


if __name__ == "__main__":
    main(*sys.argv[1:])
