"""A stream that cannot be read is set aside with its reason, and tried again from time to time, by itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from rehydrate import (
    Aggregate,
    App,
    JsonCodec,
    Limits,
    StreamQuarantinedError,
    UndecodableEventError,
    UnknownEventError,
    open_store,
)
from rehydrate.runtime.quarantine import Quarantine
from rehydrate.store.port import NewEvent, Store
from rehydrate.testing.clock import FakeClock
from rehydrate.testing.faults import Refuse
from tests.bank import Account, Command, Deposit, Event, account, decide, evolve
from tests.stand_ins import SHARED, deposited, staged

STREAM = "bank_account-ada"
LIMITS = Limits(hold_first=1, hold_most=8)

UNKNOWN = NewEvent("odd", "Renamed", b"{}")
UNREADABLE = NewEvent("odd", "Deposited", b'{"amount":"ten"}')
CURSED = NewEvent("odd", "Cursed", b"{}")


async def _broken_store(*events: NewEvent) -> Store:
    """A store with two good events of ada, and these behind them."""
    store = await open_store(SHARED)
    await store.append(STREAM, [deposited("1"), deposited("2"), *events], expected_version=0)
    return store


@pytest.mark.parametrize(
    ("event", "cause"), [(UNKNOWN, UnknownEventError), (UNREADABLE, Exception), (CURSED, RuntimeError)]
)
async def test_a_stream_that_cannot_be_read_names_the_event_and_the_reason(
    event: NewEvent, cause: type[Exception]
) -> None:
    async with staged(await _broken_store(event)) as stage:
        for ask in (stage.bank.dispatch(account, "ada", Deposit(1)), stage.bank.state(account, "ada")):
            with pytest.raises(StreamQuarantinedError) as quarantined:
                await ask
            error = quarantined.value
            assert (error.stream, error.version, error.type) == (STREAM, 3, event.type)
            assert isinstance(error.__cause__, cause)
            assert error.reason in str(error)
            assert ("add an upcaster" in error.reason) == (event is UNREADABLE)
        assert (await stage.store.head()).position == 3
        assert stage.bank.statistics().live == 0


def in_cents(fields: dict[str, Any]) -> dict[str, Any]:
    return {"amount": fields["euros"] * 100}


async def test_an_upcaster_that_fails_is_named_and_no_other_is_asked_for() -> None:
    codec = JsonCodec(Event, upcasters={"Deposited": [in_cents]})
    later = dataclasses.replace(account, codec=codec)
    failed = "upcaster in_cents raised KeyError: 'euros' for what is stored as 'Deposited'; mend the upcaster"
    async with App(aggregates=[later]).open(await _broken_store()) as bank:
        with pytest.raises(StreamQuarantinedError) as quarantined:
            await bank.state(later, "ada")
        assert quarantined.value.reason == failed
        with pytest.raises(UndecodableEventError) as undecodable:
            [event async for event in bank.events(later, "ada")]
        assert str(undecodable.value).endswith(f"cannot be decoded: bank_account-ada version 1; {failed}")


async def test_a_stream_in_quarantine_is_no_hot_loop() -> None:
    async with staged(await _broken_store(CURSED), limits=LIMITS) as stage:
        tries: list[int] = []
        for second in range(32):
            before = stage.store.calls["replay"]
            for _ in range(10):
                with pytest.raises(StreamQuarantinedError):
                    await stage.bank.dispatch(account, "ada", Deposit(1))
            if stage.store.calls["replay"] > before:
                tries.append(second)
            assert stage.store.calls["replay"] <= before + 1
            await stage.clock.advance(1)
        assert tries == [0, 1, 3, 7, 15, 23, 31]


async def test_nobody_tries_a_stream_in_quarantine_that_nobody_asks_for() -> None:
    async with staged(await _broken_store(CURSED), limits=LIMITS) as stage:
        with pytest.raises(StreamQuarantinedError):
            await stage.bank.state(account, "ada")
        await stage.clock.advance(100)
        assert stage.store.calls["replay"] == 1
        assert stage.clock.timers == 0


async def test_everybody_who_waits_for_the_stream_hears_of_it() -> None:
    async with staged(await _broken_store(CURSED)) as stage:
        sent = [stage.bank.dispatch_nowait(account, "ada", Deposit(1)) for _ in range(5)]
        for future in sent:
            with pytest.raises(StreamQuarantinedError):
                await future
        assert stage.store.calls["replay"] == 1


async def test_the_other_streams_go_on() -> None:
    async with staged(await _broken_store(CURSED)) as stage:
        with pytest.raises(StreamQuarantinedError):
            await stage.bank.dispatch(account, "ada", Deposit(1))
        assert (await stage.bank.dispatch(account, "bob", Deposit(1))).version == 1


async def test_a_stream_that_can_be_read_again_comes_back_by_itself() -> None:
    broken = True

    def moody(state: Account, event: Event) -> Account:
        if broken and state.changes == 1:
            raise RuntimeError("a bug that was repaired")
        return evolve(state, event)

    aggregate = _account_of(decide, moody)
    async with staged(await _broken_store(), of=App(aggregates=[aggregate]), limits=LIMITS) as stage:
        with pytest.raises(StreamQuarantinedError):
            await stage.bank.state(aggregate, "ada")
        broken = False
        await stage.clock.advance(1)
        assert await stage.bank.state(aggregate, "ada") == Account(2, 2)
        assert (await stage.bank.dispatch(aggregate, "ada", Deposit(1))).version == 3


async def test_after_it_came_back_the_pauses_begin_anew() -> None:
    broken = True

    def moody(state: Account, event: Event) -> Account:
        if broken:
            raise RuntimeError("a bug")
        return evolve(state, event)

    aggregate = _account_of(decide, moody)
    limits = Limits(hold_first=1, hold_most=60, max_live=1)
    async with staged(await _broken_store(), of=App(aggregates=[aggregate]), limits=limits) as stage:
        for seconds in (1, 2, 4):
            with pytest.raises(StreamQuarantinedError):
                await stage.bank.state(aggregate, "ada")
            await stage.clock.advance(seconds)
        broken = False
        await stage.bank.state(aggregate, "ada")
        await stage.bank.state(aggregate, "bob")
        broken = True
        with pytest.raises(StreamQuarantinedError):
            await stage.bank.state(aggregate, "ada")
        await stage.clock.advance(1)
        before = stage.store.calls["replay"]
        with pytest.raises(StreamQuarantinedError):
            await stage.bank.state(aggregate, "ada")
        assert stage.store.calls["replay"] == before + 1


def _account_of(
    decide: Callable[[Account, Command], Iterable[Event]], evolve: Callable[[Account, Event], Account]
) -> Aggregate[Account, Command, Event]:
    return Aggregate(
        name="bank_account", initial=Account(), decide=decide, evolve=evolve, commands=Command, events=Event
    )


async def test_an_event_of_somebody_else_that_cannot_be_folded_sets_the_stream_aside_too() -> None:
    store = await _broken_store()
    async with staged(store, limits=LIMITS) as stage:
        await stage.bank.state(account, "ada")
        await store.append(STREAM, [CURSED], expected_version=2)
        with pytest.raises(StreamQuarantinedError) as quarantined:
            await stage.bank.dispatch(account, "ada", Deposit(1))
        assert quarantined.value.version == 3
        assert stage.bank.statistics().live == 0
        reads = stage.store.calls["replay"] + stage.store.calls["read_stream"]
        with pytest.raises(StreamQuarantinedError):
            await stage.bank.dispatch(account, "ada", Deposit(1))
        assert stage.store.calls["replay"] + stage.store.calls["read_stream"] == reads


async def test_a_store_that_cannot_be_read_is_no_reason_for_quarantine() -> None:
    async with staged(await _broken_store()) as stage:
        stage.script.add("replay", Refuse())
        with pytest.raises(Exception, match="refused, as planned"):
            await stage.bank.state(account, "ada")
        assert await stage.bank.state(account, "ada") == Account(2, 2)


async def test_a_state_of_the_past_before_the_broken_event_can_still_be_seen() -> None:
    async with staged(await _broken_store(UNKNOWN)) as stage:
        assert await stage.bank.state(account, "ada", at=2) == Account(2, 2)
        with pytest.raises(StreamQuarantinedError):
            await stage.bank.state(account, "ada", at=3)
        events = stage.bank.events(account, "ada")
        assert [(await anext(events)).version for _ in range(2)] == [1, 2]
        with pytest.raises(UnknownEventError):
            await anext(events)


async def test_an_unreadable_event_is_shown_with_its_place() -> None:
    async with staged(await _broken_store(UNREADABLE)) as stage:
        with pytest.raises(UndecodableEventError, match=r"bank_account-ada version 3.* add an upcaster"):
            _ = [event async for event in stage.bank.events(account, "ada", after=2)]


async def test_quarantine_does_not_grow_without_bound() -> None:
    quarantine = Quarantine(FakeClock(), LIMITS)
    for number in range(20_000):
        quarantine.add(f"s-{number}", StreamQuarantinedError(f"s-{number}", 1, "T", "a bug"))
    quarantine.check("s-0")
    with pytest.raises(StreamQuarantinedError):
        quarantine.check("s-19999")
