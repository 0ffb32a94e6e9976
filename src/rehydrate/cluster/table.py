"""Who is there and who owns what, as the bucket tells it: values without a clock and without a connection."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from rehydrate.cluster.bucket import Change

WIRE: Final = 1
"""The version of what nodes say to each other. Nodes of different versions do not share a cluster."""

NODE: Final = "node."
SHARD: Final = "shard."
SETTINGS: Final = "settings"


class NodeCard(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a node tells of itself in the key that is its lease."""

    label: str
    """For people: host and process."""
    wire: int = WIRE
    position: int = 0
    """A position of the store that it knows of."""
    head_position: int = 0
    head_id: str = ""
    """The newest event of its store, not long ago."""
    is_leaving: bool = False
    """Whether it takes no more shards."""


class Settings(msgspec.Struct, frozen=True):
    """What was fixed when the cluster was first started."""

    shards: int


class Ownership(msgspec.Struct, frozen=True):
    """A shard was given to a node; the revision tells this time from every other."""

    node: str
    revision: int


class Table:
    """Nodes and owners of shards. A shard whose owner has no card has no owner."""

    def __init__(self, shards: int) -> None:
        self.revision = 0
        """Up to which everything was read."""
        self.nodes: dict[str, NodeCard] = {}
        self.node_revisions: dict[str, int] = {}
        self.given: list[Ownership] = [Ownership("", 0)] * shards

    def owner(self, shard: int) -> Ownership | None:
        ownership = self.given[shard]
        return ownership if ownership.node in self.nodes else None

    def shards_of(self) -> Mapping[str | None, list[int]]:
        """The shards of each node, and under None those of nobody."""
        shards: dict[str | None, list[int]] = {None: []} | {node: [] for node in self.nodes}
        for shard, ownership in enumerate(self.given):
            shards[ownership.node if ownership.node in self.nodes else None].append(shard)
        return shards

    def apply(self, changes: Iterable[Change]) -> tuple[set[str], list[int]]:
        """Take over what has changed: the nodes that are gone by it, and the shards that were given to somebody."""
        gone: set[str] = set()
        given: list[int] = []
        for change in changes:
            if change.key.startswith(NODE):
                node = change.key[len(NODE) :]
                if change.revision <= self.node_revisions.get(node, 0):
                    continue
                self.node_revisions[node] = change.revision
                if change.value:
                    self.nodes[node] = msgspec.json.decode(change.value, type=NodeCard)
                elif self.nodes.pop(node, None) is not None:
                    gone.add(node)
            elif change.key.startswith(SHARD):
                shard = int(change.key[len(SHARD) :])
                if shard < len(self.given) and change.revision > self.given[shard].revision:
                    self.given[shard] = Ownership(change.value.decode(), change.revision)
                    given.append(shard)
        return gone, given

    def retain(self, changes: Iterable[Change]) -> set[str]:
        """These are all the keys that there are: forget nodes whose key has gone unseen; which."""
        listed = {change.key[len(NODE) :] for change in changes if change.key.startswith(NODE)}
        newest = max((change.revision for change in changes), default=0)
        gone = {
            node for node in self.nodes if node not in listed and self.node_revisions.get(node, 0) < newest
        }
        for node in gone:
            del self.nodes[node]
        for node in set(self.node_revisions) - set(self.nodes) - listed:
            del self.node_revisions[node]
        return gone


def shard_of(stream: str, shards: int) -> int:
    """The same for the same stream in every process and version."""
    # What is no id at all is refused later, with the reason.
    return zlib.crc32(stream.encode(errors="surrogatepass")) % shards
