"""An actor that nobody uses is unloaded, never too early, and no command is lost by it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from rehydrate import Aggregate, App, CommandResult, Limits, MailboxFullError, Runtime
from rehydrate.clock import Timer
from rehydrate.testing.clock import settle
from rehydrate.testing.faults import Delay, Hang, HangAnswer
from tests.bank import (
    Account,
    Command,
    Crash,
    Deposit,
    Event,
    InsufficientFunds,
    Touch,
    Withdraw,
    bank_account,
    decide,
    evolve,
)
from tests.stand_ins import SHARED, Stage, staged

brief = bank_account(passivate_after=5.0)
app = App(aggregates=[brief])


async def test_an_actor_that_nobody_uses_is_unloaded_and_comes_back_with_its_state() -> None:
    async with staged(of=app) as stage:
        await stage.bank.dispatch(brief, "ada", Deposit(5))
        await stage.clock.advance(8)
        assert (stage.bank.statistics().live, stage.bank.statistics().passivated) == (0, 1)
        assert await stage.bank.state(brief, "ada") == Account(5, 1)
        assert stage.bank.statistics().rehydrated == 2


async def test_an_actor_is_not_unloaded_before_its_time_whenever_it_was_used_last() -> None:
    async with staged(of=app) as stage:
        for step in range(60):
            await stage.bank.dispatch(brief, "ada", Deposit(1))
            await stage.clock.advance(4.999)
            assert stage.bank.statistics().live == 1
            await stage.clock.advance(0.037 * step % 1)
        assert stage.bank.statistics().rehydrated <= 60


async def test_an_actor_is_unloaded_soon_after_its_time() -> None:
    async with staged(of=app) as stage:
        for _ in range(20):
            await stage.bank.dispatch(brief, "ada", Deposit(1))
            await stage.clock.advance(7.01)
            assert stage.bank.statistics().live == 0
            await stage.clock.advance(0.13)


async def test_an_aggregate_of_which_a_shorter_time_is_asked_unloads_no_other_one_earlier() -> None:
    slow, quick = _named("slow", 0.8), _named("quick", 0.2)
    async with staged(of=App(aggregates=[slow, quick])) as stage:
        await stage.bank.dispatch(slow, "ada", Deposit(1))
        await stage.clock.advance(0.39)
        await stage.bank.dispatch(slow, "ada", Deposit(1))
        await stage.bank.dispatch(quick, "bob", Deposit(1))
        await stage.clock.advance(0.79)
        await stage.bank.dispatch(slow, "ada", Deposit(1))
        assert stage.bank.statistics().rehydrated == 2


async def test_each_aggregate_has_its_own_time() -> None:
    slow, quick = _named("slow", 60), _named("quick", 1)
    async with staged(of=App(aggregates=[slow, quick])) as stage:
        for aggregate in (slow, quick):
            await stage.bank.dispatch(aggregate, "ada", Deposit(1))
        await stage.clock.advance(10)
        assert stage.bank.statistics().live == 1
        await stage.clock.advance(60)
        assert stage.bank.statistics().live == 0


def _named(name: str, passivate_after: float) -> Aggregate[Account, Command, Event]:
    return Aggregate(
        name=name,
        initial=Account(),
        decide=decide,
        evolve=evolve,
        commands=Command,
        events=Event,
        passivate_after=passivate_after,
    )


async def _ask(stage: Stage, what: str) -> None:
    """Use the actor of ada in one of the ways there are."""
    bank = stage.bank
    match what:
        case "state":
            await bank.state(brief, "ada")
        case "repeat":
            await bank.dispatch(brief, "ada", Deposit(1), command_id="once")
        case "rejected":
            with pytest.raises(InsufficientFunds):
                await bank.dispatch(brief, "ada", Withdraw(1_000_000))
        case "crashed":
            await asyncio.gather(bank.dispatch(brief, "ada", Crash("decide")), return_exceptions=True)
        case _:
            await bank.dispatch(brief, "ada", Deposit(1) if what == "accepted" else Touch())


@pytest.mark.parametrize("store", ["memory://", SHARED])
@pytest.mark.parametrize("what", ["accepted", "nothing", "rejected", "crashed", "state", "repeat"])
async def test_every_outcome_counts_as_use(what: str, store: str) -> None:
    async with staged(store, of=app) as stage:
        await stage.bank.dispatch(brief, "ada", Deposit(1), command_id="once")
        for _ in range(5):
            await stage.clock.advance(4)
            await _ask(stage, what)
        await stage.clock.advance(4.9)
        assert (stage.bank.statistics().live, stage.bank.statistics().rehydrated) == (1, 1)
        await stage.clock.advance(3)
        assert stage.bank.statistics().live == 0


@pytest.mark.parametrize(
    ("method", "fault"), [("submit", Hang()), ("submit", HangAnswer()), ("replay", Hang())]
)
async def test_an_actor_with_a_command_under_way_is_not_unloaded(
    method: str, fault: Hang | HangAnswer
) -> None:
    async with staged(of=app, limits=Limits(recovery_timeout=1_000)) as stage:
        stage.script.add(method, fault)
        sent = stage.bank.dispatch_nowait(brief, "ada", Deposit(1), timeout=100)
        behind = stage.bank.dispatch_nowait(brief, "ada", Deposit(1), timeout=100)
        await stage.clock.advance(50)
        assert stage.bank.statistics().live == 1
        stage.store.release()
        assert [(await sent).version, (await behind).version] == [1, 2]


async def test_an_actor_whose_answer_is_being_checked_is_not_unloaded() -> None:
    async with staged(SHARED, of=app) as stage:
        await stage.bank.dispatch(brief, "ada", Deposit(1))
        stage.script.add("ends", Hang())
        asked = asyncio.create_task(stage.bank.state(brief, "ada"))
        await stage.clock.advance(20)
        assert stage.bank.statistics().live == 1
        stage.store.release()
        assert await asked == Account(1, 1)


@pytest.mark.parametrize("seed", range(8))
async def test_no_command_is_lost_however_it_meets_the_unloading(seed: int) -> None:
    draw = random.Random(seed)
    restless = bank_account(passivate_after=0.05)
    async with staged(
        SHARED, of=App(aggregates=[restless]), limits=Limits(max_live=3, recoveries=2)
    ) as stage:
        sent: dict[str, list[asyncio.Future[CommandResult[Event]]]] = {}
        for _ in range(150):
            name = draw.choice(["ada", "bob", "eve", "joe", "kim"])
            if draw.random() < 0.2:
                stage.script.add(draw.choice(["replay", "submit"]), Delay(draw.choice([0, 0.01, 0.06, 0.2])))
            future = stage.bank.dispatch_nowait(restless, name, Deposit(1))
            if future.done() and isinstance(future.exception(), MailboxFullError):
                await stage.clock.advance(0.3)
                continue
            sent.setdefault(name, []).append(future)
            if draw.random() < 0.7:
                await stage.clock.advance(draw.choice([0, 0.01, 0.05, 0.1, 0.11, 0.2]))
        await stage.clock.advance(5)
        for name, futures in sent.items():
            assert [(await future).version for future in futures] == list(range(1, len(futures) + 1))
            stored = [event.version async for event in stage.bank.events(restless, name)]
            assert stored == list(range(1, len(futures) + 1))
        assert stage.bank.statistics().passivated > 10


@pytest.mark.parametrize("commands", [1, 2])
async def test_timers_do_not_grow_with_actors(commands: int) -> None:
    async with staged(of=app) as stage:
        await stage.bank.dispatch(brief, "first", Deposit(1))
        await stage.clock.advance(1)
        one = stage.clock.timers
        for number in range(300):
            for _ in range(commands):
                await stage.bank.dispatch(brief, f"client-{number}", Deposit(1))
        await stage.clock.advance(1)
        assert stage.clock.timers == one
        assert stage.bank.statistics().live == 301
        await stage.clock.advance(10)
        assert stage.bank.statistics().live == 0
        assert stage.clock.timers == 0


class HandClock:
    """A clock whose timers fire when the test says so, all at once, whatever the event loop has left to do."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[HandTimer] = []

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> int:
        return 0

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        self._timers.append(timer := HandTimer(callback))
        return timer

    def fire(self) -> None:
        due, self._timers = self._timers, []
        for timer in due:
            if not timer.cancelled:
                timer.callback()

    @property
    def timers(self) -> int:
        return sum(1 for timer in self._timers if not timer.cancelled)


class HandTimer:
    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


MANY = 4_500
"""With so many actors a sweep takes several turns of the event loop."""


async def _start_many(bank: Runtime) -> None:
    for number in range(MANY):
        bank.dispatch_nowait(brief, f"client-{number}", Deposit(1))
    await settle()


async def test_there_is_one_sweep_however_many_actors_start_while_it_looks() -> None:
    clock = HandClock()
    async with app.open("memory://", clock=clock) as bank:
        await _start_many(bank)
        for turn in range(5):
            clock.fire()
            bank.dispatch_nowait(brief, f"later-{turn}", Deposit(1))
            await settle()
        clock.fire()
        await settle()
        assert clock.timers == 1


async def test_an_actor_that_is_used_while_the_sweep_looks_at_others_stays() -> None:
    clock = HandClock()
    async with app.open("memory://", clock=clock) as bank:
        await _start_many(bank)
        for _ in range(2):
            clock.now += 3
            clock.fire()
            await settle()
        clock.now += 3
        clock.fire()
        assert 0 < bank.statistics().live < MANY
        assert (await bank.dispatch(brief, "client-0", Deposit(1))).version == 2
        await settle()
        assert bank.statistics().live == 1
        assert (await bank.dispatch(brief, "client-0", Deposit(1))).version == 3
        assert bank.statistics().rehydrated == MANY


async def test_a_sweep_that_comes_late_unloads_nothing_early() -> None:
    clock = HandClock()
    async with app.open("memory://", clock=clock) as bank:
        await bank.dispatch(brief, "ada", Deposit(1))
        clock.now += 1
        clock.fire()
        # The event loop was kept busy for long: the next look comes 100 s later, just after the actor was used.
        clock.now += 100
        await bank.dispatch(brief, "ada", Deposit(1))
        clock.fire()
        assert bank.statistics().live == 1
        for seconds in (1, 3.9):
            clock.now += seconds
            clock.fire()
            assert bank.statistics().live == 1
        clock.now += 2
        clock.fire()
        assert bank.statistics().live == 0
