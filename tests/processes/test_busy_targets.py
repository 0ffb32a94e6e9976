"""A target that does more than can be read in the time that a sender is sure of its name."""

from __future__ import annotations

from typing import Any

from rehydrate import Limits, Runtime, open_store
from rehydrate.runtime.control import pause, resume
from rehydrate.runtime.tenure import sleep
from rehydrate.store.port import ANY_VERSION, NewEvent, Store, StreamPage
from rehydrate.testing import FakeClock
from tests.bank import Deposit, account
from tests.processes.test_process import app_with_copies

LIMITS = Limits(takeover_after=10)
OTHERS = 30_000


class SlowToRead:
    """A store that takes a second for each page of a stream."""

    def __init__(self, store: Store, clock: FakeClock) -> None:
        self.pages = 0
        self._store = store
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def read_stream(self, stream: str, **others: Any) -> StreamPage:
        page = await self._store.read_stream(stream, **others)
        if len(page.events) > 1:
            self.pages += 1
            await sleep(self._clock, 1)
        return page


async def at_rest(bank: Runtime, clock: FakeClock) -> None:
    for _ in range(600):
        await clock.advance(0.5)
        head = (await bank.store.head()).position
        if all(one.position >= head and not one.parked for one in bank.statistics().consumers):
            return
    raise AssertionError("it has not come to rest in five minutes")


async def test_a_target_that_was_very_busy_since_is_searched_once_and_gets_its_command(
    fake_clock: FakeClock,
) -> None:
    store = await open_store("memory://")
    app = app_with_copies()
    async with app.open(store, clock=fake_clock, limits=LIMITS) as bank:
        await at_rest(bank, fake_clock)
    await pause(store, "copying:sends")
    async with app.open(store, clock=fake_clock, limits=LIMITS) as bank:
        await bank.dispatch(account, "a", Deposit(1))
        for _ in range(4):
            await fake_clock.advance(1)
    assert [one.type for one in (await store.read_stream("copying-a")).events][1] == "rehydrate.Sent"
    others = [
        NewEvent(f"other {n}", "Deposited", b'{"amount":1}', b'{"command_id":"other %d"}' % n)
        for n in range(OTHERS)
    ]
    for start in range(0, OTHERS, 1_000):
        await store.append("copies-copy1", others[start : start + 1_000], expected_version=ANY_VERSION)
    await resume(store, "copying:sends")
    slow: Any = SlowToRead(store, fake_clock)
    async with app.open(slow, clock=fake_clock, limits=LIMITS) as bank:
        await at_rest(bank, fake_clock)
    sent = await store.read_stream("copies-copy1", after=OTHERS)
    assert [event.data for event in sent.events] == [b'{"amount":1}']
    # Once by the target, in vain, and once by the sender; and no third time.
    assert slow.pages < 3 * OTHERS / 1_000
    await store.close()
