"""What a cluster of three nodes survives, and how: a disk that is lost, a majority that is away, an orderly leave."""

import asyncio
import shutil
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from rehydrate import StoreUnavailableError, open_store
from rehydrate.cluster import Node as AnyNode
from rehydrate.cluster import NodeFailedError
from rehydrate.store.port import ANY_VERSION, NewEvent, Store
from tests.cluster.places import three_places

Node = partial(AnyNode, ready_within=60.0, token="s3cret")


@asynccontextmanager
async def _three(folder: Path) -> AsyncGenerator[dict[str, AnyNode]]:
    """Three nodes, which a test may stop and start on its own."""
    peers = three_places()
    nodes = {name: Node(name=name, data=folder / name, peers=peers) for name in peers}
    async with AsyncExitStack() as stack:
        await asyncio.gather(*(stack.enter_async_context(node) for node in nodes.values()))
        yield nodes


async def _stop(node: AnyNode) -> None:
    await node.__aexit__(None, None, None)


async def _append(store: Store, number: int) -> None:
    event = NewEvent(id=f"event-{number}", type="Deposited", data=b"{}")
    await store.append("bank_account-ada", [event], expected_version=ANY_VERSION)


async def _until_current(*nodes: AnyNode) -> None:
    """Wait until the copies of all nodes are current, as those say that lead."""
    for node in nodes:
        while True:
            health = await node.health()
            if health.is_ready and not health.behind and not health.missing and not health.error:
                break
            await asyncio.sleep(0.02)


async def test_a_node_whose_disk_was_lost_gets_its_copies_from_the_others(tmp_path: Path) -> None:
    async with _three(tmp_path) as nodes:
        store = await open_store(nodes["a"].store_url("bank"))
        await _append(store, 1)
        await _until_current(*nodes.values())
        await _stop(nodes["c"])
        shutil.rmtree(nodes["c"].data)
        await _append(store, 2)
        await nodes["c"].__aenter__()
        await _until_current(*nodes.values())
        # The copy is whole: with another node gone, it is one of the two that answer.
        await _stop(nodes["b"])
        await _append(store, 3)
        page = await store.read_all()
        assert [each.id for each in page.events] == ["event-1", "event-2", "event-3"]
        await store.close()


@pytest.mark.slow  # nobody is elected for longer than an election takes
async def test_an_empty_disk_and_a_node_that_missed_an_append_do_not_go_on_without_it(tmp_path: Path) -> None:
    async with _three(tmp_path) as nodes:
        store = await open_store(nodes["a"].store_url("bank"))
        await _append(store, 1)
        await _until_current(*nodes.values())
        await _stop(nodes["c"])
        await _append(store, 2)
        await store.close()
        for name in "ab":
            await _stop(nodes[name])
        shutil.rmtree(nodes["b"].data)
        peers = {name: str(place) for name, place in nodes["a"].plan.peers.items()}
        late = [Node(name=name, data=tmp_path / name, peers=peers, ready_within=20.0) for name in "bc"]
        ended = await asyncio.gather(*(node.__aenter__() for node in late), return_exceptions=True)
        assert [type(error) for error in ended] == [NodeFailedError, NodeFailedError]
        await asyncio.gather(*(node.__aenter__() for node in nodes.values()))
        store = await open_store(nodes["b"].store_url("bank"))
        await _append(store, 3)
        assert [each.id for each in (await store.read_all()).events] == ["event-1", "event-2", "event-3"]
        await store.close()


async def test_without_a_majority_nothing_is_acknowledged_and_with_it_again_all_goes_on(
    tmp_path: Path,
) -> None:
    async with _three(tmp_path) as nodes:
        store = await open_store(f"{nodes['a'].store_url('bank')}&timeout=2")
        await _append(store, 1)
        await _stop(nodes["b"])
        await _stop(nodes["c"])
        with pytest.raises(StoreUnavailableError):
            await _append(store, 2)
        await nodes["b"].__aenter__()
        await _until_appended(store, 3)
        page = await store.read_all()
        ids = [each.id for each in page.events]
        assert {*ids} - {"event-2"} == {"event-1", "event-3"}
        await store.close()


async def _until_appended(store: Store, number: int) -> None:
    while True:
        try:
            await _append(store, number)
        except StoreUnavailableError:
            continue
        return
