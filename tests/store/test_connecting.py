"""Who is given up while he connects leaves nothing open behind."""

from __future__ import annotations

import asyncio
import gc
import re
import socket
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from rehydrate.errors import StoreUnavailableError
from rehydrate.store.url import open_store
from rehydrate.testing.clock import until

LEFT_TO_THE_COLLECTOR = (
    r"unclosed <socket\.socket fd=\d+, family=\d+, type=1, proto=6, laddr=\('127\.0\.0\.1', \d+\)>"
)


@pytest.fixture
def deaf() -> Iterator[str]:
    """Host and port of a server that takes no connection and refuses none: as many wait as may wait."""
    with ExitStack() as ending:
        listening = ending.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            waiting = ending.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield "{}:{}".format(*listening.getsockname())


def connecting() -> set[Path]:
    """The descriptors of this process that are sockets."""
    found: set[Path] = set()
    for each in Path("/proc/self/fd").iterdir():
        try:
            if str(each.readlink()).startswith("socket:"):
                found.add(each)
        except FileNotFoundError:
            pass
    return found


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="looks at the descriptors as Linux shows them")
@pytest.mark.parametrize("is_cancelled", [True, False])
@pytest.mark.parametrize(
    "url", ["postgresql://ada@{}/bank?connect_timeout=0.5", "mongodb://{}/bank?timeout=0.5"]
)
async def test_a_store_that_is_given_up_while_it_connects_leaves_no_socket_open(
    deaf: str, url: str, *, is_cancelled: bool
) -> None:
    before = connecting()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        opening = asyncio.create_task(open_store(url.format(deaf)))
        if is_cancelled:
            await until(lambda: connecting() - before)
            opening.cancel()
        with pytest.raises(asyncio.CancelledError if is_cancelled else StoreUnavailableError):
            await opening
        del opening
        await until(lambda: gc.collect() >= 0 and connecting() <= before)
    messages = [str(each.message) for each in seen]
    if url.startswith("mongodb"):
        # Its driver closes a socket that does not connect in time, and leaves it to the collector where its task is
        # cancelled, as when the client is closed. When it comes to close that, too, the filter in pyproject.toml can go.
        assert [message for message in messages if not re.fullmatch(LEFT_TO_THE_COLLECTOR, message)] == []
    else:
        assert messages == []
