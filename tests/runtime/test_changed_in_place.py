"""Functions that change `initial` in place: nobody else begins with that, and nothing is decided once it is seen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from rehydrate import (
    Aggregate,
    App,
    ConfigurationError,
    EventEnvelope,
    Park,
    ProcessManager,
    Projection,
    Rejected,
    Runtime,
    Send,
    Skip,
    Stop,
    open_store,
)
from rehydrate.cli.verification import Verification
from rehydrate.store.port import Store
from rehydrate.testing import Happened, given, until

WHY = r"'cart': decide or evolve changed `initial` in place, which all others begin with; evolve is to return a new"


@dataclass(frozen=True)
class Add:
    item: int


@dataclass(frozen=True)
class Added:
    item: int


@dataclass(frozen=True)
class Cart:
    items: list[int] = field(default_factory=list[int])
    adds: int = 0


def decide(cart: Cart, command: Add) -> Iterable[Added]:
    yield Added(command.item)


def careless(cart: Cart, event: Added) -> Cart:
    cart.items.append(event.item)
    return cart


def careful(cart: Cart, event: Added) -> Cart:
    return Cart([*cart.items, event.item], cart.adds + 1)


def carts(evolve: Any) -> Aggregate[Cart, Add, Added]:
    return Aggregate(
        name="cart", initial=Cart(), decide=decide, evolve=evolve, commands=Add, events=Added
    )  # fmt: skip


cart = carts(careless)
app = App(aggregates=[cart])


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = await open_store("memory://")
    yield store
    await store.close()


@pytest.fixture
async def shop(store: Store) -> AsyncIterator[Runtime]:
    async with app.open(store) as shop:
        yield shop


async def test_no_other_begins_with_what_one_has_come_to(shop: Runtime) -> None:
    assert await shop.state(cart, "bob") == Cart()
    await shop.dispatch(cart, "ada", Add(1))
    assert await shop.state(cart, "bob") == Cart()
    assert await shop.state(cart, "eve", at=0) == Cart()
    assert cart.initial == Cart()


async def test_once_it_is_seen_nothing_is_decided_any_more(
    shop: Runtime, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    await shop.state(cart, "bob")
    await shop.dispatch(cart, "ada", Add(1))
    for id in ("eve", "ada", "bob", "eve"):
        with pytest.raises(ConfigurationError, match=WHY):
            await shop.dispatch(cart, id, Add(2))
    with pytest.raises(ConfigurationError, match=WHY):
        await shop.state(cart, "eve")
    assert await shop.state(cart, "ada") == Cart([1]), "it is in memory"
    assert (await store.head()).position == 1
    assert len([record for record in caplog.records if "`initial`" in record.message]) == 1


async def test_a_stream_that_is_folded_from_its_first_event_shows_it(store: Store) -> None:
    async with app.open(store) as shop:
        await shop.dispatch(cart, "ada", Add(1))
    async with app.open(store) as shop:
        with pytest.raises(ConfigurationError, match=WHY):
            await shop.dispatch(cart, "ada", Add(2))
        assert await shop.state(cart, "ada", at=1) == Cart([1])
    verification = Verification(store, app, print)
    await verification.check()
    (finding,) = verification.findings
    assert (finding.what, finding.where) == ("event", "cart-ada")
    assert "'cart': evolve changed `initial` in place" in finding.detail


async def test_a_decide_that_changes_it_is_named_too(store: Store) -> None:
    def greedy(cart: Cart, command: Add) -> Iterable[Added]:
        cart.items.append(command.item)
        yield Added(command.item)

    wrong = replace(carts(careful), decide=greedy)
    async with App(aggregates=[wrong]).open(store) as shop:
        await shop.dispatch(wrong, "ada", Add(1))
        with pytest.raises(ConfigurationError, match=WHY):
            await shop.dispatch(wrong, "bob", Add(1))


class Phase:
    """Equal to itself alone."""


START = Phase()


@dataclass(frozen=True)
class Job:
    phase: Phase = START
    counts: dict[Phase, int] = field(default_factory=lambda: {START: 0})


async def test_a_state_may_hold_an_object_that_decide_compares_it_with(store: Store) -> None:
    def start(job: Job, command: Add) -> Iterable[Added]:
        if job.phase == START:
            yield Added(job.counts[START])

    jobs = Aggregate(
        name="job", initial=Job(), decide=start, evolve=lambda job, event: job, commands=Add, events=Added
    )  # fmt: skip
    async with App(aggregates=[jobs]).open(store) as works:
        for id in ("ada", "ada", "bob"):
            assert (await works.dispatch(jobs, id, Add(1))).events == (Added(0),)


async def test_an_evolve_that_returns_a_new_state_may_begin_with_a_list(store: Store) -> None:
    good = carts(careful)
    async with App(aggregates=[good]).open(store) as shop:
        for id in ("ada", "bob", "ada"):
            await shop.dispatch(good, id, Add(1))
        assert await shop.state(good, "ada") == Cart([1, 1], 2)
        assert await shop.state(good, "bob") == Cart([1], 1)
        assert await shop.state(good, "eve") == Cart()


def test_given_leaves_what_was_declared_alone() -> None:
    with pytest.raises(AssertionError, match="evolve changed the state that it was given"):
        given(cart, Added(1))
    assert cart.initial == Cart()


# ---- instances of process managers


async def test_instances_do_not_begin_with_what_another_has_come_to(store: Store) -> None:
    good = carts(careful)
    seen: list[int] = []

    def take_in(state: Cart, event: Added | Rejected) -> Cart:
        assert isinstance(event, Added)
        return careless(state, event)

    def follow(state: Cart, event: Added | Rejected) -> Iterable[Send]:
        seen.extend(set(state.items))
        return ()

    manager = ProcessManager(
        name="follower", initial=Cart(), correlate=whose, evolve=take_in, react=follow, sources=[good]
    )
    async with App(aggregates=[good], processes=[manager]).open(store) as shop:
        for number, id in enumerate(["ada", "bob", "eve"]):
            await shop.dispatch(good, id, Add(number))
        await until(lambda: shop.statistics().consumers[0].state == "stopped")
        assert "react or evolve changed `initial` in place" in shop.statistics().consumers[0].reason
    assert seen == [0], "bob's instance has not begun"


# ---- views


def whose(envelope: EventEnvelope[Added]) -> str:
    return envelope.aggregate_id


def add(view: Cart, envelope: EventEnvelope[Added]) -> Cart:
    view.items.append(envelope.event.item)
    return view


def add_later(view: Cart, envelope: EventEnvelope[Added]) -> Cart:
    if view.adds:
        view.items.append(envelope.event.item)
    return replace(view, adds=view.adds + 1)


good = carts(careful)


def lists(evolve: Any, **given: Any) -> Projection[Cart, Added]:
    return Projection(name="lists", initial=Cart(), key=whose, evolve=evolve, sources=[good], **given)


@pytest.mark.parametrize("policy", [Stop(), Skip(), Park()])
async def test_a_projection_stops_and_saves_nothing_of_it(store: Store, policy: Any) -> None:
    projection = lists(add, on_error=policy)
    async with App(aggregates=[good], projections=[projection]).open(store) as shop:
        await shop.dispatch(good, "ada", Add(1))
        await until(lambda: shop.statistics().consumers[0].state == "stopped")
        reason = shop.statistics().consumers[0].reason
        assert "projection 'lists': evolve changed `initial` in place" in reason
    assert await store.list_views(projection.consumer) == []


async def test_a_projection_that_does_so_at_a_later_event_stops_at_the_next_key(store: Store) -> None:
    projection = lists(add_later)
    async with App(aggregates=[good], projections=[projection]).open(store) as shop:
        for id in ("ada", "ada", "bob"):
            done = await shop.dispatch(good, id, Add(1))
            if id == "ada":
                await shop.views(projection, at_least=done.position)
        await until(lambda: shop.statistics().consumers[0].state == "stopped")
        assert await shop.views(projection) == [("ada", Cart([1], 2))]
        assert await shop.view(projection, "bob") == Cart()


async def test_who_reads_what_views_begin_with_has_one_of_his_own(store: Store) -> None:
    def listed(view: Cart, envelope: EventEnvelope[Added]) -> Cart:
        return careful(view, envelope.event)

    projection = lists(listed)
    async with App(aggregates=[good], projections=[projection]).open(store) as shop:
        (await shop.view(projection, "ada")).items.append(7)
        assert await shop.view(projection, "ada") == Cart()
        done = await shop.dispatch(good, "ada", Add(1))
        assert await shop.view(projection, "ada", at_least=done.position) == Cart([1], 1)


def test_given_leaves_what_views_begin_with_alone() -> None:
    projection = lists(add)
    with pytest.raises(AssertionError, match="evolve changed the view that it was given"):
        given(projection, Happened(good, "ada", Added(1)))
    assert projection.initial == Cart()
