"""Time and ids come from outside: a test that brings its own gets the same bytes in every run."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count

from rehydrate import App, Snapshot, open_store
from rehydrate.testing.clock import FakeClock, settle
from tests.bank import Deposit, Split, account, app, bank_account

MOMENT = datetime(2024, 2, 29, 12, 0, 1, 500_000, UTC)


async def test_events_are_recorded_at_the_time_of_the_clock() -> None:
    clock = FakeClock(wall=int(MOMENT.timestamp() * 1_000_000))
    async with app.open("memory://", clock=clock) as bank:
        await bank.dispatch(account, "ada", Deposit(1))
        clock.set_wall(clock.wall() + 1)
        await bank.dispatch(account, "ada", Deposit(1))
        first, second = [event async for event in bank.events(account, "ada")]
        assert first.recorded_at == MOMENT
        assert second.recorded_at == MOMENT.replace(microsecond=500_001)


async def test_events_and_commands_are_named_by_the_ids_that_were_brought() -> None:
    made = [f"id-{number}" for number in range(20)]
    ids = iter(made)
    async with app.open("memory://", new_id=lambda: next(ids)) as bank:
        await bank.dispatch(account, "ada", Split(2, 2))
        await bank.dispatch(account, "ada", Deposit(1), command_id="mine")
        events = [event async for event in bank.events(account, "ada")]
        named = [name for event in events for name in (event.id, event.metadata.command_id)]
        assert len({event.id for event in events}) == 3
        assert set(named) - {"mine"} <= set(made)
        assert events[2].metadata.command_id == "mine"


async def _log() -> list[object]:
    numbers = count()
    clock = FakeClock()
    saving = bank_account(snapshot=Snapshot(every=2))
    store = await open_store("memory://", clock=clock)
    async with App(aggregates=[saving]).open(
        store, clock=clock, new_id=lambda: f"id-{next(numbers)}"
    ) as bank:
        for name in ("ada", "bob", "ada"):
            await bank.dispatch(saving, name, Split(2, 2))
            await clock.advance(0.5)
        await settle()
    page = await store.read_all()
    snapshot = await store.load_snapshot("bank_account-ada")
    await store.close()
    return [*page.events, snapshot]


async def test_the_same_clock_and_ids_give_the_same_store() -> None:
    assert await _log() == await _log()
