"""A process of its own that runs a node, and says who its server is: `python node_process.py NAME DATA PEERS HOW`.

HOW is `ready` (it waits until it is killed), `waits` (its peers never come), `at once` (it kills itself as soon as the
server's keeper was started), `forks` (a forked process goes on when it is killed), `forks and ends` (that process ends by
leaving its own copy of the node), or `leaves` (it ends without a word).
"""

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any

from rehydrate.cluster import Node
from rehydrate.nats.server import ServerChild


async def main(name: str, data: str, peers: str, how: str) -> None:
    if how == "at once":
        _kill_ourselves_while_it_starts()
    node = Node(name=name, data=data, peers=peers)
    if how == "waits":
        starting = asyncio.ensure_future(node.__aenter__())
        while not node.server_pid:  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(0.01)
        os.write(1, f"{node.server_pid}\n".encode())
        await starting
    async with node:
        forked = 0
        if how == "forks":
            forked = os.fork()
            if not forked:
                signal.pause()
        if how == "forks and ends":
            pid, forked = node.server_pid, os.fork()
            if not forked:
                await node.__aexit__(None, None, None)
                os._exit(0)  # to close the event loop here would break that of the other process
            os.waitpid(forked, 0)
            is_well = node.server_pid == pid and (await node.health()).is_ready
            os.write(1, f"{is_well}\n".encode())
            return
        os.write(1, f"{node.server_pid} {forked}\n".encode())
        if how == "leaves":
            os._exit(3)
        await asyncio.Event().wait()


def _kill_ourselves_while_it_starts() -> None:
    def killed(_: ServerChild) -> Coroutine[Any, Any, list[str]]:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("we are dead")

    ServerChild._next = killed  # type: ignore[assignment,method-assign]  # pyright: ignore[reportPrivateUsage]


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
