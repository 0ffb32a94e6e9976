"""Between two turns of the event loop at most 64 dispatches complete, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehydrate import (
    Aggregate,
    App,
    InvalidIdError,
    Limits,
    MailboxFullError,
    Runtime,
    StoreUnavailableError,
    StreamQuarantinedError,
)
from rehydrate.runtime.limits import TURN_DISPATCHES, WORK_SLICE
from rehydrate.store.port import NewEvent
from rehydrate.testing.clock import settle
from rehydrate.testing.faults import Hang, Refuse
from tests.bank import Account, Crash, Deposit, Deposited, InsufficientFunds, Touch, Withdraw, account, app
from tests.stand_ins import SHARED, LoopTurns, staged


@pytest.fixture
def whole_drains() -> None:
    """Not here: what a slice of work ends is what these tests are about."""


Call = Callable[[Runtime, str], Awaitable[object]]


async def _refused(bank: Runtime, name: str) -> None:
    with pytest.raises(InsufficientFunds):
        await bank.dispatch(account, name, Withdraw(1_000_000))


async def _crashed(bank: Runtime, name: str) -> None:
    await asyncio.gather(bank.dispatch(account, name, Crash("evolve")), return_exceptions=True)


async def _invalid(bank: Runtime, name: str) -> None:
    with pytest.raises(InvalidIdError):
        await bank.dispatch(account, "", Deposit(1))


async def _invalid_state(bank: Runtime, name: str) -> None:
    with pytest.raises(InvalidIdError):
        await bank.state(account, "")


class _Numbers:
    def __init__(self) -> None:
        self.last = 0

    def __call__(self, bank: Runtime, name: str) -> Awaitable[object]:
        self.last += 1
        return bank.dispatch(account, name, Deposit(1), command_id=f"c{self.last}")


CALLS: dict[str, Call] = {
    "accepted": lambda bank, name: bank.dispatch(account, name, Deposit(1)),
    "with an id": _Numbers(),
    "without events": lambda bank, name: bank.dispatch(account, name, Touch()),
    "refused": _refused,
    "crashed": _crashed,
    "refused before it got anywhere": _invalid,
    "a state": lambda bank, name: bank.state(account, name),
    "a state that cannot be": _invalid_state,
}


@pytest.mark.parametrize("store", ["memory://", SHARED])
@pytest.mark.parametrize("callers", [1, 3, 100])
@pytest.mark.parametrize("call", CALLS)
async def test_at_most_64_dispatches_complete_between_two_turns_of_the_loop(
    call: str, callers: int, store: str
) -> None:
    async with app.open(store) as bank:
        for number in range(callers):
            await bank.dispatch(account, f"client-{number}", Deposit(1), command_id="first")
        turns = LoopTurns()

        async def caller(number: int) -> None:
            for _ in range(max(8, 600 // callers)):
                await CALLS[call](bank, f"client-{number}")
                turns.note()

        await asyncio.gather(*(caller(number) for number in range(callers)))
        turns.stop()
        assert max(turns.done) <= TURN_DISPATCHES


@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 3), st.sampled_from([1, 2, 15, 60, 61, 200])), min_size=1, max_size=4
        ),
        min_size=1,
        max_size=8,
    ),
    st.integers(0, 8),
)
def test_it_is_64_also_where_callers_come_and_go(callers: list[list[tuple[int, int]]], place: int) -> None:
    """Each caller lets some turns pass, and dispatches some commands, again and again."""

    async def play() -> None:
        async with app.open("memory://") as bank:
            for number in range(len(callers)):
                await bank.dispatch(account, f"client-{number}", Deposit(1))
            turns: LoopTurns | None = None

            async def caller(number: int) -> None:
                for idle, count in callers[number]:
                    for _ in range(idle):
                        await asyncio.sleep(0)
                    for _ in range(count):
                        await bank.dispatch(account, f"client-{number}", Deposit(1))
                        if turns is not None:
                            turns.note()

            tasks = [asyncio.create_task(caller(number)) for number in range(min(place, len(callers)))]
            # A turn may be counted from before or after any of them.
            turns = LoopTurns()
            tasks += [asyncio.create_task(caller(number)) for number in range(len(tasks), len(callers))]
            await asyncio.gather(*tasks)
            turns.stop()
            assert max(turns.done) <= TURN_DISPATCHES

    asyncio.run(play())


async def test_a_stream_in_quarantine_does_not_keep_the_loop_busy() -> None:
    async with app.open("memory://") as bank:
        await bank.store.append("bank_account-ada", [NewEvent("1", "Odd", b"{}")], expected_version=0)
        turns = LoopTurns()
        for _ in range(500):
            with pytest.raises(StreamQuarantinedError):
                await bank.state(account, "ada")
            turns.note()
        turns.stop()
        assert max(turns.done) <= TURN_DISPATCHES


@pytest.mark.parametrize("call", ["accepted", "a state"])
async def test_a_full_mailbox_does_not_keep_the_loop_busy(call: str) -> None:
    async with staged(limits=Limits(mailbox=1)) as stage:
        stage.script.add("replay", Hang())
        stage.bank.dispatch_nowait(account, "ada", Deposit(1))
        turns = LoopTurns()
        for _ in range(300):
            with pytest.raises(MailboxFullError):
                await CALLS[call](stage.bank, "ada")
            turns.note()
        turns.stop()
        assert max(turns.done) <= TURN_DISPATCHES


@pytest.mark.parametrize("retryable", [True, False])
async def test_a_store_that_refuses_at_once_does_not_keep_the_loop_busy(retryable: bool) -> None:
    async with staged(SHARED) as stage:
        await stage.bank.dispatch(account, "ada", Deposit(1))
        stage.script.add("submit", *[Refuse(at_once=True, retryable=retryable)] * 300)
        turns = LoopTurns()
        for _ in range(300):
            with pytest.raises(StoreUnavailableError):
                await stage.bank.dispatch(account, "ada", Deposit(1))
            turns.note()
        turns.stop()
        assert max(turns.done) <= TURN_DISPATCHES


async def test_a_loop_that_only_dispatches_lets_others_run() -> None:
    async with app.open("memory://") as bank:
        await bank.dispatch(account, "ada", Deposit(1))
        ran = asyncio.get_running_loop().create_future()

        async def other() -> None:
            for _ in range(10):
                await asyncio.sleep(0)
            ran.set_result(None)

        others = asyncio.create_task(other())
        for _ in range(64 * 12):
            if ran.done():
                break
            await bank.dispatch(account, "ada", Deposit(1))
        assert ran.done()
        await others


async def test_callers_are_served_alike() -> None:
    async with app.open("memory://") as bank:
        counts = [0] * 100
        for number in range(100):
            await bank.dispatch(account, f"client-{number}", Deposit(1))

        async def caller(number: int) -> None:
            while sum(counts) < 8_000:
                await bank.dispatch(account, f"client-{number}", Deposit(1))
                counts[number] += 1

        await asyncio.gather(*(caller(number) for number in range(100)))
        assert min(counts) >= 80 - 32
        # The first of them has all of the first round, and may be one share ahead at the end.
        assert max(counts) <= 80 + TURN_DISPATCHES + 16


async def test_a_caller_that_comes_late_is_not_starved_by_those_who_never_suspend() -> None:
    async with app.open("memory://") as bank:
        for name in ("ada", "bob"):
            await bank.dispatch(account, name, Deposit(1))
        late_at: list[int] = []
        dispatched = 0

        async def busy() -> None:
            nonlocal dispatched
            while not late_at:
                await bank.dispatch(account, "ada", Deposit(1))
                dispatched += 1
                assert dispatched < 10_000

        async def late() -> None:
            await asyncio.sleep(0)
            begun = dispatched
            await bank.dispatch(account, "bob", Deposit(1))
            late_at.append(dispatched - begun)

        await asyncio.gather(busy(), busy(), late())
        assert late_at[0] <= 2 * TURN_DISPATCHES


async def test_waiters_that_are_cancelled_do_not_stall_the_others() -> None:
    async with app.open("memory://") as bank:
        for number in range(60):
            await bank.dispatch(account, f"client-{number}", Deposit(1))
        done = [0] * 60

        async def caller(number: int) -> None:
            for _ in range(50):
                await bank.dispatch(account, f"client-{number}", Deposit(1))
                done[number] += 1

        callers = [asyncio.create_task(caller(number)) for number in range(60)]
        for number in range(60):
            await asyncio.sleep(0)
            if number % 3:
                callers[number].cancel()
        outcomes = await asyncio.gather(*callers, return_exceptions=True)
        assert outcomes[::3] == [None] * 20
        assert done[::3] == [50] * 20
        for number in range(60):
            stored = [event async for event in bank.events(account, f"client-{number}")]
            assert len(stored) in {done[number] + 1, done[number] + 2}


async def test_those_who_are_cancelled_when_it_is_their_turn_pass_it_on() -> None:
    async with app.open("memory://") as bank:
        await bank.dispatch(account, "ada", Deposit(1))

        async def caller() -> None:
            while True:
                await bank.dispatch(account, "ada", Deposit(1))

        for _ in range(20):
            callers = [asyncio.create_task(caller()) for _ in range(9)]
            for _ in range(4):
                await asyncio.sleep(0)
            for task in callers:
                task.cancel()
            await asyncio.gather(*callers, return_exceptions=True)
            assert (await bank.dispatch(account, "ada", Touch())).version > 0


# ---- long work


class Slow:
    """An account whose `decide` takes longer than a slice of work."""

    def __init__(self) -> None:
        self.account: Aggregate[int, Deposit, Deposited] = Aggregate(
            name="slow",
            initial=0,
            decide=self._decide,
            evolve=lambda balance, event: balance + event.amount,
            commands=Deposit,
            events=Deposited,
        )
        self.turns: LoopTurns | None = None

    def _decide(self, _: int, command: Deposit) -> Iterable[Deposited]:
        if self.turns is not None:
            end = perf_counter() + 2 * WORK_SLICE
            while perf_counter() < end:
                pass
            self.turns.note()
        yield Deposited(command.amount)


async def test_after_a_slice_of_work_the_rest_goes_on_in_the_next_turn() -> None:
    slow = Slow()
    async with staged(of=App(aggregates=[slow.account])) as stage:
        stage.script.add("replay", Hang())
        sent = [stage.bank.dispatch_nowait(slow.account, "ada", Deposit(1)) for _ in range(12)]
        await settle()
        slow.turns = LoopTurns()
        stage.store.release()
        results = await asyncio.gather(*sent)
        slow.turns.stop()
        assert max(slow.turns.done) == 1
        assert [result.version for result in results] == list(range(1, 13))


def _note(finished: list[str], name: str, _: object) -> None:
    finished.append(name)


async def test_actors_with_much_to_do_take_turns() -> None:
    slow = Slow()
    async with staged(of=App(aggregates=[slow.account])) as stage:
        names = ("ada", "bob", "eve")
        stage.script.add("replay", *[Hang()] * 3)
        sent = [
            (name, stage.bank.dispatch_nowait(slow.account, name, Deposit(1)))
            for _ in range(4)
            for name in names
        ]
        finished: list[str] = []
        for name, future in sent:
            future.add_done_callback(partial(_note, finished, name))
        await settle()
        slow.turns = LoopTurns()
        stage.store.release()
        await asyncio.gather(*(future for _, future in sent))
        slow.turns.stop()
        for turn in range(4):
            assert sorted(finished[3 * turn : 3 * turn + 3]) == ["ada", "bob", "eve"]


async def test_actors_whose_answers_were_checked_together_take_turns() -> None:
    slow = Slow()
    async with staged(SHARED, of=App(aggregates=[slow.account])) as stage:
        names = [f"client-{number}" for number in range(10)]
        for name in names:
            await stage.bank.dispatch(slow.account, name, Deposit(1))
        stage.script.add("ends", Hang())
        asked = [asyncio.create_task(stage.bank.state(slow.account, name)) for name in names]
        await settle()
        behind = [stage.bank.dispatch_nowait(slow.account, name, Deposit(1)) for name in names]
        slow.turns = LoopTurns()
        stage.store.release()
        assert await asyncio.gather(*asked) == [1] * 10
        await asyncio.gather(*behind)
        slow.turns.stop()
        assert max(slow.turns.done) == 1


async def test_a_long_stream_is_folded_in_slices() -> None:
    async with app.open("memory://") as bank:
        for _ in range(5):
            await bank.store.append(
                "bank_account-ada",
                [NewEvent(f"{_}-{number}", "Deposited", b'{"amount":1}') for number in range(1_000)],
                expected_version=1_000 * _,
            )
        turns = LoopTurns()
        assert await bank.state(account, "ada") == Account(5_000, 5_000)
        turns.stop()
        assert turns.now >= 5_000 // 256
