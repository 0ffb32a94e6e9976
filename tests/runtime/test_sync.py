"""The runtime for programs without an event loop: the same answers, from any thread, in the process that opened it."""

from __future__ import annotations

import asyncio
import os
import threading
import warnings
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from rehydrate import (
    ActorCrashedError,
    App,
    CommandResult,
    CommandTimeoutError,
    ConfigurationError,
    InvalidIdError,
    Limits,
    MailboxFullError,
    StoreClosedError,
    SyncRuntime,
    UnknownEventError,
    open_store,
)
from rehydrate.runtime.portal import Portal
from rehydrate.store.port import NewEvent
from rehydrate.testing.clock import HANG_LIMIT
from tests.bank import (
    Account,
    Command,
    Crash,
    Deposit,
    Deposited,
    Event,
    InsufficientFunds,
    Split,
    Touch,
    Withdraw,
    account,
    app,
)


@pytest.fixture
def bank() -> Iterator[SyncRuntime]:
    with app.open_sync("memory://") as bank:
        yield bank


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "rehydrate"]


def test_commands_states_and_events_come_back_as_values(bank: SyncRuntime) -> None:
    assert bank.dispatch(account, "ada", Deposit(100)) == CommandResult(1, 1, (Deposited(100),))
    bank.dispatch(account, "ada", Withdraw(10), correlation_id="c", causation_id="e", metadata={"tenant": 7})
    assert bank.state(account, "ada") == Account(90, 2)
    assert bank.state(account, "ada", at=1) == Account(100, 1)
    first, second = bank.events(account, "ada")
    assert first.event == Deposited(100)
    assert (second.metadata.correlation_id, second.metadata.user) == ("c", {"tenant": 7})
    assert bank.statistics().dispatched == 3


def test_a_repeat_is_recognised(bank: SyncRuntime) -> None:
    first = bank.dispatch(account, "ada", Deposit(1), command_id="once", caused_at=0)
    assert bank.dispatch(account, "ada", Deposit(1), command_id="once", caused_at=0) == first


def test_exceptions_come_as_themselves(bank: SyncRuntime) -> None:
    with pytest.raises(InsufficientFunds) as no:
        bank.dispatch(account, "ada", Withdraw(1))
    assert no.value.facts == {"balance": 0, "amount": 1}
    with pytest.raises(ActorCrashedError) as crash:
        bank.dispatch(account, "ada", Crash("decide"))
    assert isinstance(crash.value.__cause__, RuntimeError)
    with pytest.raises(InvalidIdError):
        bank.dispatch(account, "", Deposit(1))
    with pytest.raises(ConfigurationError):
        bank.dispatch(account, "ada", Deposit(1), timeout=0)
    with pytest.raises(ValueError, match="has no version 7"):
        bank.state(account, "ada", at=7)


def test_many_events_are_fetched_in_batches(bank: SyncRuntime) -> None:
    bank.dispatch(account, "ada", Split(1_024, 1_024))
    assert [event.version for event in bank.events(account, "ada")] == list(range(1, 1_025))
    assert [event.version for event in bank.events(account, "ada", after=1_000, limit=512)] == list(
        range(1_001, 1_025)
    )
    assert [event.version for event in bank.events(account, "ada", limit=512)] == list(range(1, 513))
    assert next(bank.events(account, "ada")).version == 1
    assert list(bank.events(account, "bob")) == []


def test_the_events_before_one_that_cannot_be_read_come_first(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/bank.db"

    async def break_it() -> None:
        store = await open_store(url)
        await store.append("bank_account-ada", [NewEvent("odd", "Odd", b"{}")], expected_version=2)
        await store.close()

    with app.open_sync(url) as bank:
        bank.dispatch(account, "ada", Split(2, 2))
        asyncio.run(break_it())
        events = bank.events(account, "ada")
        assert [next(events).version, next(events).version] == [1, 2]
        with pytest.raises(UnknownEventError):
            next(events)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_would_end_the_program_is_the_error_of_its_command_and_the_bank_goes_on(
    kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def decide(_: Account, command: Command) -> Iterable[Event]:
        if isinstance(command, Touch):
            raise kind
        yield Deposited(1)

    ending = replace(account, decide=decide)
    with App(aggregates=[ending]).open_sync("memory://") as bank, ThreadPoolExecutor(1) as other:
        with pytest.raises(ActorCrashedError, match=kind.__name__):
            other.submit(bank.dispatch, ending, "ada", Touch()).result(HANG_LIMIT)
        assert bank.dispatch(ending, "ada", Deposit(1)).version == 1
    assert kind.__name__ in caplog.text


def test_several_threads_share_one_bank(bank: SyncRuntime) -> None:
    def work(number: int) -> list[int]:
        return [bank.dispatch(account, f"client-{number % 3}", Deposit(1)).version for _ in range(25)]

    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(work, range(9)))
    for client in range(3):
        assert sorted(chain(*versions[client::3])) == list(range(1, 76))
        assert bank.state(account, f"client-{client}") == Account(75, 75)


def test_several_threads_look_at_the_statistics_while_others_work(bank: SyncRuntime) -> None:
    def work(number: int) -> int:
        if number % 2:
            return bank.statistics().dispatched
        return bank.dispatch(account, f"client-{number}", Deposit(1)).version

    with ThreadPoolExecutor(8) as pool:
        assert sum(1 for seen in pool.map(work, range(400)) if seen >= 0) == 400
    assert bank.statistics().dispatched == 200


def test_all_calls_run_on_one_thread_that_ends_with_the_bank() -> None:
    before = len(_threads())
    with app.open_sync("memory://") as bank:
        for number in range(20):
            bank.dispatch(account, f"client-{number}", Deposit(1))
        assert len(_threads()) == before + 1
    assert len(_threads()) == before


def test_a_bank_that_cannot_be_opened_leaves_no_thread() -> None:
    before = len(_threads())
    with pytest.raises(ConfigurationError), app.open_sync("nowhere://"):
        pass
    assert len(_threads()) == before


def test_an_error_in_the_body_comes_out_and_the_bank_is_closed() -> None:
    before = len(_threads())
    with pytest.raises(RuntimeError, match="of the program"), app.open_sync("memory://"):
        raise RuntimeError("an error of the program")
    assert len(_threads()) == before


def test_a_file_can_be_opened_again_and_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/bank.db"
    for version in (1, 2, 3):
        with app.open_sync(url, snapshots=f"sqlite:///{tmp_path}/snapshots.db") as bank:
            assert bank.dispatch(account, "ada", Deposit(1)).version == version


def test_limits_are_kept(tmp_path: Path) -> None:
    with app.open_sync(f"sqlite:///{tmp_path}/bank.db", limits=Limits(mailbox=1)) as bank:
        with ThreadPoolExecutor(16) as pool:
            sent = [pool.submit(bank.dispatch, account, "ada", Deposit(1)) for _ in range(64)]
        outcomes = [future.exception() for future in sent]
        stored = outcomes.count(None)
        assert all(outcome is None or isinstance(outcome, MailboxFullError) for outcome in outcomes)
        assert bank.state(account, "ada") == Account(stored, stored)


# ---- after the end, and elsewhere


USES: dict[str, Callable[[SyncRuntime], object]] = {
    "dispatch": lambda bank: bank.dispatch(account, "ada", Deposit(1)),
    "state": lambda bank: bank.state(account, "ada"),
    "a state of the past": lambda bank: bank.state(account, "ada", at=1),
    "events": lambda bank: list(bank.events(account, "ada")),
    "statistics": lambda bank: bank.statistics(),
}


@pytest.mark.parametrize("use", USES)
def test_a_closed_bank_takes_nothing(use: str) -> None:
    with app.open_sync("memory://") as bank:
        bank.dispatch(account, "ada", Deposit(1))
    with pytest.raises(StoreClosedError):
        USES[use](bank)


def _run(ask: Callable[[], Coroutine[Any, Any, object]]) -> None:
    asyncio.run(ask())


def _in_a_forked_child(use: Callable[[], object]) -> str:
    """The name of the class of what it raises there."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # That threads do not come along is what this is about.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            use()
            os.write(writer, b"nothing")
        except Exception as error:  # noqa: BLE001 - whatever it is, the parent wants to know
            os.write(writer, type(error).__name__.encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        name = answer.read().decode()
    os.waitpid(child, 0)
    return name


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_forked_child_takes_nothing_and_the_parent_goes_on(use: str, kind: str, tmp_path: Path) -> None:
    url = "memory://" if kind == "memory" else f"sqlite:///{tmp_path}/bank.db"
    with app.open_sync(url) as bank:
        bank.dispatch(account, "ada", Deposit(1))
        assert _in_a_forked_child(lambda: USES[use](bank)) == "StoreClosedError"
        assert bank.dispatch(account, "ada", Deposit(1)).version == 2


async def test_a_runtime_of_the_parent_answers_nothing_in_a_forked_child() -> None:
    async with app.open("memory://") as bank:
        await bank.dispatch(account, "ada", Deposit(1))
        asked: list[Callable[[], Coroutine[Any, Any, object]]] = [
            lambda: bank.dispatch(account, "ada", Deposit(1)),
            lambda: bank.dispatch(account, "ada", Withdraw(1_000)),
            lambda: bank.state(account, "ada"),
        ]
        for ask in asked:
            assert _in_a_forked_child(partial(_run, ask)) == "StoreClosedError"
        assert (await bank.dispatch(account, "ada", Deposit(1))).version == 2


def test_a_child_can_open_a_bank_of_its_own(tmp_path: Path) -> None:
    def deposit() -> None:
        with app.open_sync(f"sqlite:///{tmp_path}/child.db") as own:
            own.dispatch(account, "ada", Deposit(5))

    with app.open_sync(f"sqlite:///{tmp_path}/parent.db") as bank:
        bank.dispatch(account, "ada", Deposit(1))
        assert _in_a_forked_child(deposit) == "nothing"
        assert bank.state(account, "ada") == Account(1, 1)
    with app.open_sync(f"sqlite:///{tmp_path}/child.db") as bank:
        assert bank.state(account, "ada") == Account(5, 1)


# ---- the portal below


def test_whoever_still_waits_when_the_portal_is_left_is_told() -> None:
    waits = threading.Event()
    outcomes: list[BaseException] = []

    async def for_ever() -> None:
        waits.set()
        await asyncio.Event().wait()

    def caller() -> None:
        try:
            portal.call(for_ever())
        except StoreClosedError as error:
            outcomes.append(error)

    with Portal() as portal:
        thread = threading.Thread(target=caller, daemon=True)
        thread.start()
        assert waits.wait(HANG_LIMIT)
    thread.join(HANG_LIMIT)
    assert not thread.is_alive()
    assert len(outcomes) == 1


def test_a_call_that_is_cancelled_inside_is_cancelled_outside() -> None:
    async def cancelled() -> None:
        raise asyncio.CancelledError

    with Portal() as portal, pytest.raises(CancelledError):
        portal.call(cancelled())


def test_threads_that_call_while_the_bank_is_closed_get_an_answer_each() -> None:
    answers: list[str] = []
    begun = threading.Barrier(9)

    def work() -> None:
        begun.wait(HANG_LIMIT)
        while True:
            try:
                shared.dispatch(account, "ada", Touch())
            except (StoreClosedError, CommandTimeoutError) as error:
                answers.append(type(error).__name__)
                return

    threads = [threading.Thread(target=work, daemon=True) for _ in range(8)]
    with app.open_sync("memory://shared") as shared:
        for thread in threads:
            thread.start()
        begun.wait(HANG_LIMIT)
    for thread in threads:
        thread.join(HANG_LIMIT)
    assert len(answers) == 8


def test_a_call_from_within_the_loop_is_refused() -> None:
    async def nested() -> None:
        async def inner() -> None: ...

        portal.call(inner())

    with Portal() as portal, pytest.raises(RuntimeError, match="would wait for itself"):
        portal.call(nested())


async def test_who_opens_it_inside_a_running_loop_is_warned() -> None:
    with (
        pytest.warns(RuntimeWarning, match=r"use async with app\.open") as told,
        app.open_sync("memory://") as bank,
    ):
        assert bank.dispatch(account, "ada", Deposit(1)).version == 1
    assert [Path(one.filename).name for one in told] == ["test_sync.py"]
