"""Which node should own how much: pure, and the same in every node that sees the same table.

Each node does its own part of one plan, so that givers do not overwhelm a receiver and two nodes seldom claim one shard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec


class Move(msgspec.Struct, frozen=True):
    """A shard goes from one node, or from nobody, to another."""

    shard: int
    giver: str | None
    receiver: str


def plan(shards: Mapping[str | None, Sequence[int]], leaving: Sequence[str] = ()) -> list[Move]:
    """All that is to be moved until everybody has a fair share: those of nobody first.

    `shards` has those of each node, and under None those of nobody. Nobody gives more than it has too much.
    """
    takers = sorted(node for node in shards if node is not None and node not in leaving)
    if not takers:
        return []
    quotas = _quotas(shards, takers)
    free = [(shard, None) for shard in sorted(shards.get(None, ()))]
    surplus: list[tuple[int, str | None]] = []
    for node in sorted(node for node in shards if node is not None):
        too_many = len(shards[node]) - quotas.get(node, 0)
        if too_many > 0:
            surplus += [(shard, node) for shard in sorted(shards[node])[-too_many:]]
    # One for each in turn: newcomers that came together grow together.
    receivers = _in_turn(takers, {node: quotas[node] - len(shards[node]) for node in takers})
    return [
        Move(shard, giver, receiver)
        for (shard, giver), receiver in zip(free + surplus, receivers, strict=False)
    ]


def _quotas(shards: Mapping[str | None, Sequence[int]], takers: Sequence[str]) -> dict[str, int]:
    total = sum(len(owned) for owned in shards.values())
    fair, left_over = divmod(total, len(takers))
    # Who has most already keeps one more, so that nothing moves without need.
    first = sorted(takers, key=lambda node: (-len(shards[node]), node))[:left_over]
    return {node: fair + (node in first) for node in takers}


def _in_turn(takers: Sequence[str], wanted: dict[str, int]) -> list[str]:
    receivers: list[str] = []
    while any(count > 0 for count in wanted.values()):
        for node in takers:
            if wanted[node] > 0:
                wanted[node] -= 1
                receivers.append(node)
    return receivers
