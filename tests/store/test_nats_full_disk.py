"""The disk under NATS is full: what was acknowledged is there, and nothing else is, once there is room again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rehydrate.errors import StoreUnavailableError
from rehydrate.store.url import open_store
from rehydrate.testing.conformance.material import event, ids, sound_log
from rehydrate.testing.servers import NatsServer
from tests.store.small_disks import enlarge, small_disk

StartNats = Callable[..., NatsServer]


@pytest.fixture
def disk() -> Iterator[Path]:
    with small_disk(4) as folder:
        yield folder


@pytest.mark.slow  # The server gives no answer, and nothing but time tells.
async def test_a_full_disk_loses_nothing_and_a_server_that_is_started_anew_goes_on(
    start_nats: StartNats, disk: Path
) -> None:
    """From the first write that fails on the server answers no append, also when there is room, until it is started anew."""
    server = start_nats(settings={"jetstream": {"store_dir": str(disk), "max_file": 10**10}})
    store = await open_store(f"{server.fresh_url()}?timeout=1")
    acked: list[str] = []
    full: StoreUnavailableError | None = None
    new = event(data=os.urandom(100_000))
    while full is None:
        try:
            await store.append("account-1", [new], expected_version=len(acked))
            acked.append(new.id)
            new = event(data=os.urandom(100_000))
        except StoreUnavailableError as error:
            full = error
    assert (full.stored, full.retryable) == (None, True)
    assert "no space left on device" in server.nodes[0].log()
    assert ids(await sound_log(store)) == acked
    enlarge(disk, 40)
    with pytest.raises(StoreUnavailableError, match="no answer came in time"):
        await store.append("account-1", [new], expected_version=len(acked))
    await asyncio.to_thread(server.restart)
    await store.append("account-1", [new], expected_version=len(acked))
    assert ids(await sound_log(store)) == [*acked, new.id]
    await store.close()
