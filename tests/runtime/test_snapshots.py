"""Snapshots save time. Whatever happens to them, no answer is late, wrong or missing because of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from rehydrate import Aggregate, App, Snapshot, open_store
from rehydrate.store.port import SnapshotStore, Store, StoredSnapshot
from rehydrate.testing.clock import settle
from rehydrate.testing.faults import Hang, Late, Lose, LoseAnswer, Refuse
from tests.bank import (
    Account,
    Command,
    Deposit,
    Deposited,
    Event,
    InsufficientFunds,
    Split,
    Touch,
    Withdraw,
    bank_account,
    decide,
    evolve,
)
from tests.bank import account as plain
from tests.stand_ins import SHARED, Exchangeable, copy_of, deposited, staged

STREAM = "bank_account-ada"


@pytest_asyncio.fixture
async def store() -> AsyncIterator[Store]:
    """A store that outlives the runtimes on it: opening the App on it again is a restart."""
    store = await open_store(SHARED)
    yield store
    await store.close()


def _app(every: int, *, keep: int = 1, schema: int = 1) -> tuple[App, Aggregate[Account, Command, Event]]:
    aggregate = bank_account(snapshot=Snapshot(every=every, keep=keep, schema=schema))
    return App(aggregates=[aggregate]), aggregate


async def _saved(store: SnapshotStore) -> StoredSnapshot:
    snapshot = await store.load_snapshot(STREAM)
    assert snapshot is not None
    return snapshot


async def _saved_after(store: Store, *commands: Command, every: int = 1) -> StoredSnapshot:
    """What is saved after these commands, and the runtime is closed."""
    app, account = _app(every)
    async with app.open(store) as bank:
        for command in commands:
            await bank.dispatch(account, "ada", command)
        await settle()
    return await _saved(store)


# ---- when


async def test_a_snapshot_is_taken_when_that_many_events_have_come_since_the_last_one() -> None:
    app, account = _app(every=10)
    async with staged(SHARED, of=app) as stage:
        versions: list[int] = []
        for _ in range(35):
            await stage.bank.dispatch(account, "ada", Deposit(1))
            await settle()
            if stage.store.calls["save_snapshot"] > len(versions):
                versions.append((await _saved(stage.store)).version)
        assert versions == [10, 20, 30]
        assert stage.bank.statistics().snapshots == 3


async def test_a_command_with_several_events_does_not_step_over_it() -> None:
    app, account = _app(every=10)
    async with staged(SHARED, of=app) as stage:
        versions: list[int] = []
        for _ in range(9):
            await stage.bank.dispatch(account, "ada", Split(3, 3))
            await settle()
            if stage.store.calls["save_snapshot"] > len(versions):
                versions.append((await _saved(stage.store)).version)
        assert versions == [12, 24]


async def test_events_are_counted_on_from_the_snapshot_that_an_actor_came_back_with(store: Store) -> None:
    app, account = _app(every=10)
    for expected in (0, 0, 12, 12, 12, 24):
        async with app.open(store) as bank:
            await bank.dispatch(account, "ada", Split(4, 4))
            await settle()
        saved = await store.load_snapshot(STREAM)
        assert (saved.version if saved else 0) == expected


async def test_commands_that_store_nothing_cause_no_snapshot() -> None:
    app, account = _app(every=1)
    async with staged(SHARED, of=app) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        await settle()
        for _ in range(3):
            await stage.bank.dispatch(account, "ada", Touch())
            with pytest.raises(InsufficientFunds):
                await stage.bank.dispatch(account, "ada", Withdraw(9))
            await stage.bank.state(account, "ada")
            await settle()
        assert stage.store.calls["save_snapshot"] == 1


@pytest.mark.parametrize("command_id", [None, "mine"])
async def test_a_snapshot_is_taken_after_the_reply_and_not_waited_for(command_id: str | None) -> None:
    app, account = _app(every=1)
    async with staged(SHARED, of=app) as stage:
        await stage.bank.state(account, "ada")
        stage.script.add("save_snapshot", Hang())
        sent = stage.bank.dispatch_nowait(account, "ada", Deposit(1), command_id=command_id)
        assert stage.store.calls["save_snapshot"] == 0
        assert (await sent).version == 1
        await settle()
        assert stage.store.hanging == 1
        assert (await stage.bank.dispatch(account, "ada", Deposit(1))).version == 2
        assert await stage.bank.state(account, "ada") == Account(2, 2)


async def test_an_actor_saves_one_snapshot_at_a_time() -> None:
    app, account = _app(every=1)
    async with staged(SHARED, of=app) as stage:
        stage.script.add("save_snapshot", Hang())
        for _ in range(5):
            await stage.bank.dispatch(account, "ada", Deposit(1))
            await settle()
        assert stage.store.calls["save_snapshot"] == 1
        stage.store.release()
        await settle()
        assert (await _saved(stage.store)).version == 1
        await stage.bank.dispatch(account, "ada", Deposit(1))
        await settle()
        assert (await _saved(stage.store)).version == 6


async def test_a_snapshot_shows_the_state_at_its_version_whatever_came_before_it_was_saved() -> None:
    app, account = _app(every=1)
    async with staged(SHARED, of=app) as stage:
        stage.script.add("save_snapshot", Hang())
        for _ in range(5):
            await stage.bank.dispatch(account, "ada", Deposit(1))
            await settle()
        stage.store.release()
        await settle()
        saved = await _saved(stage.store)
        assert (saved.version, msgspec.json.decode(saved.data)) == (1, {"balance": 1, "changes": 1})
        (event,) = (await stage.store.read_stream(STREAM, after=0, limit=1)).events
        assert (saved.event_id, saved.position) == (event.id, event.position)
        assert saved.recorded_at == stage.clock.wall()


async def test_a_snapshot_is_only_taken_of_what_is_durable() -> None:
    app, account = _app(every=1)
    async with staged(SHARED, of=app) as stage:
        stage.script.add("submit", Hang(), Refuse())
        sent = stage.bank.dispatch_nowait(account, "ada", Deposit(1))
        await settle()
        assert stage.store.calls["save_snapshot"] == 0
        stage.store.release()
        await sent
        await settle()
        assert (await _saved(stage.store)).version == 1
        await asyncio.gather(stage.bank.dispatch(account, "ada", Deposit(1)), return_exceptions=True)
        await settle()
        assert stage.store.calls["save_snapshot"] == 1


async def test_a_snapshot_that_is_due_is_taken_although_the_bank_closes_at_once(store: Store) -> None:
    app, account = _app(every=2)
    async with app.open(store) as bank:
        await bank.dispatch(account, "ada", Deposit(1))
        await settle()
        await bank.dispatch(account, "ada", Deposit(1))
    assert (await _saved(store)).version == 2


async def test_keep_says_how_many_of_the_newest_stay(store: Store) -> None:
    class Kept(Exchangeable):
        keep = 0

        async def save_snapshot(self, snapshot: StoredSnapshot, *, keep: int) -> None:
            self.keep = keep
            await self.behind.save_snapshot(snapshot, keep=keep)

    app, account = _app(every=1, keep=3)
    kept = Kept(store)
    async with app.open(store, snapshots=kept.as_store) as bank:
        await bank.dispatch(account, "ada", Deposit(1))
        await settle()
    assert kept.keep == 3


async def test_without_a_policy_no_snapshot_is_taken_or_looked_for() -> None:
    async with staged(SHARED) as stage:
        await stage.bank.dispatch(plain, "ada", Split(100, 100))
        await settle()
        assert (stage.store.calls["save_snapshot"], stage.store.calls["load_snapshot"]) == (0, 0)


# ---- a failure is a warning


@pytest.mark.parametrize("fault", [Refuse(), Lose(), LoseAnswer(), Late()], ids=str)
async def test_a_snapshot_that_cannot_be_saved_is_a_warning(
    fault: Refuse | Lose | LoseAnswer | Late, caplog: pytest.LogCaptureFixture
) -> None:
    app, account = _app(every=2)
    async with staged(SHARED, of=app) as stage:
        stage.script.add("save_snapshot", fault)
        for version in range(1, 5):
            assert (await stage.bank.dispatch(account, "ada", Deposit(1))).version == version
            await settle()
        assert _warnings(caplog) == ["was not saved"]
        assert (await _saved(stage.store)).version == 4
        assert stage.bank.statistics().snapshots == 1


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The well-known words of the warnings that were logged."""
    words = (
        "was not saved",
        "does not come back as it was",
        "cannot be encoded",
        "cannot be read",
        "could not be loaded",
    )
    logged = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    return [next((word for word in words if word in message), message) for message in logged]


class Stubborn:
    """A snapshot store of somebody's own that knows nothing of the errors it should raise."""

    async def save_snapshot(self, snapshot: StoredSnapshot, *, keep: int) -> None:
        raise RuntimeError("a bug")

    async def load_snapshot(self, stream: str) -> StoredSnapshot | None:
        raise RuntimeError("a bug")

    async def delete_snapshots(self, stream: str) -> None:
        raise RuntimeError("a bug")

    async def close(self) -> None:
        raise RuntimeError("a bug")


async def test_whatever_a_snapshot_store_raises_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    app, account = _app(every=1)
    async with app.open("memory://", snapshots=Stubborn()) as bank:
        assert (await bank.dispatch(account, "ada", Deposit(1))).version == 1
        await settle()
        assert _warnings(caplog) == ["could not be loaded", "was not saved"]


@dataclass(frozen=True, slots=True)
class Basket:
    items: tuple[int, ...] = ()


def _fill(basket: Basket, event: Deposited) -> Basket:
    # A list where the type says that it is a tuple, from the second item on.
    items = [*basket.items, event.amount]
    return Basket(items if len(items) > 1 else tuple(items))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def test_a_state_that_does_not_come_back_equal_is_a_warning_and_no_snapshot(
    caplog: pytest.LogCaptureFixture,
) -> None:
    basket: Aggregate[Basket, Deposit, Deposited] = Aggregate(
        name="basket",
        initial=Basket(),
        decide=lambda _, command: [Deposited(command.amount)],
        evolve=_fill,
        commands=Deposit,
        events=Deposited,
        snapshot=Snapshot(every=1),
    )
    async with staged(SHARED, of=App(aggregates=[basket])) as stage:
        for number in (1, 2, 3):
            assert (await stage.bank.dispatch(basket, "ada", Deposit(number))).version == number
            await settle()
        assert _warnings(caplog) == ["does not come back as it was", "does not come back as it was"]
        saved = await stage.store.load_snapshot("basket-ada")
        assert saved is not None
        assert saved.version == 1


async def test_a_state_that_cannot_be_encoded_is_a_warning_and_no_snapshot(
    caplog: pytest.LogCaptureFixture,
) -> None:
    odd: Aggregate[Account, Deposit, Deposited] = Aggregate(
        name="odd",
        initial=Account(),
        decide=lambda _, command: [Deposited(command.amount)],
        evolve=lambda _, __: Account(object()),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        commands=Deposit,
        events=Deposited,
        snapshot=Snapshot(every=1),
    )
    async with staged(SHARED, of=App(aggregates=[odd])) as stage:
        assert (await stage.bank.dispatch(odd, "ada", Deposit(1))).version == 1
        await settle()
        assert _warnings(caplog) == ["cannot be encoded"]
        assert stage.store.calls["save_snapshot"] == 0


# ---- coming back


async def test_an_actor_comes_back_from_its_snapshot_and_the_events_after_it(store: Store) -> None:
    await _saved_after(store, Split(10, 10), Deposit(5), every=10)
    await _tamper(store, balance=1_010)
    app, account = _app(every=10)
    async with app.open(store) as bank:
        # The 1,000 show that the state came from the snapshot.
        assert await bank.state(account, "ada") == Account(1_015, 11)


async def _tamper(store: SnapshotStore, *, balance: int) -> None:
    saved = await _saved(store)
    data = msgspec.json.encode({"balance": balance, "changes": saved.version})
    await store.delete_snapshots(STREAM)
    await store.save_snapshot(msgspec.structs.replace(saved, data=data), keep=1)


async def test_a_snapshot_at_the_end_of_the_stream_is_enough(store: Store) -> None:
    await _saved_after(store, Split(10, 10), every=10)
    await _tamper(store, balance=1_010)
    app, account = _app(every=10)
    async with app.open(store) as bank:
        assert await bank.state(account, "ada") == Account(1_010, 10)
        assert (await bank.dispatch(account, "ada", Deposit(1))).version == 11


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"fingerprint": "another"},
        {"data": b"{"},
        {"data": b'{"balance":"ten"}'},
        {"event_id": "another"},
        {"version": 3, "position": 3},
        {"version": 900, "position": 900},
    ],
    ids=str,
)
async def test_a_snapshot_that_is_not_of_this_state_is_ignored(
    store: Store, change: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    saved = await _saved_after(store, Split(10, 10), every=10)
    await store.delete_snapshots(STREAM)
    await store.save_snapshot(msgspec.structs.replace(saved, **change), keep=1)
    app, account = _app(every=10)
    with caplog.at_level(logging.INFO):
        async with app.open(store) as bank:
            assert await bank.state(account, "ada") == Account(10, 10)
    assert "replaying" in caplog.text


async def test_a_raised_schema_is_another_state(store: Store) -> None:
    await _saved_after(store, Split(10, 10), every=10)
    await _tamper(store, balance=1_010)
    app, account = _app(every=10, schema=2)
    async with app.open(store) as bank:
        assert await bank.state(account, "ada") == Account(10, 10)
        await bank.dispatch(account, "ada", Deposit(1))
        await settle()
    assert ((await _saved(store)).schema, (await _saved(store)).version) == (2, 11)


async def test_a_state_with_another_field_is_another_state(store: Store) -> None:
    @dataclass(frozen=True, slots=True)
    class Richer:
        balance: int = 0
        changes: int = 0
        owner: str = ""

    def grow(state: Richer, event: Event) -> Richer:
        plain = evolve(Account(state.balance, state.changes), event)
        return Richer(plain.balance, plain.changes, "ada")

    await _saved_after(store, Split(10, 10), every=10)
    richer: Aggregate[Richer, Command, Event] = Aggregate(
        name="bank_account",
        initial=Richer(),
        decide=lambda state, command: decide(Account(state.balance, state.changes), command),
        evolve=grow,
        commands=Command,
        events=Event,
        snapshot=Snapshot(every=10),
    )
    async with App(aggregates=[richer]).open(store) as bank:
        assert await bank.state(richer, "ada") == Richer(10, 10, "ada")


@pytest.mark.parametrize("fault", [Refuse(), Lose(), LoseAnswer()], ids=str)
async def test_a_snapshot_that_cannot_be_loaded_is_a_warning_and_a_replay(
    fault: Refuse | Lose | LoseAnswer, caplog: pytest.LogCaptureFixture
) -> None:
    app, account = _app(every=1)
    async with staged(SHARED, of=app) as stage:
        async with app.open(stage.store) as there:
            await there.dispatch(account, "ada", Deposit(5))
            await settle()
        stage.script.add("load_snapshot", fault)
        assert await stage.bank.state(account, "ada") == Account(5, 1)
        assert _warnings(caplog) == ["could not be loaded"]


async def test_a_snapshot_that_is_ahead_of_a_restored_log_is_ignored_and_replaced(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    saved = await _saved_after(store, *[Deposit(1)] * 9, every=3)
    assert saved.version == 9
    restored = await copy_of(store, until=4)
    await restored.save_snapshot(saved, keep=1)
    app, account = _app(every=3)
    async with app.open(restored) as bank:
        assert (await bank.dispatch(account, "ada", Deposit(1))).version == 5
        assert "restored from an older copy" in caplog.text
        await settle()
    assert (await _saved(restored)).version == 5
    await restored.close()


async def test_a_snapshot_of_a_history_that_a_restore_took_away_is_ignored(store: Store) -> None:
    saved = await _saved_after(store, *[Deposit(10)] * 9, every=3)
    restored = await copy_of(store, until=4)
    for version in range(4, 12):
        await restored.append(STREAM, [deposited(f"theirs-{version}")], expected_version=version)
    await restored.save_snapshot(saved, keep=1)
    app, account = _app(every=3)
    async with app.open(restored) as bank:
        assert await bank.state(account, "ada") == Account(48, 12)
    await restored.close()


# ---- a snapshot store of its own


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_snapshots_can_lie_in_a_store_of_their_own(store: Store, kind: str, tmp_path: Path) -> None:
    url = "memory://snapshots" if kind == "memory" else f"sqlite:///{tmp_path}/snapshots.db"
    beside = await open_store(url)
    app, account = _app(every=2)
    async with app.open(store, snapshots=url) as bank:
        await bank.dispatch(account, "ada", Split(4, 4))
        await settle()
    assert await store.load_snapshot(STREAM) is None
    assert (await _saved(beside)).version == 4
    await _tamper(beside, balance=1_004)
    async with app.open(store, snapshots=url) as bank:
        assert await bank.state(account, "ada") == Account(1_004, 4)
    await beside.close()


async def test_a_snapshot_store_of_another_log_is_not_believed(store: Store) -> None:
    other = await open_store("memory://other")
    await _saved_after(other, Split(1_000, 10), every=10)
    app, account = _app(every=10)
    async with app.open(store, snapshots=other) as bank:
        await bank.dispatch(account, "ada", Split(10, 10))
        await settle()
    async with app.open(store, snapshots=other) as bank:
        assert await bank.state(account, "ada") == Account(10, 10)
    await other.close()
