"""A process that forks with an opened store: `python -m rehydrate.testing.conformance.forked OPENER URL`.

The child tries every call and tells each outcome as a JSON object on stdout; then the parent goes on with the store
and exits with 0 if it still works.
"""

from __future__ import annotations

import asyncio
import os
import pkgutil
import sys

import msgspec

from rehydrate.errors import StoreError
from rehydrate.store.port import Appended, Store
from rehydrate.testing.conformance.calls import CALLS, prepare
from rehydrate.testing.conformance.material import events, fill, sound_log


class _Waiter:
    def append_done(self, outcome: Appended | StoreError) -> None:
        raise AssertionError(f"a store that belongs to the parent answered the child: {outcome}")


async def _try_everything(store: Store) -> dict[str, str]:
    outcomes: dict[str, str] = {}
    for name, call in CALLS.items():
        try:
            await asyncio.wait_for(call(store), timeout=5)
            outcomes[name] = "answered"
        except Exception as error:  # noqa: BLE001 - whatever it is, the law decides
            outcomes[name] = type(error).__name__
    submitted = store.submit("account-1", events(1), 3, _Waiter())
    outcomes["submit"] = type(submitted).__name__
    await asyncio.wait_for(store.close(), timeout=5)
    return outcomes


async def _begin(store: Store) -> list[asyncio.Task[Appended]]:
    """Appends that are under way when the process forks."""
    await prepare(store)
    under_way = [
        asyncio.create_task(store.append(f"forked-{n}", events(2), expected_version=0)) for n in range(20)
    ]
    await asyncio.sleep(0)
    return under_way


async def _go_on(store: Store, under_way: list[asyncio.Task[Appended]]) -> None:
    assert [done.version for done in await asyncio.gather(*under_way)] == [2] * 20
    await fill(store, "account-1", 2)
    assert len(await sound_log(store)) == 5 + 40
    await store.close()


def main(opener: str, url: str) -> None:
    loop = asyncio.new_event_loop()
    store: Store = loop.run_until_complete(pkgutil.resolve_name(opener)(url))
    under_way = loop.run_until_complete(_begin(store))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            outcomes = asyncio.run(_try_everything(store))
            sys.stdout.buffer.write(msgspec.json.encode(outcomes))
            sys.stdout.buffer.flush()
            status = 0
        finally:
            os._exit(status)
    _, waited = os.waitpid(child, 0)
    loop.run_until_complete(_go_on(store, under_way))
    loop.close()
    sys.exit(os.waitstatus_to_exitcode(waited))


if __name__ == "__main__":
    main(*sys.argv[1:])
