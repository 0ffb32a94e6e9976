"""What a command comes back with, and what is left behind."""

from __future__ import annotations

import asyncio
from datetime import UTC

import pytest

from rehydrate import (
    ActorCrashedError,
    Aggregate,
    App,
    CommandResult,
    ConfigurationError,
    InvalidIdError,
    StoreClosedError,
    UnknownAggregateError,
    UnknownCommandError,
)
from tests.bank import (
    Account,
    Crash,
    Deposit,
    Deposited,
    InsufficientFunds,
    Split,
    Touch,
    Withdraw,
    Withdrawn,
    account,
    app,
    bank_account,
)


async def test_a_result_names_the_last_event_of_its_command() -> None:
    async with app.open("memory://") as bank:
        assert await bank.dispatch(account, "ada", Deposit(100)) == CommandResult(1, 1, (Deposited(100),))
        await bank.dispatch(account, "bob", Deposit(5))
        result = await bank.dispatch(account, "ada", Split(10, 2))
        assert result == CommandResult(3, 4, (Deposited(5), Deposited(5)))


async def test_a_command_without_events_points_to_the_last_event_of_the_stream() -> None:
    async with app.open("memory://") as bank:
        assert await bank.dispatch(account, "ada", Touch()) == CommandResult(0, 0, ())
        await bank.dispatch(account, "bob", Deposit(1))
        await bank.dispatch(account, "ada", Deposit(1))
        assert await bank.dispatch(account, "ada", Touch()) == CommandResult(1, 2, ())


async def test_a_rejection_carries_its_facts_and_stores_nothing() -> None:
    async with app.open("memory://") as bank:
        await bank.dispatch(account, "ada", Deposit(20))
        with pytest.raises(InsufficientFunds) as no:
            await bank.dispatch(account, "ada", Withdraw(30))
        assert no.value.facts == {"balance": 20, "amount": 30}
        assert str(no.value) == "insufficient funds: balance 20, amount 30"
        assert await bank.state(account, "ada") == Account(20, 1)


@pytest.mark.parametrize("where", ["decide", "evolve"])
async def test_a_crash_fails_its_command_only_and_the_stream_still_loads(
    where: str, tmp_path: object
) -> None:
    url = f"sqlite:///{tmp_path}/bank.db"
    async with app.open(url) as bank:
        sent = [
            bank.dispatch_nowait(account, "ada", command)
            for command in (Deposit(1), Crash(where), Deposit(2))
        ]
        first, crash, last = await asyncio.gather(*sent, return_exceptions=True)
        assert isinstance(first, CommandResult)
        assert isinstance(last, CommandResult)
        assert isinstance(crash, ActorCrashedError)
        assert isinstance(crash.__cause__, RuntimeError)
        assert await bank.state(account, "ada") == Account(3, 2)
    async with app.open(url) as bank:
        assert await bank.state(account, "ada") == Account(3, 2)


def _decide_badly(_: int, __: Deposit) -> list[Deposited]:
    return ["Deposited"]  # type: ignore[list-item]  # pyright: ignore[reportReturnType]


def _count(count: int, _: Deposited) -> int:
    return count + 1


async def test_an_event_that_was_not_declared_is_never_stored() -> None:
    stray = Aggregate(
        name="stray", initial=0, decide=_decide_badly, evolve=_count, commands=Deposit, events=Deposited
    )
    async with App(aggregates=[stray]).open("memory://") as runtime:
        with pytest.raises(ActorCrashedError, match="decide gave str"):
            await runtime.dispatch(stray, "1", Deposit(1))
        assert (await runtime.store.head()).position == 0


async def test_a_value_that_would_not_load_again_is_never_stored() -> None:
    async with app.open("memory://") as bank:
        with pytest.raises(ActorCrashedError, match="int"):
            await bank.dispatch(account, "ada", Deposit("ten"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        assert (await bank.store.head()).position == 0
        assert await bank.dispatch(account, "ada", Deposit(1)) == CommandResult(1, 1, (Deposited(1),))


async def test_a_command_that_the_aggregate_does_not_take_is_refused() -> None:
    async with app.open("memory://") as bank:
        with pytest.raises(UnknownCommandError, match="takes no command 'Deposited'"):
            await bank.dispatch(account, "ada", Deposited(1))  # type: ignore[misc]  # pyright: ignore[reportArgumentType]


async def test_an_aggregate_of_another_app_is_refused() -> None:
    async with app.open("memory://") as bank:
        with pytest.raises(UnknownAggregateError):
            await bank.dispatch(bank_account(), "ada", Deposit(1))


@pytest.mark.parametrize("id", ["", "x" * 513, "a\0b", "\ud800"])
async def test_an_id_that_no_store_can_hold_is_refused(id: str) -> None:
    async with app.open("memory://") as bank:
        with pytest.raises(InvalidIdError):
            await bank.dispatch(account, id, Deposit(1))
        with pytest.raises(InvalidIdError):
            await bank.state(account, id)
        if id:
            with pytest.raises(InvalidIdError):
                await bank.dispatch(account, "ada", Deposit(1), command_id=id)
        assert bank.statistics().live == 0 or id


async def test_a_timeout_that_is_no_time_is_refused() -> None:
    async with app.open("memory://") as bank:
        with pytest.raises(ConfigurationError, match="timeout=0"):
            await bank.dispatch(account, "ada", Deposit(1), timeout=0)


async def test_events_come_back_with_all_that_is_known_about_them() -> None:
    async with app.open("memory://") as bank:
        await bank.dispatch(account, "ada", Deposit(1))
        await bank.dispatch(
            account,
            "ada",
            Withdraw(1),
            command_id="w",
            correlation_id="c",
            causation_id="e",
            metadata={"tenant": 7},
        )
        first, second = [envelope async for envelope in bank.events(account, "ada")]
        assert (first.event, first.version, first.position, first.type) == (Deposited(1), 1, 1, "Deposited")
        assert first.metadata.command_id
        assert first.metadata.correlation_id is None
        assert second.event == Withdrawn(1)
        assert second.stream == "bank_account-ada"
        assert second.recorded_at.tzinfo is UTC
        metadata = second.metadata
        assert (metadata.command_id, metadata.correlation_id, metadata.causation_id) == ("w", "c", "e")
        assert metadata.user == {"tenant": 7}
        assert [envelope.version async for envelope in bank.events(account, "ada", after=1)] == [2]
        assert [envelope.version async for envelope in bank.events(account, "ada", limit=1)] == [1]


async def test_metadata_must_be_json_scalars() -> None:
    async with app.open("memory://") as bank:
        with pytest.raises(ConfigurationError, match="metadata"):
            await bank.dispatch(account, "ada", Deposit(1), metadata={"who": object()})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]


async def test_a_state_of_the_past_is_a_fold_of_the_events_until_then() -> None:
    async with app.open("memory://") as bank:
        for amount in (1, 2, 3):
            await bank.dispatch(account, "ada", Deposit(amount))
        assert [(await bank.state(account, "ada", at=version)).balance for version in range(4)] == [
            0,
            1,
            3,
            6,
        ]
        with pytest.raises(ValueError, match="is at version 3: it has no version 4"):
            await bank.state(account, "ada", at=4)


async def test_a_state_waits_its_turn_behind_the_commands_before_it(tmp_path: object) -> None:
    async with app.open(f"sqlite:///{tmp_path}/bank.db") as bank:
        first = bank.dispatch_nowait(account, "ada", Deposit(1))
        second = bank.dispatch_nowait(account, "ada", Deposit(2))
        assert await bank.state(account, "ada") == Account(3, 2)
        assert first.done()
        assert second.done()


async def test_a_command_sent_without_waiting_is_a_future_that_may_be_dropped() -> None:
    async with app.open("memory://") as bank:
        future = bank.dispatch_nowait(account, "ada", Deposit(1))
        assert (await future).version == 1
        with pytest.raises(InsufficientFunds):
            await bank.dispatch_nowait(account, "ada", Withdraw(2))
        bank.dispatch_nowait(account, "ada", Withdraw(2))
        bank.dispatch_nowait(bank_account(), "ada", Withdraw(2))


async def test_a_caller_that_is_cancelled_cancels_its_wait_and_not_the_command(tmp_path: object) -> None:
    async with app.open(f"sqlite:///{tmp_path}/bank.db") as bank:
        await bank.state(account, "ada")
        caller = asyncio.create_task(bank.dispatch(account, "ada", Deposit(1)))
        await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert await bank.state(account, "ada") == Account(1, 1)


async def test_statistics_count_what_was_done() -> None:
    async with app.open("memory://") as bank:
        await bank.dispatch(account, "ada", Deposit(1))
        bank.dispatch_nowait(account, "ada", Withdraw(2))
        bank.dispatch_nowait(account, "ada", Crash("decide"))
        counts = bank.statistics()
        assert (counts.live, counts.busy, counts.recovering, counts.mailbox_depth) == (1, 0, 0, 0)
        assert (counts.dispatched, counts.rejected, counts.failed, counts.rehydrated) == (2, 1, 1, 1)


async def test_a_closed_runtime_takes_nothing() -> None:
    async with app.open("memory://") as bank:
        pass
    with pytest.raises(StoreClosedError):
        await bank.dispatch(account, "ada", Deposit(1))


async def test_a_runtime_belongs_to_its_event_loop() -> None:
    async with app.open("memory://") as bank:

        def elsewhere() -> None:
            asyncio.run(bank.dispatch(account, "ada", Deposit(1)))

        with pytest.raises(StoreClosedError, match="another event loop"):
            await asyncio.to_thread(elsewhere)
