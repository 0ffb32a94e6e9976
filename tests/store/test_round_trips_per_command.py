"""How often a command asks its store, and how often a group of commands does: counted on the wire, and not in time."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

from rehydrate import Runtime
from rehydrate.clock import SystemClock
from rehydrate.testing.proxy import Proxy
from rehydrate.testing.wire import Message, MongoWire
from tests.bank import Deposit, account, app

CALLERS = 64
SEVERAL = 8


async def _one(bank: Runtime) -> None:
    await bank.dispatch(account, "client-0", Deposit(1))


async def _many(bank: Runtime) -> None:
    await asyncio.gather(
        *(bank.dispatch(account, f"client-{number}", Deposit(1)) for number in range(CALLERS))
    )


class RoundTrips:
    """Counts how often a client speaks after the server has: each time is a round trip."""

    def __init__(self, proxy: Proxy) -> None:
        self.asked: list[str] = []
        self._spoke_last: dict[int, bool] = {}
        proxy.on_message = self._heard

    def _heard(self, message: Message) -> None:
        if message.name in MongoWire.background:
            return
        if message.from_client and not self._spoke_last.get(message.connection):
            self.asked.append(message.name)
        self._spoke_last[message.connection] = message.from_client

    async def of_one(self, bank: Runtime) -> float:
        self.asked.clear()
        for _ in range(SEVERAL):
            await _one(bank)
        return len(self.asked) / SEVERAL

    async def of_many(self, bank: Runtime) -> float:
        self.asked.clear()
        for _ in range(SEVERAL):
            await _many(bank)
        return len(self.asked) / SEVERAL


async def test_postgres(postgres_url: str) -> None:
    async with Proxy(postgres_url) as proxy, app.open(proxy.url) as bank:
        await _many(bank)
        await _one(bank)
        trips = RoundTrips(proxy)
        assert await trips.of_one(bank) == 1, trips.asked
        # From an idle store the half goes out first, so that there is something to do while the other is written.
        assert await trips.of_many(bank) <= 2, trips.asked


async def test_mongodb(mongodb_url: str) -> None:
    async with Proxy(mongodb_url) as proxy, app.open(proxy.url) as bank:
        await _many(bank)
        trips = RoundTrips(proxy)
        assert await trips.of_one(bank) == 1, trips.asked
        assert await trips.of_many(bank) <= 1, trips.asked


class NumberedClock(SystemClock):
    """Says another time each time that it is asked, which is once for each commit."""

    def __init__(self) -> None:
        self._asked = 0

    def wall(self) -> int:
        self._asked += 1
        return self._asked


async def test_sqlite(tmp_path: Path) -> None:
    async with app.open(f"sqlite:///{tmp_path}/bank.db", clock=NumberedClock()) as bank:
        await _many(bank)
        before = await bank.store.head()
        await _many(bank)
        await _one(bank)
        page = await bank.store.read_all(after=before.position)
    commits = Counter(event.recorded_at for event in page.events)
    # In halves, so that callers are woken while the other half is committed.
    assert sorted(commits.values()) == [1, CALLERS // 2, CALLERS // 2]
