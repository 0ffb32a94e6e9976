"""Somebody ends all tasks of the event loop, at whatever moment: every append has an outcome, and the store goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rehydrate import StoreError, open_store
from rehydrate.store.port import Appended, NewEvent

TURNS = 14
"""Within so many turns of the loop an append is on its way."""


@pytest.fixture(params=["sqlite", "postgres", "mongodb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'bank.db'}"
    given: str = request.getfixturevalue(f"{request.param}_url")
    return given


class Waiter:
    def __init__(self) -> None:
        self.outcome: asyncio.Future[Appended | StoreError] = asyncio.get_running_loop().create_future()

    def append_done(self, outcome: Appended | StoreError) -> None:
        self.outcome.set_result(outcome)


def _end_all_tasks() -> None:
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


async def test_appends_have_an_outcome_and_the_store_goes_on(url: str) -> None:
    store = await open_store(url)
    for turns in range(TURNS):
        waiters: list[Waiter] = []
        for half in range(2):
            for number in range(2):
                waiters.append(waiter := Waiter())
                name = f"{turns}-{half}-{number}"
                assert store.submit(f"account-{name}", [NewEvent(name, "Happened", b"{}")], 0, waiter) is None
            for _ in range(turns if half == 0 else 0):
                await asyncio.sleep(0)
        _end_all_tasks()
        async with asyncio.timeout(30):
            await asyncio.wait([waiter.outcome for waiter in waiters])
            name = f"after-{turns}"
            await store.append(f"account-{name}", [NewEvent(name, "Happened", b"{}")], expected_version=0)
            assert await store.versions([f"account-{name}"]) == [1]
    async with asyncio.timeout(30):
        await store.close()
