"""`rehydrate cluster`: which nodes there are, and which of them owns what."""

from __future__ import annotations

from typing import Final

import msgspec

from rehydrate.cli.table import Column, RowWriter, write_json
from rehydrate.cluster.survey import survey
from rehydrate.cluster.table import Table, shard_of
from rehydrate.domain.streams import check_id

_NODES: Final = (
    Column("shards", 6, is_number=True),
    Column("position", 12, is_number=True),
    Column("node", 0),
)
_OWNER: Final = (Column("shard", 5, is_number=True), Column("node", 0))
_NOBODY: Final = "(nobody)"


class _Node(msgspec.Struct):
    """A node, or under None what nobody owns now."""

    node: str | None
    label: str | None
    shards: int
    position: int = 0
    is_leaving: bool = False


class _Owner(msgspec.Struct):
    stream: str
    shard: int
    node: str | None
    label: str | None


async def show_nodes(url: str, *, as_table: bool) -> int:
    """List the nodes of a cluster with the shards that each owns. Returns the exit code."""
    nodes = _nodes(await survey(url))
    if not as_table:
        write_json([msgspec.json.encode(node) for node in nodes])
        return 0
    rows = RowWriter(_NODES)
    for node in nodes:
        leaving = " (leaving)" if node.is_leaving else ""
        position = "" if node.node is None else f"{node.position:,}"
        rows.write([str(node.shards), position, f"{node.label or _NOBODY}{leaving}"])
    return 0


def _nodes(table: Table) -> list[_Node]:
    owned = table.shards_of()
    nodes = [
        _Node(node, card.label, len(owned[node]), card.position, card.is_leaving)
        for node, card in sorted(table.nodes.items(), key=lambda item: (item[1].label, item[0]))
    ]
    if owned[None]:
        nodes.append(_Node(None, None, len(owned[None])))
    return nodes


async def show_owner(url: str, aggregate: str, id: str, *, as_table: bool) -> int:
    """Say which node has an aggregate. Returns the exit code."""
    check_id(id)
    table = await survey(url)
    stream = f"{aggregate}-{id}"
    shard = shard_of(stream, len(table.given))
    ownership = table.owner(shard)
    node = None if ownership is None else ownership.node
    label = None if node is None else table.nodes[node].label
    if as_table:
        RowWriter(_OWNER).write([str(shard), label or _NOBODY])
    else:
        write_json([msgspec.json.encode(_Owner(stream, shard, node, label))])
    return 0
