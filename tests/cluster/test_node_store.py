"""A store on nodes of our own: opened by the node's URL, and moved from one node to three."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trustme

from rehydrate import StoreUnavailableError, open_store
from rehydrate.cluster import Node as AnyNode
from tests.bank import Deposit, app
from tests.bank import account as bank_account
from tests.cli.terminal import process
from tests.cluster.certificates import tls_files
from tests.cluster.places import free_place, three_places

Node = partial(AnyNode, ready_within=60.0, token="s3cret")


@asynccontextmanager
async def _three(folder: Path) -> AsyncGenerator[list[AnyNode]]:
    peers = three_places()
    nodes = [Node(name=name, data=folder / name, peers=peers) for name in "abc"]
    async with AsyncExitStack() as stack:
        await asyncio.gather(*(stack.enter_async_context(node) for node in nodes))
        yield nodes


async def test_an_app_runs_on_a_node_and_finds_its_events_after_the_next_start(tmp_path: Path) -> None:
    for balance in (100, 200):
        async with (
            Node(name="a", data=tmp_path, listen=free_place()) as node,
            app.open(node.url + "/bank") as bank,
        ):
            await bank.dispatch(bank_account, "ada", Deposit(100))
            assert (await bank.state(bank_account, "ada")).balance == balance


async def test_the_url_of_a_store_says_whom_to_trust(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tls = tls_files(trustme.CA(), tmp_path)
    async with (
        Node(name="a", data=tmp_path / "a", listen=free_place(), tls=tls) as node,
        app.open(node.store_url("bank")) as bank,
    ):
        assert (await bank.dispatch(bank_account, "ada", Deposit(100))).version == 1
    with pytest.raises(StoreUnavailableError) as refused:
        await open_store(f"{node.url}/bank?timeout=1")
    assert "s3cret" not in str(refused.value)
    # asyncio does not warn of what is as it should be.
    assert "asyncio" not in {record.name for record in caplog.records}


async def test_an_app_goes_on_when_the_server_of_its_node_is_killed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        Node(name="a", data=tmp_path, listen=free_place()) as node,
        app.open(node.store_url("bank")) as bank,
    ):
        assert "write" not in caplog.text  # a node's own URL says that it does, so that nobody is warned
        await bank.dispatch(bank_account, "ada", Deposit(100))
        os.kill(node.server_pid, signal.SIGKILL)
        await bank.dispatch(bank_account, "ada", Deposit(100))
        assert (await bank.state(bank_account, "ada")).balance == 200


async def test_a_store_on_three_nodes_has_three_copies_and_survives_any_one_of_them(tmp_path: Path) -> None:
    async with _three(tmp_path) as nodes, app.open(nodes[0].store_url("bank")) as bank:
        await bank.dispatch(bank_account, "ada", Deposit(100))
        for node in nodes:
            while (await node.health()).behind:  # noqa: ASYNC110 (another process catches up)
                await asyncio.sleep(0.02)
        os.kill(nodes[0].server_pid, signal.SIGKILL)
        await bank.dispatch(bank_account, "ada", Deposit(100))
        assert (await bank.state(bank_account, "ada")).balance == 200


async def test_programs_on_three_nodes_share_their_streams(tmp_path: Path) -> None:
    async with _three(tmp_path) as nodes, AsyncExitStack() as stack:
        banks = [
            await stack.enter_async_context(
                app.open(node.store_url("bank"), cluster=node.cluster_url("bank"))
            )
            for node in nodes
        ]
        for bank in banks:
            for id in ("ada", "bob", "eve"):
                await bank.dispatch(bank_account, id, Deposit(1))
        for id in ("ada", "bob", "eve"):
            assert {(await bank.state(bank_account, id)).balance for bank in banks} == {3}


async def test_a_bank_moves_from_one_node_to_three_by_copy(tmp_path: Path) -> None:
    async with (
        Node(name="a", data=tmp_path / "alone", listen=free_place()) as alone,
        _three(tmp_path) as nodes,
    ):
        async with app.open(alone.store_url("bank")) as bank:
            for name in ("ada", "bob", "eve"):
                await bank.dispatch(bank_account, name, Deposit(100))
            await bank.dispatch(bank_account, "ada", Deposit(11))
        there = nodes[1].store_url("bank")
        copied = await asyncio.to_thread(process, "copy", alone.store_url("bank"), there, "--seal")
        assert copied.code == 0, copied.stderr
        assert "s3cret" not in copied.stderr
        async with app.open(there) as bank:
            assert (await bank.state(bank_account, "ada")).balance == 111
            result = await bank.dispatch(bank_account, "ada", Deposit(1))
            assert result.version == 3
        store = await open_store(nodes[2].store_url("bank"))
        page = await store.read_all()
        assert len(page.events) == 5
        await store.close()
