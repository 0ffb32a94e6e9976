"""`rehydrate node`: a node until Ctrl-C, which says what it does and whom it sees."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from signal import Signals
from typing import Final
from urllib.parse import quote

from rehydrate.cli.endings import say
from rehydrate.cli.interrupts import CODES, listening
from rehydrate.cluster.node import Node, NodeHealth

_LOOK: Final = 1.0
"""Seconds between two looks at how the node is."""
_NOT_CURRENT: Final = re.compile(r"JetStream stream '(?:\S+ > )?(\S+)' is not current")


async def run_node(node: Node) -> int:
    """Run a node until a signal ends it; the exit code is 0 then."""
    # What happens to the node is what this command is there to say.
    logging.getLogger("rehydrate.cluster").setLevel(logging.INFO)
    task = asyncio.ensure_future(_run(node))
    heard: list[Signals] = []

    def hear(number: Signals) -> None:
        if heard:
            os._exit(CODES[number])
        heard.append(number)
        task.cancel()
        _tell(node, "ends")

    with listening(hear):
        try:
            await task
        except asyncio.CancelledError:
            if not heard:
                raise
    _tell(node, "has ended")
    return 0


def _tell(node: Node, sentence: str) -> None:
    say(f"{node.name}: {sentence}")


async def _run(node: Node) -> None:
    _tell(node, f"starts; {_what(node)}")
    async with node:
        _tell(node, f"a store on it is {_shown(node)}")
        seen: list[str] = []
        while True:
            now = sentences(await node.health(), node)
            for sentence in now:
                if sentence not in seen:
                    _tell(node, sentence)
            seen = now
            await asyncio.sleep(_LOOK)


def _what(node: Node) -> str:
    others = node.plan.others
    if not others:
        return f"alone, data in {node.data}"
    return f"one of {node.replicas}, with {' and '.join(others)}; data in {node.data}"


def _shown(node: Node) -> str:
    """A store's URL with NAME and TOKEN to be filled in."""
    token = node.plan.token
    url = node.store_url("NAME")
    return url.replace(f"{quote(token, safe='')}@", "TOKEN@") if token else url


def sentences(health: NodeHealth, node: Node) -> list[str]:
    """How it is, one for each thing that can change: what is said when it is well again tells that it was not."""
    if not health.is_ready:
        return [f"not ready: {health.error or 'its server does not answer'}"]
    found: list[str] = []
    if node.plan.others:
        found.append(
            f"connected with {' and '.join(health.connected)}"
            + (f", not with {' and '.join(health.missing)}" if health.missing else "")
        )
        found.append(f"the leader is {health.leader}")
    if health.behind:
        found.append(f"copies that have to catch up: {', '.join(health.behind)}")
    if health.error:
        found.append(_in_words(health.error))
    if not health.behind and not health.error:
        found.append("all copies are current")
    return found


def _in_words(error: str) -> str:
    own = _NOT_CURRENT.match(error)
    return f"its own copy has to catch up: {own[1]}" if own else f"the server says: {error}"
