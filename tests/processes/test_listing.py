"""`rehydrate processes`: where process managers are, what they hold back, which timers are pending."""

from __future__ import annotations

import asyncio
from pathlib import Path

from examples.bank.account import Deposit
from examples.bank.account import Event as AccountEvent
from examples.bank.app import app, bank_account, money_transfer, transfers
from examples.bank.transfer import Accept, Request
from rehydrate import App, EventEnvelope, Projection, Runtime, Subscription, open_store
from rehydrate.clock import SystemClock
from rehydrate.runtime.control import consumers_of
from rehydrate.store.port import NewEvent
from rehydrate.testing.clock import until
from tests.cli.terminal import typed


async def all_at(bank: Runtime, position: int) -> None:
    """Wait until the event at a position, which is to be the last one that follows, is stored and was read by all."""
    await until(lambda: min(one.position for one in bank.statistics().consumers) >= position)
    assert (await bank.store.head()).position == position


async def test_the_consumers_of_a_process_manager_are_listed_with_its_pending_timers(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'bank.db'}"
    async with app.open(url) as bank:
        await bank.dispatch(bank_account, "ada", Deposit(100))
        for n in range(3):
            await bank.dispatch(money_transfer, f"t{n}", Request(f"t{n}", "ada", "bob", 30))
        # A deposit; and three times the request, what follows from it (3), the money taken, and that taken in.
        await all_at(bank, 1 + 3 * (1 + 3 + 1 + 1))
    listed = await asyncio.to_thread(lambda: typed("processes", "list", "--store", url).answers)
    assert [(one["name"], one["pending"], one["behind"]) for one in listed] == [
        ("transfers:events", 0, 0),
        ("transfers:sends", 0, 0),
        ("transfers:timers", 3, 0),
    ]
    assert await asyncio.to_thread(lambda: typed("subscriptions", "--store", url).answers) == []
    paused = await asyncio.to_thread(lambda: typed("processes", "pause", "transfers:sends", "--store", url))
    assert paused.code == 0
    listed = await asyncio.to_thread(lambda: typed("processes", "list", "--store", url).answers)
    assert listed[1]["state"] == "paused"


def _one_more(count: int, envelope: EventEnvelope[AccountEvent]) -> int:
    return count + 1


counts = Projection(
    name="counts",
    initial=0,
    key=lambda envelope: envelope.aggregate_id,
    evolve=_one_more,
    sources=[bank_account],
)


async def nothing(envelope: EventEnvelope[AccountEvent]) -> None: ...


async def test_what_process_managers_write_for_themselves_puts_nobody_else_behind() -> None:
    async def behind() -> dict[str, tuple[int, bool]]:
        return {
            one.checkpoint: (one.behind, one.seconds > 0) for one in await consumers_of(store, SystemClock())
        }

    async def store_one(stream: str, type: str) -> None:
        await store.append(
            stream, [NewEvent(id=f"{stream} {type}", type=type, data=b"{}")], expected_version=0
        )

    store = await open_store("memory://")
    others = App(
        aggregates=[bank_account, money_transfer],
        projections=[counts],
        subscriptions=[Subscription(name="told", handler=nothing, aggregates=[bank_account])],
        processes=[transfers],
    )
    async with others.open(store) as bank:
        await bank.dispatch(bank_account, "ada", Deposit(100))
        await all_at(bank, 1)
    parts = ("transfers:events", "transfers:sends", "transfers:timers")
    names = ("counts@1", "told", *parts)
    await store_one("transfers-a", "rehydrate.Handled")
    assert await behind() == dict.fromkeys(names, (0, False))
    await store_one("other-a", "rehydrate.Sent")
    assert await behind() == dict.fromkeys(names, (0, False))
    await store_one("transfers-b", "rehydrate.Sent")
    sends = dict.fromkeys(parts[1:], (1, True))
    assert await behind() == dict.fromkeys(names, (0, False)) | sends
    await store_one("bank_account-b", "Deposited")
    assert await behind() == dict.fromkeys(names, (1, True)) | sends
    await store.close()


async def test_verify_folds_instances_too(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'bank.db'}"
    async with app.open(url) as bank:
        await bank.dispatch(bank_account, "ada", Deposit(100))
        await bank.dispatch(money_transfer, "t1", Request("t1", "ada", "bob", 30))
        await all_at(bank, 7)
    done = await asyncio.to_thread(lambda: typed("verify", "examples.bank.app:app", "--store", url))
    assert done.code == 0, done.stderr
    assert "not decoded" not in done.stderr
    shown = await asyncio.to_thread(
        lambda: typed("state", "examples.bank.app:app", "transfers", "t1", "--store", url).answers
    )
    assert shown[0]["state"]["amount"] == 30


async def test_process_managers_go_on_in_a_copy_of_their_store(tmp_path: Path) -> None:
    url, copy = f"sqlite:///{tmp_path / 'bank.db'}", f"sqlite:///{tmp_path / 'copy.db'}"
    async with app.open(url) as bank:
        await bank.dispatch(bank_account, "ada", Deposit(100))
        await bank.dispatch(money_transfer, "t1", Request("t1", "ada", "bob", 30))
        await all_at(bank, 7)
    done = await asyncio.to_thread(lambda: typed("copy", url, copy))
    assert done.code == 0, done.stderr
    listed = await asyncio.to_thread(lambda: typed("processes", "list", "--store", copy).answers)
    assert [(one["name"], one["pending"], one["behind"]) for one in listed] == [
        ("transfers:events", 0, 0),
        ("transfers:sends", 0, 0),
        ("transfers:timers", 1, 0),
    ]
    async with app.open(copy) as bank:
        await bank.dispatch(money_transfer, "t1", Accept())
        await all_at(bank, 16)
        assert (await bank.state(bank_account, "bob")).balance == 30
        assert (await bank.state(bank_account, "ada")).balance == 70
