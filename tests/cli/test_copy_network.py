"""Copies over a network that fails: what arrives is the same, and in the same order."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import pytest

from rehydrate.cli.moving.copy import copy_store
from rehydrate.store.port import NewEvent, Store
from rehydrate.testing.conformance.material import sound_log
from rehydrate.testing.proxy import Proxy
from tests.cli.conftest import NewUrl
from tests.cli.moving import contents, opened, place
from tests.faults.real_servers import impatient

STREAMS = 300
EACH = 20


async def fill_wide(store: Store) -> None:
    """Streams that take turns, so that as much as may be is sent together."""
    for version in range(EACH):
        for stream in range(STREAMS):
            event = NewEvent(f"{stream}.{version}", "T", b"x" * 100)
            await store.append(f"s-{stream}", [event], expected_version=version)


async def keep_cutting(proxy: Proxy) -> None:
    """Cut a connection after some bytes to the server, and then one after some bytes from it, again and again."""
    chance = random.Random(3)
    for from_client in [True, False] * 1_000:
        cut = proxy.cut_after(chance.randrange(2_000, 60_000), from_client=from_client)
        while not cut.has_happened:
            with suppress(TimeoutError):
                await cut.happened()


@pytest.mark.parametrize("kind", ["postgresql", "mongodb"])
async def test_a_connection_that_is_cut_again_and_again_changes_neither_events_nor_their_order(
    new_url: NewUrl, kind: str
) -> None:
    source_url, server = new_url("memory"), new_url(kind)
    async with opened(source_url, server) as (source, destination):
        await fill_wide(source)
        last = (await source.read_all(after=STREAMS * EACH - 1)).events[0]
        await place(source, "balances", last, views=[("k", b"v")])
        async with Proxy(impatient(server)) as proxy:
            cutting = asyncio.create_task(keep_cutting(proxy))
            assert await copy_store(source_url, proxy.url, seal=True) == 0
            cutting.cancel()
            await asyncio.wait([cutting])
        assert await contents(destination) == await contents(source)
        assert len(await sound_log(destination)) == STREAMS * EACH
        there = await destination.load_checkpoint("balances")
        assert there is not None
        assert there.event_id == last.id
