"""Reading views: the own write, the revision that this process declares, and what is refused with a sentence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from rehydrate import (
    App,
    ConfigurationError,
    EventEnvelope,
    Park,
    Projection,
    ProjectionBuildingError,
    Retry,
    Runtime,
    Subscription,
    ViewTimeoutError,
    open_store,
)
from rehydrate.runtime import projector
from rehydrate.runtime.control import pause
from rehydrate.store.port import NewEvent, Store
from rehydrate.testing import FakeClock
from rehydrate.testing.clock import until
from tests.bank import Deposit, Event, Touch, Withdraw, account, bank_account
from tests.readside.ledger import Balance, account_id, add, app, balances


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = await open_store("memory://")
    yield store
    await store.close()


@pytest.fixture
async def bank(store: Store) -> AsyncIterator[Runtime]:
    async with app.open(store) as bank:
        yield bank


def projected(**given: Any) -> Projection[Any, Event]:
    fields: dict[str, Any] = {
        "name": "balances", "initial": Balance(), "key": account_id, "evolve": add, "sources": [account]
    }  # fmt: skip
    return Projection(**(fields | given))


# ---- reading


async def test_a_key_that_no_event_has_changed_is_what_views_begin_with(bank: Runtime) -> None:
    done = await bank.dispatch(account, "ada", Deposit(5))
    assert await bank.view(balances, "bob", at_least=done.position) == Balance()
    assert await bank.views(balances) == [("ada", Balance(5, 1))]


async def test_in_an_empty_store_there_is_nothing_to_build(bank: Runtime) -> None:
    assert await bank.view(balances, "ada") == Balance()
    assert await bank.views(balances) == []


async def test_views_come_in_pages_by_key(bank: Runtime) -> None:
    for id in ("b1", "a1", "b2", "c", "b3"):
        done = await bank.dispatch(account, id, Deposit(1))
    page = await bank.views(balances, prefix="b", limit=2, at_least=done.position)
    assert [key for key, _ in page] == ["b1", "b2"]
    assert [key for key, _ in await bank.views(balances, prefix="b", after="b2")] == ["b3"]
    assert await bank.views(balances, limit=0) == []
    with pytest.raises(ValueError, match="cannot be below 0"):
        await bank.views(balances, limit=-1)


async def test_what_is_kept_beside_the_views_is_not_shown(store: Store) -> None:
    def fails(balance: Balance, envelope: EventEnvelope[Event]) -> Balance:
        raise RuntimeError("cannot")

    projection = projected(evolve=fails, on_error=Park())
    async with App(aggregates=[account], projections=[projection]).open(store) as bank:
        done = await bank.dispatch(account, "ada", Deposit(1))
        assert await bank.views(projection, at_least=done.position) == []
        ((key, _),) = await store.list_views(projection.consumer)
        assert await bank.view(projection, key) == Balance()
        assert await bank.views(projection, prefix="\x01") == []


async def test_an_evolve_that_returns_none_removes_the_view(store: Store) -> None:
    def close(balance: Balance, envelope: EventEnvelope[Event]) -> Balance | None:
        after = add(balance, envelope)
        return after if after.amount else None

    projection = projected(evolve=close)
    async with App(aggregates=[account], projections=[projection]).open(store) as bank:
        await bank.dispatch(account, "ada", Deposit(5))
        done = await bank.dispatch(account, "ada", Withdraw(5))
        assert await bank.views(projection, at_least=done.position) == []
        done = await bank.dispatch(account, "ada", Deposit(2))
        assert await bank.view(projection, "ada", at_least=done.position) == Balance(2, 1)


def _forgets(balance: Balance, envelope: EventEnvelope[Event]) -> Balance:
    return None  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


async def test_an_evolve_that_forgets_to_return_stops_it_and_removes_nothing(store: Store) -> None:
    async with app.open(store) as bank:
        done = await bank.dispatch(account, "ada", Deposit(5))
        await bank.view(balances, "ada", at_least=done.position)
    forgetting = projected(evolve=_forgets)
    async with App(aggregates=[account], projections=[forgetting]).open(store) as bank:
        await bank.dispatch(account, "ada", Deposit(5))
        await until(lambda: bank.statistics().consumers[0].state == "stopped")
        assert (
            "evolve returned None for Deposited; return the next view"
            in bank.statistics().consumers[0].reason
        )
        assert await bank.view(forgetting, "ada") == Balance(5, 1)


async def test_more_views_than_are_kept_in_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projector, "CACHED_VIEWS", 10)
    async with app.open(store) as bank:
        for amount in (1, 2):
            for n in range(60):
                await bank.dispatch(account, f"{n:02}", Deposit(amount))
            await bank.views(balances, at_least=60 * amount)
        assert await bank.views(balances) == [(f"{n:02}", Balance(3, 2)) for n in range(60)]


async def test_an_event_that_changes_more_views_than_the_store_saves_as_one_stops_it(store: Store) -> None:
    def many(envelope: EventEnvelope[Event]) -> list[str]:
        return [f"{n}" for n in range(int(envelope.aggregate_id))]

    projection = projected(key=many)
    modest: Any = Modest(store)
    async with App(aggregates=[account], projections=[projection]).open(modest) as bank:
        done = await bank.dispatch(account, "9", Deposit(1))
        assert len(await bank.views(projection, at_least=done.position)) == 9
        await bank.dispatch(account, "10", Deposit(1))
        await until(lambda: bank.statistics().consumers[0].state == "stopped")
        assert "changes 10 views, and the store saves 9" in bank.statistics().consumers[0].reason


async def test_more_views_than_the_store_saves_as_one_are_saved_in_several_goes(store: Store) -> None:
    modest: Any = Modest(store)
    async with app.open(modest) as bank:
        await asyncio.gather(*[bank.dispatch(account, f"{n:02}", Deposit(n)) for n in range(1, 40)])
        views = await bank.views(balances, at_least=39)
    assert views == [(f"{n:02}", Balance(n, 1)) for n in range(1, 40)]


class Modest:
    """A store that saves ten changes as one."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.capabilities = msgspec.structs.replace(store.capabilities, max_view_changes=10)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def test_a_key_that_begins_with_what_is_reserved_is_refused(store: Store) -> None:
    def reserved(envelope: EventEnvelope[Event]) -> str:
        return "\x01mine"

    projection = projected(key=reserved)
    async with App(aggregates=[account], projections=[projection]).open(store) as bank:
        await bank.dispatch(account, "ada", Deposit(1))
        await until(lambda: bank.statistics().consumers[0].state == "stopped")
        assert "U+0001, which is for Rehydrate's own" in bank.statistics().consumers[0].reason


async def test_a_place_at_which_nothing_changed_is_saved_at_the_end(store: Store) -> None:
    async with app.open(store) as bank:
        await bank.dispatch(account, "ada", Deposit(1))
        await store.append("other-1", [NewEvent(id="one", type="Any", data=b"{}")], expected_version=0)
        await bank.view(balances, "ada", at_least=2)
    checkpoint = await store.load_checkpoint(balances.consumer)
    assert checkpoint is not None
    assert checkpoint.position == 2


# ---- waiting


async def test_a_position_that_does_not_come_is_a_time_out(store: Store, fake_clock: FakeClock) -> None:
    async with app.open(store, clock=fake_clock) as bank:
        done = await bank.dispatch(account, "ada", Deposit(5))
        await bank.view(balances, "ada", at_least=done.position)
        waiting = asyncio.create_task(bank.view(balances, "ada", at_least=done.position + 1, timeout=3))
        await fake_clock.advance(2.9)
        assert not waiting.done()
        await fake_clock.advance(0.2)
        with pytest.raises(ViewTimeoutError, match="is at position 1 and did not come to 2 within 3 s"):
            await waiting


async def test_a_command_without_events_can_be_waited_for(bank: Runtime) -> None:
    await bank.dispatch(account, "ada", Deposit(5))
    done = await bank.dispatch(account, "ada", Touch())
    assert await bank.view(balances, "ada", at_least=done.position) == Balance(5, 1)


async def test_a_process_that_runs_no_consumers_reads_what_another_projects() -> None:
    one, two = await open_store("memory://shared"), await open_store("memory://shared")
    try:
        async with app.open(one) as runs, app.open(two, consumers=False) as reads:
            for n in range(1, 6):
                done = await runs.dispatch(account, "ada", Deposit(1))
                assert await reads.view(balances, "ada", at_least=done.position) == Balance(n, n)
    finally:
        await one.close()
        await two.close()


async def test_while_nobody_builds_it_waiting_ends_with_how_far_it_is(
    store: Store, fake_clock: FakeClock
) -> None:
    async with app.open(store, consumers=False, clock=fake_clock) as bank:
        done = await bank.dispatch(account, "ada", Deposit(5))
        waiting = asyncio.create_task(bank.view(balances, "ada", at_least=done.position, timeout=1))
        await fake_clock.advance(1.1)
        with pytest.raises(ProjectionBuildingError) as building:
            await waiting
    assert (building.value.revision, building.value.position, building.value.head) == (1, 0, 1)


def _fails(view: int, envelope: EventEnvelope[Event]) -> int:
    raise ZeroDivisionError


async def test_who_waits_for_a_projection_that_is_stopped_hears_why_at_once(
    store: Store, fake_clock: FakeClock
) -> None:
    broken = projected(initial=0, evolve=_fails)
    async with App(aggregates=[account], projections=[broken]).open(store, clock=fake_clock) as bank:
        done = await bank.dispatch(account, "ada", Deposit(5))
        await until(lambda: bank.statistics().consumers[0].state == "stopped")
        for at_least in (None, done.position):
            with pytest.raises(
                ProjectionBuildingError, match=r"it is stopped: .*ZeroDivisionError; mend that"
            ):
                await bank.view(broken, "ada", at_least=at_least)


async def test_who_waits_for_one_that_stopped_in_another_process_hears_why_soon(
    store: Store, fake_clock: FakeClock
) -> None:
    async with app.open(store) as bank:
        done = await bank.dispatch(account, "ada", Deposit(5))
        await bank.view(balances, "ada", at_least=done.position)
    broken = App(aggregates=[account], projections=[projected(initial=Balance(), evolve=_forgets)])
    async with (
        broken.open(store) as fails,
        app.open(store, consumers=False, clock=fake_clock) as reads,
    ):
        waiting = asyncio.create_task(reads.view(balances, "ada", at_least=2))
        await fake_clock.advance(0.5)
        assert not waiting.done()
        await fails.dispatch(account, "ada", Deposit(5))
        await until(lambda: fails.statistics().consumers[0].state == "stopped")
        await fake_clock.advance(0.5)
        assert waiting.done()
        with pytest.raises(
            ViewTimeoutError, match=r"at position 1 and did not come to 2: it is stopped: .*None"
        ):
            await waiting
    # The next start is a new try, and no wait ends before it.
    async with app.open(store) as bank:
        assert await bank.view(balances, "ada", at_least=2) == Balance(10, 2)


async def test_who_waits_for_a_projection_that_is_paused_hears_of_it(
    store: Store, fake_clock: FakeClock
) -> None:
    async with app.open(store, clock=fake_clock) as bank:
        done = await bank.dispatch(account, "ada", Deposit(5))
        await bank.view(balances, "ada", at_least=done.position)
        await pause(store, balances.consumer)
        asked = asyncio.create_task(bank.view(balances, "ada", at_least=done.position + 1, timeout=5))
        await fake_clock.advance(5.1)
        with pytest.raises(ViewTimeoutError, match="it is paused: resume it"):
            await asked


def _version(envelope: EventEnvelope[Event]) -> Any:
    return envelope.version


async def test_a_key_that_is_no_text_stops_it_with_what_to_return(store: Store) -> None:
    numbered = projected(key=_version)
    async with App(aggregates=[account], projections=[numbered]).open(store) as bank:
        await bank.dispatch(account, "ada", Deposit(5))
        await until(lambda: bank.statistics().consumers[0].state == "stopped")
        assert "key gave int; return a str, several of them, or None" in bank.statistics().consumers[0].reason


# ---- declarations


async def test_views_of_another_type_under_the_same_revision_are_refused(store: Store) -> None:
    @dataclass(frozen=True)
    class Other:
        total: int = 0

    def evolve(view: Other, envelope: EventEnvelope[Event]) -> Other:
        return Other(view.total + 1)

    async with app.open(store) as bank:
        done = await bank.dispatch(account, "ada", Deposit(5))
        await bank.view(balances, "ada", at_least=done.position)
    changed = projected(initial=Other(), evolve=evolve)
    async with App(aggregates=[account], projections=[changed]).open(store) as bank:
        await until(lambda: bank.statistics().consumers[0].state == "stopped")
        assert "declare revision=2" in bank.statistics().consumers[0].reason
        for at_least in (None, done.position, done.position + 1):
            with pytest.raises(ConfigurationError, match="declare revision=2"):
                await bank.view(changed, "ada", at_least=at_least)


async def test_a_projection_that_the_app_does_not_have_is_refused(bank: Runtime) -> None:
    with pytest.raises(ConfigurationError, match="is not one of this App's"):
        await bank.view(projected(), "ada")
    name: Any = "balances"
    for asked in (bank.view(name, "ada"), bank.views(name)):
        with pytest.raises(
            ConfigurationError, match="'balances' is no Projection: give the Projection value"
        ):
            await asked


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"name": "a@2"}, "cannot be named 'a@2'"),
        ({"name": "rehydrate.x"}, "for Rehydrate's own"),
        ({"initial": {}}, "can be changed in place, and all views begin with it"),
        ({"initial": None}, "initial is None, which stands for no view"),
        ({"evolve": 5}, "evolve must be a plain function"),
        ({"evolve": account_id}, r"evolve is called with \(view, envelope\), and takes \(envelope\)"),
        ({"key": add}, r"key is called with \(envelope\), and takes \(balance, envelope\)"),
        ({"sources": []}, "sources must be a list"),
        ({"sources": account}, "sources must be a list"),
        ({"sources": ["bank_account"]}, "'bank_account' is no Aggregate: give the Aggregate value itself"),
        ({"revision": 0}, "revision=0 must be at least 1"),
        ({"on_error": Retry()}, r"must be Stop\(\), Skip\(\) or Park\(\)"),
    ],
)
def test_a_projection_that_cannot_work_is_refused_where_it_is_declared(given: Any, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        projected(**given)


def _same(view: Any, envelope: Any) -> Any:
    return view


@pytest.mark.parametrize(
    ("projections", "why"),
    [
        ([balances, projected()], "two projections are named 'balances'"),
        ([projected(sources=[bank_account()])], "its source 'bank_account' is not one of the App's"),
        ([projected(initial=object(), evolve=_same)], "its views cannot be stored"),
        (balances, r"projections= must be a list"),
    ],
)
def test_projections_that_cannot_work_together_are_refused_when_the_app_is_built(
    projections: Any, why: str
) -> None:
    with pytest.raises(ConfigurationError, match=why):
        App(aggregates=[account], projections=projections)


async def _handler(envelope: EventEnvelope[Event]) -> None: ...


async def test_a_subscription_that_is_declared_runs_with_the_app(store: Store) -> None:
    seen: list[int] = []

    async def handler(envelope: EventEnvelope[Event]) -> None:
        seen.append(envelope.position)

    declared = App(aggregates=[account], subscriptions=[Subscription(name="mail", handler=handler)])
    async with declared.open(store, consumers=False) as bank:
        await bank.dispatch(account, "ada", Deposit(1))
        assert bank.statistics().consumers[0].state == "starting"
    async with declared.open(store) as bank:
        await until(lambda: seen == [1])


async def test_a_subscription_may_begin_at_the_newest_event_or_behind_a_position(store: Store) -> None:
    seen: dict[str, list[int]] = {"new": [], "third": []}
    async with App(aggregates=[account]).open(store) as bank:
        for _ in range(4):
            await bank.dispatch(account, "ada", Deposit(1))

        async def new(envelope: EventEnvelope[Event]) -> None:
            seen["new"].append(envelope.position)

        async def third(envelope: EventEnvelope[Event]) -> None:
            seen["third"].append(envelope.position)

        async with bank.subscribe("new", new, after="newest") as running:
            bank.subscribe("third", third, after=2)
            await until(lambda: running.statistics().state == "running")
            await bank.dispatch(account, "ada", Deposit(1))
            await until(lambda: seen == {"new": [5], "third": [3, 4, 5]})
        await bank.dispatch(account, "ada", Deposit(1))
        await until(lambda: 6 in seen["third"])
        bank.subscribe("new", new)
        await until(lambda: seen["new"] == [5, 6])


async def test_a_subscription_behind_a_position_that_is_not_there_stops(store: Store) -> None:
    async with App(aggregates=[account]).open(store) as bank:
        bank.subscribe("mail", _handler, after=7)
        await until(lambda: bank.statistics().consumers[0].state == "stopped")
        assert "after=7 is no position of this store" in bank.statistics().consumers[0].reason
