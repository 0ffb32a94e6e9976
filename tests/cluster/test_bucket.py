"""The bucket in NATS: compare-and-set, keys that expire, and changes in their order."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from nats.aio.msg import Msg

from rehydrate import ConfigurationError
from rehydrate.cluster.address import read_cluster_address
from rehydrate.cluster.bucket import Bucket, Change, WrongRevisionError
from rehydrate.cluster.table import NODE
from rehydrate.nats.connection import Answered, Connection, NotAnswered, NotAnsweredError
from tests.cluster.cluster_nodes import node, placement, quick


@asynccontextmanager
async def bucket_at(url: str, replicas: int | None = None) -> AsyncGenerator[Bucket]:
    address = read_cluster_address(url)
    connection = Connection(address.nats)
    await connection.open()
    try:
        bucket = Bucket(connection, address.bucket)
        await bucket.open(replicas, within=5)
        yield bucket
    finally:
        await connection.close()


async def test_a_key_is_written_at_its_revision_only(nats_url: str) -> None:
    async with bucket_at(nats_url) as bucket:
        first = await bucket.put("a", b"1", revision=0)
        with pytest.raises(WrongRevisionError):
            await bucket.put("a", b"2", revision=0)
        second = await bucket.put("a", b"2", revision=first)
        with pytest.raises(WrongRevisionError):
            await bucket.delete("a", revision=first)
        third = await bucket.delete("a", revision=second)
        assert first < second < third
        assert await bucket.changes(0) == [Change("a", b"", third)]
        await bucket.put("a", b"3", revision=third)


async def test_changes_are_the_newest_of_each_key_after_a_revision_in_order(nats_url: str) -> None:
    async with bucket_at(nats_url) as bucket:
        assert await bucket.changes(0) == []
        revisions = [await bucket.put(f"k{number}", b"x", revision=0) for number in range(50)]
        again = await bucket.put("k7", b"y", revision=revisions[7])
        changes = await bucket.changes(revisions[9])
        assert [change.key for change in changes] == [f"k{number}" for number in range(10, 50)] + ["k7"]
        assert changes[-1] == Change("k7", b"y", again)
        assert await bucket.changes(again) == []


async def test_more_keys_than_a_page_holds_come_in_several(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rehydrate.cluster.bucket._PAGE", 10)
    async with bucket_at(nats_url) as bucket:
        for number in range(35):
            await bucket.put(f"k{number}", b"x", revision=0)
        assert [change.key for change in await bucket.changes(0)] == [f"k{number}" for number in range(35)]


async def test_a_page_of_which_a_part_is_lost_on_its_way_is_no_page(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a node would pass by a change for half a minute, until it reads everything anew."""
    async with bucket_at(nats_url) as bucket:
        for number in range(5):
            await bucket.put(f"k{number}", b"x", revision=0)
        with monkeypatch.context() as spoiled:
            spoiled.setattr(bucket._connection, "call", losing_the_third(bucket._connection.call))
            with pytest.raises(NotAnsweredError, match="a part of a page was lost"):
                await bucket.changes(0)
        assert len(await bucket.changes(0)) == 5


def losing_the_third(call: Callable[..., None]) -> Callable[..., None]:
    """A network on which the third message of an answer is lost."""

    def spoiled(subject: str, payload: bytes, answered: Answered, **options: Any) -> None:
        messages = itertools.count(1)

        def heard(message: Msg | NotAnswered) -> bool:
            return next(messages) == 3 or answered(message)

        call(subject, payload, heard, **options)

    return spoiled


@pytest.mark.parametrize(
    ("info", "said"),
    [
        ({"jetstream": False}, "has no JetStream: put `jetstream { store_dir: "),
        (
            {"version": "2.10.26"},
            "is a nats-server 2.10.26, which cannot have single keys expire: upgrade it to 2.11",
        ),
    ],
)
async def test_a_server_that_can_keep_no_bucket_is_refused_at_once(
    nats_url: str, info: dict[str, object], said: str
) -> None:
    address = read_cluster_address(nats_url)
    connection = Connection(address.nats)
    await connection.open()
    try:
        # The test servers never start so.
        connection.client._server_info.update(info)
        with pytest.raises(ConfigurationError, match=re.escape(said)):
            await Bucket(connection, address.bucket).open(None, within=5)
    finally:
        await connection.close()


async def test_a_key_that_is_not_renewed_expires_and_the_change_shows(nats_url: str) -> None:
    async with bucket_at(nats_url) as bucket:
        revision = await bucket.put("a", b"1", revision=0, ttl=1)
        renewed = await bucket.put("a", b"1", revision=revision, ttl=1)
        changes: list[Change] = []
        while not changes:
            changes = await bucket.changes(renewed)
        assert [(change.key, change.value) for change in changes] == [("a", b"")]
        with pytest.raises(WrongRevisionError):
            await bucket.put("a", b"1", revision=renewed, ttl=1)


async def test_fewer_replicas_than_asked_for_are_refused(nats_url: str) -> None:
    async with bucket_at(nats_url):
        pass
    with pytest.raises(ConfigurationError, match="has 1 replicas, and replicas=3 asks for more"):
        async with bucket_at(nats_url, replicas=3):
            pass


async def test_three_servers_keep_three_copies(three_nats_url: str) -> None:
    async with bucket_at(three_nats_url):
        pass
    async with bucket_at(three_nats_url, replicas=3):
        pass


async def test_a_bucket_that_was_made_otherwise_is_refused(nats_url: str) -> None:
    address = read_cluster_address(nats_url)
    connection = Connection(address.nats)
    await connection.open()
    try:
        name = f"KV_{address.bucket}"
        plain = {
            "name": name,
            "subjects": [f"$KV.{address.bucket}.>"],
            "storage": "file",
            "allow_direct": True,
        }
        await connection.ask(f"$JS.API.STREAM.CREATE.{name}", msgspec.json.encode(plain))
    finally:
        await connection.close()
    with pytest.raises(ConfigurationError, match="was made with max_msgs_per_subject=-1 and not 1"):
        async with bucket_at(nats_url):
            pass


async def test_a_node_of_another_protocol_is_not_joined(store: str, nats_url: str) -> None:
    async with node(store, quick(nats_url)) as first:
        card = msgspec.json.encode({"label": "host/7", "wire": 2})
        await placement(first).membership.bucket.put(f"{NODE}other", card, revision=0)
        with pytest.raises(ConfigurationError, match="host/7 speaks version 2 of the cluster's protocol"):
            async with node(store, quick(nats_url)):
                pass
