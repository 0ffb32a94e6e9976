"""Everything is bounded, and whoever meets a bound is told so while nothing of the command is stored."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from rehydrate import (
    Aggregate,
    App,
    AppendTooLargeError,
    CommandResult,
    ConfigurationError,
    Limits,
    MailboxFullError,
    open_store,
)
from rehydrate.runtime.limits import DRAIN_COMMANDS, DRAIN_EVENTS
from rehydrate.store.port import Capabilities, Store
from rehydrate.testing.clock import settle
from rehydrate.testing.faults import Hang
from tests.bank import (
    Account,
    Command,
    Deposit,
    Deposited,
    InsufficientFunds,
    Split,
    Withdraw,
    account,
)
from tests.stand_ins import SHARED, Rival, staged


@pytest.mark.parametrize("field", Limits.__struct_fields__)
def test_a_limit_must_be_more_than_nothing(field: str) -> None:
    wrong: tuple[Any, ...] = (0, -1, None, "1", timedelta(seconds=1))
    for value in wrong:
        with pytest.raises(ConfigurationError, match=field):
            Limits(**{field: value})


# ---- mailbox


async def test_one_more_than_the_mailbox_holds_is_refused_and_the_others_are_run() -> None:
    async with staged(limits=Limits(mailbox=3)) as stage:
        stage.script.add("replay", Hang())
        sent = [stage.bank.dispatch_nowait(account, "ada", Deposit(1)) for _ in range(5)]
        for refused in sent[3:]:
            with pytest.raises(MailboxFullError) as full:
                await refused
            assert (full.value.stream, full.value.limit) == ("bank_account-ada", 3)
        with pytest.raises(MailboxFullError):
            await stage.bank.dispatch(account, "ada", Deposit(1), command_id="mine")
        with pytest.raises(MailboxFullError):
            await stage.bank.state(account, "ada")
        await settle()
        stage.store.release()
        assert [(await future).version for future in sent[:3]] == [1, 2, 3]


async def test_a_full_mailbox_of_one_is_nobody_elses_trouble() -> None:
    async with staged(limits=Limits(mailbox=1)) as stage:
        stage.script.add("submit", Hang())
        await stage.bank.state(account, "ada")
        first = stage.bank.dispatch_nowait(account, "ada", Deposit(1))
        behind = stage.bank.dispatch_nowait(account, "ada", Deposit(1))
        with pytest.raises(MailboxFullError):
            await stage.bank.dispatch(account, "ada", Deposit(1))
        assert (await stage.bank.dispatch(account, "bob", Deposit(1))).version == 1
        stage.store.release()
        assert [(await first).version, (await behind).version] == [1, 2]


# ---- live actors


async def test_one_more_actor_than_may_live_unloads_an_idle_one() -> None:
    async with staged(limits=Limits(max_live=3)) as stage:
        for number in range(10):
            await stage.bank.dispatch(account, f"client-{number}", Deposit(number))
            assert stage.bank.statistics().live <= 3
        for number in range(10):
            assert await stage.bank.state(account, f"client-{number}") == Account(number, 1)


async def test_the_longest_idle_goes_first() -> None:
    async with staged(limits=Limits(max_live=3)) as stage:
        for name in ("ada", "bob", "eve"):
            await stage.bank.dispatch(account, name, Deposit(1))
        await stage.clock.advance(2)
        for name in ("ada", "eve"):
            await stage.bank.dispatch(account, name, Deposit(1))
        await stage.clock.advance(2)
        await stage.bank.dispatch(account, "joe", Deposit(1))
        before = stage.store.calls["replay"]
        for name in ("ada", "eve"):
            await stage.bank.state(account, name)
        assert stage.store.calls["replay"] == before
        await stage.bank.state(account, "bob")
        assert stage.store.calls["replay"] == before + 1


async def test_where_no_actor_is_idle_a_new_one_is_refused() -> None:
    async with staged(limits=Limits(max_live=2)) as stage:
        stage.script.add("replay", Hang(), Hang())
        sent = [stage.bank.dispatch_nowait(account, name, Deposit(1)) for name in ("ada", "bob")]
        with pytest.raises(MailboxFullError, match="live aggregates, none of them seen idle") as full:
            await stage.bank.dispatch(account, "eve", Deposit(1))
        assert full.value.limit == 2
        await settle()
        stage.store.release()
        assert [(await future).version for future in sent] == [1, 1]
        assert (await stage.bank.dispatch(account, "eve", Deposit(1))).version == 1


async def test_where_hardly_any_actor_is_idle_each_new_one_looks_at_some_and_the_next_goes_on_from_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rehydrate.runtime.manager._SCAN_SLICE", 2)
    async with staged(limits=Limits(max_live=4)) as stage:
        stage.script.add("replay", Hang(), Hang(), Hang())
        sent = [stage.bank.dispatch_nowait(account, name, Deposit(1)) for name in ("ada", "bob", "eve")]
        await stage.bank.dispatch(account, "idle", Deposit(1))
        with pytest.raises(MailboxFullError, match="none of them seen idle"):
            await stage.bank.dispatch(account, "joe", Deposit(1))
        assert (await stage.bank.dispatch(account, "joe", Deposit(1))).version == 1
        assert stage.bank.statistics().live == 4
        stage.store.release()
        assert [(await future).version for future in sent] == [1, 1, 1]


async def test_an_actor_that_is_deciding_is_never_unloaded_for_another() -> None:
    refused: list[BaseException | None] = []

    def decide(state: int, command: Deposit) -> Iterable[Deposited]:
        if command.amount == 0:
            refused.append(bank.dispatch_nowait(chain, "bob", Deposit(1)).exception())
        yield Deposited(command.amount)

    chain: Aggregate[int, Deposit, Deposited] = Aggregate(
        name="chain",
        initial=0,
        decide=decide,
        evolve=lambda state, event: state + event.amount,
        commands=Deposit,
        events=Deposited,
    )
    async with App(aggregates=[chain]).open("memory://", limits=Limits(max_live=1)) as bank:
        await bank.dispatch(chain, "ada", Deposit(1))
        assert (await bank.dispatch(chain, "ada", Deposit(0))).version == 2
        assert [type(error) for error in refused] == [MailboxFullError]
        assert await bank.state(chain, "ada") == 1


# ---- recoveries


async def test_so_many_actors_are_rehydrated_at_the_same_time_and_the_others_wait() -> None:
    async with staged(limits=Limits(recoveries=2)) as stage:
        stage.script.add("replay", *[Hang()] * 5)
        sent = [stage.bank.dispatch_nowait(account, f"client-{number}", Deposit(1)) for number in range(5)]
        for _ in range(3):
            await settle()
            assert stage.store.hanging <= 2
            assert stage.bank.statistics().recovering == 5 - sum(future.done() for future in sent)
            stage.store.release()
        await settle()
        assert [(await future).version for future in sent] == [1] * 5
        assert stage.bank.statistics().recovering == 0


async def test_an_actor_that_is_ready_needs_no_permit() -> None:
    async with staged(limits=Limits(recoveries=1)) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        stage.script.add("replay", Hang())
        slow = stage.bank.dispatch_nowait(account, "bob", Deposit(1))
        await settle()
        assert (await stage.bank.dispatch(account, "ada", Deposit(1))).version == 2
        stage.store.release()
        assert (await slow).version == 1


async def test_a_permit_comes_back_however_a_recovery_ends() -> None:
    async with staged(limits=Limits(recoveries=1, recovery_timeout=1)) as stage:
        stage.script.add("replay", Hang())
        stuck = stage.bank.dispatch_nowait(account, "ada", Deposit(1))
        waiting = stage.bank.dispatch_nowait(account, "bob", Deposit(1))
        expired = stage.bank.dispatch_nowait(account, "eve", Deposit(1), timeout=0.5)
        await stage.clock.advance(1.1)
        assert stuck.exception() is not None
        assert expired.exception() is not None
        assert (await waiting).version == 1
        assert (await stage.bank.dispatch(account, "joe", Deposit(1))).version == 1
        assert stage.bank.statistics().recovering == 0


async def test_commands_for_one_aggregate_cause_one_recovery() -> None:
    async with staged() as stage:
        stage.script.add("replay", Hang())
        sent = [stage.bank.dispatch_nowait(account, "ada", Deposit(1)) for _ in range(50)]
        await settle()
        stage.store.release()
        await asyncio.gather(*sent)
        assert stage.store.calls["replay"] == 1


# ---- drains


class Small(Rival):
    """A store that takes little in one append."""

    def __init__(
        self, behind: Store, *, max_append_bytes: int = 1_000, max_append_events: int = 4_096
    ) -> None:
        super().__init__(behind)
        self.capabilities: Capabilities = msgspec.structs.replace(
            behind.capabilities, max_append_bytes=max_append_bytes, max_append_events=max_append_events
        )


async def _sizes(store: Rival, *commands: Command) -> list[int]:
    """How many events each append had, for commands that waited for the actor together."""
    async with staged(store.as_store) as stage:
        stage.script.add("replay", Hang())
        sent = [stage.bank.dispatch_nowait(account, "ada", command) for command in commands]
        await settle()
        stage.store.release()
        versions = [(await future).version for future in sent]
        assert versions == sorted(versions)
    return store.sizes


async def test_a_drain_ends_at_256_commands() -> None:
    sizes = await _sizes(Rival(await open_store(SHARED)), *[Deposit(1)] * 600)
    assert sum(sizes) == 600
    assert max(sizes) <= DRAIN_COMMANDS


async def test_a_drain_ends_at_256_events() -> None:
    sizes = await _sizes(Rival(await open_store(SHARED)), *[Split(100, 100)] * 6)
    assert sum(sizes) == 600
    assert max(sizes) <= DRAIN_EVENTS


async def test_a_command_with_more_events_than_a_drain_goes_alone() -> None:
    rival = Rival(await open_store(SHARED))
    assert await _sizes(rival, Deposit(1), Split(300, 300), Deposit(1), Split(300, 300)) == [1, 300, 1, 300]


async def test_a_drain_ends_at_the_bytes_that_the_store_takes_in_one_append() -> None:
    one = len(b'{"amount":1}') + len(b'{"command_id":"' + b"0" * 32 + b'"}')
    small = Small(await open_store(SHARED), max_append_bytes=3 * one)
    sizes = await _sizes(small, *[Deposit(1)] * 7)
    # It may also end earlier, where the machine is so busy that its time is up.
    assert sum(sizes) == 7
    assert max(sizes) <= 3


async def test_a_drain_ends_at_the_events_that_the_store_takes_in_one_append() -> None:
    small = Small(await open_store(SHARED), max_append_events=5)
    assert await _sizes(small, *[Split(3, 3)] * 3, Deposit(1), Deposit(1), Split(5, 5)) == [3, 3, 5, 5]


async def test_drains_that_end_at_once_follow_each_other_without_recursion() -> None:
    small = Small(await open_store(SHARED), max_append_events=1)
    commands = sys.getrecursionlimit() + 200
    assert await _sizes(small, *[Deposit(1)] * commands) == [1] * commands


# ---- appends


@dataclass(frozen=True, slots=True)
class Note:
    text: str


@dataclass(frozen=True, slots=True)
class Noted:
    text: str


notebook: Aggregate[int, Note, Noted] = Aggregate(
    name="notebook",
    initial=0,
    decide=lambda _, note: [Noted(note.text)],
    evolve=lambda pages, _: pages + 1,
    commands=Note,
    events=Noted,
)


async def test_a_command_with_more_bytes_than_the_store_takes_is_refused() -> None:
    small = Small(await open_store(SHARED))
    async with staged(small.as_store, of=App(aggregates=[notebook])) as stage:
        with pytest.raises(AppendTooLargeError, match="bytes") as too_large:
            await stage.bank.dispatch(notebook, "1", Note("x" * 1_000))
        assert (too_large.value.limit, too_large.value.stream) == (1_000, "notebook-1")
        assert too_large.value.size > 1_000
        assert (await stage.bank.dispatch(notebook, "1", Note("x"))).version == 1
        assert stage.store.calls["submit"] == 1


async def test_a_command_with_more_events_than_the_store_takes_is_refused_and_the_rest_of_its_drain_is_not() -> (
    None
):
    small = Small(await open_store(SHARED), max_append_events=5)
    async with staged(small.as_store) as stage:
        stage.script.add("replay", Hang())
        commands = (Deposit(1), Split(6, 6), Split(5, 5), Withdraw(1_000))
        sent = [stage.bank.dispatch_nowait(account, "ada", command) for command in commands]
        await settle()
        stage.store.release()
        first, too_large, last, no = await asyncio.gather(*sent, return_exceptions=True)
        assert isinstance(first, CommandResult)
        assert isinstance(too_large, AppendTooLargeError)
        assert (too_large.size, too_large.limit) == (6, 5)
        assert isinstance(last, CommandResult)
        assert isinstance(no, InsufficientFunds)
        assert no.facts == {"balance": 6, "amount": 1_000}
