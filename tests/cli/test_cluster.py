"""`rehydrate cluster`: who is there, and who has what."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from rehydrate.cli.cluster import show_nodes, show_owner
from rehydrate.errors import ConfigurationError
from tests.bank import Deposit, account
from tests.cli.terminal import Ended, typed
from tests.cluster.cluster_nodes import SHARDS, ids_of, nodes, placement, quick


async def shown(url: str, *arguments: str) -> Ended:
    return await asyncio.to_thread(typed, "cluster", "--cluster", url, *arguments)


async def test_it_lists_the_nodes_and_says_who_has_an_aggregate(
    tmp_path: Path, nats_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with nodes(f"sqlite:///{tmp_path}/bank.db", quick(nats_url)) as (first, second):
        (id,) = ids_of(second)
        await first.dispatch(account, id, Deposit(1))
        told = await shown(nats_url)
        assert told.code == 0
        names = {placement(each).membership.node for each in (first, second)}
        assert {each["node"] for each in told.answers} == names
        assert [each["shards"] for each in told.answers] == [SHARDS // 2, SHARDS // 2]
        here = f"{socket.gethostname()}/"
        assert all(each["label"].startswith(here) for each in told.answers)
        (owner,) = (await shown(nats_url, account.name, id)).answers
        assert (owner["stream"], owner["node"]) == (account.stream(id), placement(second).membership.node)
        assert owner["shard"] == placement(second).shards.of(account.stream(id))
        capsys.readouterr()
        await show_nodes(nats_url, as_table=True)
        await show_owner(nats_url, account.name, id, as_table=True)
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines] == ["shards", "16", "16", "shard", str(owner["shard"])]
        assert all(here in line for line in (lines[1], lines[2], lines[4]))
    told = await shown(nats_url)
    assert told.answers == [nobody(SHARDS)]
    (owner,) = (await shown(nats_url, account.name, id)).answers
    assert (owner["node"], owner["label"]) == (None, None)


def nobody(shards: int) -> dict[str, Any]:
    return {"node": None, "label": None, "shards": shards, "position": 0, "is_leaving": False}


async def test_to_look_for_a_cluster_makes_none(nats_url: str) -> None:
    for _ in range(2):
        told = await shown(nats_url)
        assert (told.code, told.stdout) == (1, "")
        assert "there is no cluster of this name: is it right?" in told.stderr
    with pytest.raises(ConfigurationError, match="no cluster of this name"):
        await show_nodes(nats_url, as_table=False)


def test_an_aggregate_is_asked_for_by_name_and_id() -> None:
    told = typed("cluster", "--cluster", "nats://localhost/bank", "account")
    assert told.code == 2
    assert "an aggregate has a name and an id" in told.stderr
