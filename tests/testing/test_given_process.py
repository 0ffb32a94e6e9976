"""`given` takes in events as the instances of a process manager do, and says readably what is wrong with one."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from dataclasses import replace as changed
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from examples.bank.account import (
    AccountClosed,
    Deposit,
    Deposited,
    InsufficientFunds,
    MoneySent,
    ReceiveMoney,
    SendMoney,
    TakeBack,
)
from examples.bank.aggregates import bank_account, money_transfer
from examples.bank.transfer import Accepted, Expire, Expired, Fail, Requested
from examples.bank.transfers import PATIENCE, TIME_OUT, Moving, transfers
from rehydrate import (
    Aggregate,
    Cancel,
    ConfigurationError,
    EventEnvelope,
    InvalidIdError,
    ProcessManager,
    Rejected,
    Send,
    Snapshot,
)
from rehydrate.testing import Happened, given

REQUESTED = Happened(money_transfer, "t1", Requested("t1", "ada", "bob", 30))
ACCEPTED = Happened(money_transfer, "t1", Accepted())
SENT = Happened(bank_account, "ada", MoneySent("t1", 30))
TAKE = Send(bank_account, "ada", SendMoney("t1", 30))
TIMER = Send(money_transfer, "t1", Expire(), after=PATIENCE, name=TIME_OUT)


def managed(
    *,
    initial: Any = 0,
    correlate: Callable[[EventEnvelope[Any]], Any] = lambda envelope: envelope.aggregate_id,
    evolve: Callable[[Any, Any], Any] = lambda count, event: count + 1,
    react: Callable[[Any, Any], Any] = lambda count, event: [],
    **changes: Any,
) -> ProcessManager[Any, Any]:
    fields: dict[str, Any] = {"name": "followers", "sources": [bank_account]}
    return ProcessManager(
        initial=initial, correlate=correlate, evolve=evolve, react=react, **(fields | changes)
    )


def giving(value: Any) -> Callable[..., Any]:
    """A function that gives this, whatever it is asked."""

    def give(*_: Any) -> Any:
        return value

    return give


def drawing(wrap: Callable[[str], Any]) -> Callable[..., Any]:
    """A function that gives something else each time."""

    def draw(*_: Any) -> Any:
        return wrap(uuid.uuid4().hex)

    return draw


def deposited(id: str, amount: int = 1) -> Happened:
    return Happened(bank_account, id, Deposited(amount))


def failure(check: Callable[[], object]) -> str:
    with pytest.raises(AssertionError) as failed:
        check()
    return str(failed.value)


# ------------------------------------------------------------------------------------------------------- what is right


def test_what_follows_from_an_event_is_told_step_by_step() -> None:
    (
        given(transfers, REQUESTED)
        .then(TAKE, TIMER)
        .when(SENT)
        .then()
        .then_state("t1", Moving("t1", "ada", "bob", 30, is_held=True))
        .when(ACCEPTED)
        .then(Cancel(TIME_OUT), Send(bank_account, "bob", ReceiveMoney("t1", 30)))
    )


def test_what_follows_from_several_events_is_told_in_their_order() -> None:
    other = Happened(money_transfer, "t2", Requested("t2", "eve", "bob", 5))
    given(transfers, REQUESTED, other).then(
        TAKE,
        TIMER,
        Send(bank_account, "eve", SendMoney("t2", 5)),
        Send(money_transfer, "t2", Expire(), after=PATIENCE, name=TIME_OUT),
    ).then_state("t2", Moving("t2", "eve", "bob", 5)).then_state("t3", Moving())


def test_what_was_given_stays_as_it_is() -> None:
    begun = given(transfers, REQUESTED, SENT)
    begun.when(ACCEPTED).then_timers("t1")
    begun.when(Happened(money_transfer, "t1", Expired())).then(Send(bank_account, "ada", TakeBack("t1", 30)))
    begun.then_timers("t1", TIMER).then_state("t1", Moving("t1", "ada", "bob", 30, is_held=True))


def test_timers_are_pending_until_they_are_cancelled_or_another_takes_their_place() -> None:
    def remind(count: int, event: Any) -> list[Send | Cancel]:
        if count == 4:
            return [Cancel("day"), Cancel("night")]
        at = datetime(2026, 3, count, tzinfo=UTC)
        return [
            Send(bank_account, "ada", Deposit(count), at=at, name="day"),
            Send(bank_account, "bob", Deposit(count), after=timedelta(hours=1)),
        ]

    hour, begun = timedelta(hours=1), given(managed(react=remind), deposited("x"), deposited("x"))
    begun.then_timers(
        "x",
        Send(bank_account, "bob", Deposit(1), after=hour),
        Send(bank_account, "ada", Deposit(2), at=datetime(2026, 3, 2, tzinfo=UTC), name="day"),
        Send(bank_account, "bob", Deposit(2), after=hour),
    ).then_timers("y")
    begun.when(deposited("x"), deposited("x")).then_timers(
        "x", *[Send(bank_account, "bob", Deposit(count), after=hour) for count in (1, 2, 3)]
    )


def test_a_refusal_is_told_to_the_instance_that_has_sent_the_command() -> None:
    other = Happened(money_transfer, "t2", Requested("t2", "ada", "eve", 30))
    (
        given(transfers, REQUESTED, other)
        .when_refused(TAKE, InsufficientFunds(balance=5, amount=30))
        .then(Cancel(TIME_OUT), Send(money_transfer, "t1", Fail("insufficient funds: balance 5, amount 30")))
        .then_timers("t1")
        .then_timers("t2", Send(money_transfer, "t2", Expire(), after=PATIENCE, name=TIME_OUT))
    )
    (
        given(transfers, REQUESTED, SENT, ACCEPTED)
        .when_refused(Send(bank_account, "bob", ReceiveMoney("t1", 30)), AccountClosed())
        .then(Send(bank_account, "ada", TakeBack("t1", 30)))
    )


def test_a_timer_that_is_refused_was_due() -> None:
    given(transfers, REQUESTED).when_refused(TIMER, AccountClosed()).then().then_timers("t1")


def test_a_refusal_comes_as_it_does_from_a_store() -> None:
    seen: list[Rejected] = []

    def see(count: int, event: Any) -> list[Send]:
        if isinstance(event, Rejected):
            seen.append(event)
            return []
        return [Send(bank_account, "bob", Deposit(1))]

    send = Send(bank_account, "bob", Deposit(1))
    given(managed(react=see), deposited("x")).when_refused(
        send, InsufficientFunds(balance=(1, 2))
    ).then_state("x", 2)
    assert {type(no.rejection) for no in seen} == {InsufficientFunds}
    assert seen[0].send == send
    assert seen[0].rejection.facts == {"balance": [1, 2]}


def test_an_event_may_belong_to_no_instance_or_to_no_source() -> None:
    nobody = managed(correlate=lambda envelope: None)
    given(nobody, deposited("x")).then().then_state("x", 0)
    given(managed(), REQUESTED, deposited("t1")).then_state("t1", 1)


# ------------------------------------------------------------------------------------------- something else than expected


def test_something_else_is_shown_beside_what_was_expected() -> None:
    assert failure(lambda: given(transfers, REQUESTED).then(TAKE, Cancel(TIME_OUT))) == (
        "transfers: something else followed than expected\n"
        "  Send(bank_account, 'ada', SendMoney(transfer='t1', amount=30))\n"
        "- Cancel(name='time-out')\n"
        "+ Send(money_transfer, 't1', Expire(), after=datetime.timedelta(days=1), name='time-out')\n"
        "(- expected, + actual)"
    )
    assert "\n+ nothing\n" in failure(lambda: given(transfers).then(TAKE))


def test_another_state_and_other_timers_are_shown() -> None:
    begun = given(managed(), deposited("x"))
    assert failure(lambda: begun.then_state("x", 2)) == (
        "followers: the state of 'x' is another than expected\n- 2\n+ 1\n(- expected, + actual)"
    )
    told = failure(lambda: given(transfers, REQUESTED).then_timers("t1"))
    assert told.startswith("transfers: other timers of 't1' are pending than expected\n- nothing\n+ Send(")


def test_what_nobody_has_sent_cannot_be_refused() -> None:
    assert failure(lambda: given(transfers).when_refused(TAKE, AccountClosed())) == (
        "transfers: Send(bank_account, 'ada', SendMoney(transfer='t1', amount=30)) cannot be refused: "
        "no instance has sent it, or it was already"
    )
    begun = given(transfers, REQUESTED).when_refused(TAKE, AccountClosed())
    assert "or it was already" in failure(lambda: begun.when_refused(TAKE, AccountClosed()))
    cancelled = given(transfers, REQUESTED, SENT, ACCEPTED)
    assert "no instance has sent it" in failure(lambda: cancelled.when_refused(TIMER, AccountClosed()))


def test_a_command_that_two_instances_have_sent_is_refused_to_the_later_one_first() -> None:
    send = Send(bank_account, "bob", Deposit(1))
    follows = managed(react=lambda count, event: [] if isinstance(event, Rejected) else [send])
    begun = given(follows, deposited("x"), deposited("y")).when_refused(send, AccountClosed())
    begun.then_state("x", 1).then_state("y", 2)
    begun.when_refused(send, AccountClosed()).then_state("x", 2).then_state("y", 2)


def test_a_state_that_needs_snapshots_and_cannot_be_stored_is_refused_as_an_app_refuses_it() -> None:
    with pytest.raises(ConfigurationError, match="process manager 'followers': its state cannot be stored"):
        given(managed(initial=object(), snapshot=Snapshot(every=2)))


# ------------------------------------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize("function", ["evolve", "react", "correlate"])
def test_what_a_function_raises_is_raised_as_it_is_and_says_where(function: str) -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError("a bug")

    changes: dict[str, Any] = {function: fails}
    with pytest.raises(RuntimeError, match="a bug") as failed:
        given(managed(**changes), deposited("x"))
    assert failed.value.__notes__[0].startswith(f"followers: {function} failed at Deposited(amount=1)")


def test_a_refusal_that_react_fails_at_is_named_in_short() -> None:
    def once(count: int, event: Any) -> list[Send]:
        if isinstance(event, Rejected):
            raise KeyError("once")
        return [Send(bank_account, "bob", Deposit(1))]

    begun = given(managed(react=once), deposited("x"))
    with pytest.raises(KeyError) as failed:
        begun.when_refused(Send(bank_account, "bob", Deposit(1)), AccountClosed())
    assert failed.value.__notes__ == [
        "followers: react failed at Rejected(Send(bank_account, 'bob', Deposit(amount=1)), AccountClosed())"
    ]


EXPIRE: Any = Expire()


@pytest.mark.parametrize(
    ("function", "given_back", "error", "told"),
    [
        ("react", None, TypeError, "react gave NoneType; return a list"),
        ("react", [Deposit(1)], TypeError, "react gave Deposit; give Send"),
        ("correlate", 7, InvalidIdError, "id that correlate returned"),
        ("react", [Send(bank_account, "x", EXPIRE)], ConfigurationError, "takes no command Expire"),
        ("react", [Send(bank_account, "", Deposit(1))], InvalidIdError, "it is empty"),
    ],
)
def test_what_a_runtime_refuses_is_refused(
    function: str, given_back: object, error: type[Exception], told: str
) -> None:
    changes: dict[str, Any] = {function: giving(given_back)}
    with pytest.raises(error, match=told):
        given(managed(**changes), deposited("x"))


def test_a_command_that_would_arrive_as_another_is_found() -> None:
    @dataclass(frozen=True)
    class Weigh:
        weight: float | None

    scale: Aggregate[Any, Any, Any] = Aggregate(
        name="scale", initial=0, decide=giving([]), evolve=giving(0), commands=Weigh, events=Deposited
    )
    weighing = managed(react=giving([Send(scale, "x", Weigh(float("nan")))]))
    told = failure(lambda: given(weighing, deposited("x")))
    assert told.startswith("followers: the command of Send(scale, 'x', ")
    assert told.endswith("Weigh(weight=nan)) does not come back as it was: weight: nan came back as None")


@dataclass(frozen=True)
class Amounts:
    all: list[int] = field(default_factory=list[int])


def test_a_function_that_changes_its_state_is_found() -> None:
    def collect(state: Amounts, event: Any) -> Amounts:
        state.all.append(1)
        return state

    def collect_in_react(state: Amounts, event: Any) -> list[Send]:
        collect(state, event)
        return []

    changing = managed(initial=Amounts(), evolve=collect)
    assert "evolve changed the state" in failure(lambda: given(changing, deposited("x")))
    changing = managed(initial=Amounts(), evolve=lambda state, event: state, react=collect_in_react)
    assert "react changed the state" in failure(lambda: given(changing, deposited("x")))


def _cancel(name: str) -> list[Cancel]:
    return [Cancel(name)]


@pytest.mark.parametrize(("function", "wrap"), [("evolve", str), ("react", _cancel), ("correlate", str)])
def test_a_function_that_draws_lots_is_found(function: str, wrap: Callable[[str], Any]) -> None:
    changes: dict[str, Any] = {function: drawing(wrap)}
    told = failure(lambda: given(managed(**changes), deposited("x")))
    assert told.startswith(f"followers: {function} gave ")
    assert "when it was asked again for Deposited(amount=1)" in told


def test_an_event_without_a_place_is_told_how_to_say_it() -> None:
    wrong: Any = Deposited(1)
    assert failure(lambda: given(managed(), wrong)) == (
        "followers: Deposited(amount=1) does not say where it happened; write Happened(aggregate, id, event)"
    )


def test_another_aggregate_of_the_same_name_is_refused() -> None:
    other = changed(bank_account)
    with pytest.raises(ConfigurationError, match="two aggregates are named 'bank_account'"):
        given(managed(react=giving([Send(other, "x", Deposit(1))])), deposited("x"))
