"""Rehydrate runs on the event loop of uvloop as it does on asyncio's own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import uvloop

from rehydrate.store.url import open_store
from tests.bank import Account, Deposit, account, app


@pytest.mark.parametrize("kind", ["memory", "sqlite", "postgres", "mongodb", "nats"])
def test_commands_are_dispatched_followed_and_rehydrated(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    match kind:
        case "memory":
            url = "memory://"
        case "sqlite":
            url = f"sqlite:///{tmp_path / 'bank.db'}"
        case _:
            url = request.getfixturevalue(f"{kind}_url")

    async def work() -> None:
        assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
        store = await open_store(url)
        try:
            async with app.open(store) as runtime:
                await asyncio.gather(*[runtime.dispatch(account, "alice", Deposit(n)) for n in range(1, 101)])
            async with app.open(store) as runtime:
                assert await runtime.state(account, "alice") == Account(5_050, 100)
            assert len((await store.read_all(after=0)).events) == 100
        finally:
            await store.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work())
