"""`given` passes where the domain is right, and says readably what is wrong where it is not."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, assert_never, cast

import pytest

from rehydrate.codec import JsonCodec
from rehydrate.domain.aggregate import Aggregate
from rehydrate.domain.rejection import Rejection
from rehydrate.testing.given import given


@dataclass(frozen=True, slots=True)
class Deposit:
    amount: int


@dataclass(frozen=True, slots=True)
class Withdraw:
    amount: int


@dataclass(frozen=True, slots=True)
class Deposited:
    amount: int


@dataclass(frozen=True, slots=True)
class Withdrawn:
    amount: int


@dataclass(frozen=True, slots=True)
class Account:
    balance: int = 0
    history: list[int] = field(default_factory=list[int])


Command = Deposit | Withdraw
Event = Deposited | Withdrawn


class InsufficientFunds(Rejection): ...


class AccountClosed(Rejection): ...


def decide(account: Account, command: Command) -> Iterable[Event]:
    match command:
        case Deposit(amount):
            yield Deposited(amount)
        case Withdraw(amount):
            if amount > account.balance:
                raise InsufficientFunds(balance=account.balance, amount=amount)
            if amount:
                yield Withdrawn(amount)
        case _:
            assert_never(command)


def evolve(account: Account, event: Event) -> Account:
    match event:
        case Deposited(amount):
            return replace(account, balance=account.balance + amount)
        case Withdrawn(amount):
            return replace(account, balance=account.balance - amount)
        case _:
            assert_never(event)


account = Aggregate(
    name="account", initial=Account(), decide=decide, evolve=evolve, commands=Command, events=Event
)


def with_decide(decide: Callable[[Account, Any], Any]) -> Aggregate[Account, Any, Any]:
    return dataclasses.replace(account, decide=decide)


def with_evolve(evolve: Callable[[Account, Any], Any]) -> Aggregate[Account, Any, Any]:
    return dataclasses.replace(account, evolve=evolve)


def sized(event_class: Any) -> Aggregate[Any, Any, Any]:
    """An aggregate whose commands become events of one class, with the amount as size."""

    def decide(state: Any, command: Deposit) -> Iterable[Any]:
        return [event_class(command.amount)]

    def evolve(state: Any, event: Any) -> Any:
        return state

    return Aggregate(
        name="sized", initial=0, decide=decide, evolve=evolve, commands=Deposit, events=event_class
    )


def failure(check: Callable[[], object]) -> str:
    with pytest.raises(AssertionError) as failed:
        check()
    return str(failed.value)


# ------------------------------------------------------------------------------------------------------- what is right


def test_a_command_gives_events() -> None:
    given(account).when(Deposit(100)).then(Deposited(100))


def test_a_command_is_decided_on_what_the_events_led_to() -> None:
    given(account, Deposited(100), Withdrawn(90)).when(Withdraw(10)).then(Withdrawn(10)).then_state(
        Account(0)
    )


def test_a_command_may_give_no_events() -> None:
    given(account).when(Withdraw(0)).then().then_state(Account(0))


def test_a_command_is_rejected_with_the_facts_that_are_named() -> None:
    outcome = given(account, Deposited(20)).when(Withdraw(30))
    outcome.then_rejected(InsufficientFunds)
    outcome.then_rejected(InsufficientFunds, balance=20)
    outcome.then_rejected(Rejection, balance=20, amount=30).then_state(Account(20))


def test_the_given_events_alone_lead_to_a_state() -> None:
    given(account).then_state(Account())
    given(account, Deposited(20)).then_state(Account(20))


def test_a_story_is_told_command_by_command() -> None:
    (
        given(account)
        .when(Deposit(10))
        .when(Deposit(5))
        .then(Deposited(5))
        .when(Withdraw(20))
        .then_rejected(InsufficientFunds, balance=15)
        .when(Withdraw(15))
        .then(Withdrawn(15))
        .then_state(Account(0))
    )


def test_a_state_without_a_value_of_its_own_is_taken_on_trust() -> None:
    class Counter:
        count = 0

    def decide(counter: Counter, command: Deposit) -> Iterable[Deposited]:
        return [Deposited(counter.count)]

    def evolve(counter: Counter, event: Deposited) -> Counter:
        after = Counter()
        after.count = counter.count + 1
        return after

    counter = Aggregate(
        name="counter", initial=Counter(), decide=decide, evolve=evolve, commands=Deposit, events=Deposited
    )
    given(counter, Deposited(1)).when(Deposit(1)).then(Deposited(1))


def test_the_codec_of_the_aggregate_is_used() -> None:
    codec = JsonCodec(Event, upcasters={"Deposited": [lambda fields: fields]})
    given(dataclasses.replace(account, codec=codec), Deposited(1)).when(Deposit(2)).then(Deposited(2))


# ------------------------------------------------------------------------------------------------------- what is wrong


def test_other_events_than_expected_are_shown_one_per_line() -> None:
    told = failure(lambda: given(account).when(Deposit(100)).then(Deposited(100), Withdrawn(1)))
    assert told.splitlines() == [
        "account: Deposit(amount=100) gave other events than expected",
        "  Deposited(amount=100)",
        "- Withdrawn(amount=1)",
        "(- expected, + actual)",
    ]


def test_events_where_none_were_expected_are_shown() -> None:
    told = failure(lambda: given(account).when(Deposit(100)).then())
    assert told.splitlines()[1:3] == ["- no events", "+ Deposited(amount=100)"]


def test_events_that_read_the_same_and_are_not_equal_are_shown_as_such() -> None:
    @dataclass(frozen=True, slots=True)
    class Named:
        size: int
        hidden: int = field(default=0, repr=False)

    assert "not equal" in failure(lambda: given(sized(Named)).when(Deposit(1)).then(Named(1, hidden=1)))


def test_events_that_are_equal_are_not_shown_as_different() -> None:
    @dataclass(frozen=True, slots=True)
    class Weighed:
        size: float

    told = failure(lambda: given(sized(Weighed)).when(Deposit(1)).then(Weighed(1), Weighed(2)))
    assert [line[0] for line in told.splitlines()[1:3]] == [" ", "-"]


def test_a_rejection_where_events_were_expected_is_shown_as_such() -> None:
    told = failure(lambda: given(account).when(Withdraw(30)).then(Withdrawn(30)))
    assert told.splitlines() == [
        "account: Withdraw(amount=30) was rejected",
        "  InsufficientFunds(balance=0, amount=30)",
        "expected were",
        "  Withdrawn(amount=30)",
    ]


def test_events_where_a_rejection_was_expected_are_shown() -> None:
    told = failure(lambda: given(account).when(Deposit(30)).then_rejected(InsufficientFunds))
    assert told.splitlines() == [
        "account: Deposit(amount=30) was not rejected with InsufficientFunds, and gave",
        "  Deposited(amount=30)",
    ]


def test_another_rejection_is_shown() -> None:
    told = failure(lambda: given(account).when(Withdraw(30)).then_rejected(AccountClosed))
    assert "with AccountClosed, but with\n  InsufficientFunds(balance=0, amount=30)" in told


def test_other_facts_are_shown() -> None:
    told = failure(
        lambda: given(account).when(Withdraw(30)).then_rejected(InsufficientFunds, balance=1, limit=5)
    )
    assert told.splitlines()[1:] == ["- balance=1", "+ balance=0", "- limit=5", "(- expected, + actual)"]


def test_another_state_is_shown() -> None:
    told = failure(lambda: given(account).when(Deposit(1)).then_state(Account(2)))
    assert told.splitlines()[:3] == [
        "account: Deposit(amount=1) led to another state than expected",
        "- Account(balance=2, history=[])",
        "+ Account(balance=1, history=[])",
    ]
    assert "given events led to another state" in failure(lambda: given(account).then_state(Account(2)))


def test_a_command_after_an_unexpected_rejection_fails() -> None:
    assert "was rejected" in failure(lambda: given(account).when(Withdraw(1)).when(Deposit(1)))


def test_a_state_after_an_unexpected_rejection_fails_also_where_it_is_the_same() -> None:
    assert "was rejected" in failure(lambda: given(account).when(Withdraw(1)).then_state(Account()))
    given(account).when(Withdraw(1)).then_rejected(InsufficientFunds).then_state(Account())


@pytest.mark.parametrize("subject", ["bank_account", Account, Deposited(1)])
def test_what_is_no_aggregate_is_named(subject: Any) -> None:
    with pytest.raises(
        TypeError, match=f"given begins with an Aggregate.* and was given {re.escape(repr(subject))}: "
    ):
        given(subject, Deposited(1))


def test_undeclared_commands_and_events_are_named() -> None:
    wrong: Aggregate[Any, Any, Any] = account
    told = failure(lambda: given(wrong).when(Deposited(1)))
    assert told == (
        "account: the command Deposited(amount=1) is of type Deposited, which the aggregate does not declare (Deposit, Withdraw)"
    )
    assert "the given event Deposit(amount=1) is of type Deposit" in failure(lambda: given(wrong, Deposit(1)))
    assert "the expected event" in failure(lambda: given(wrong).when(Deposit(1)).then(Deposit(1)))
    undeclared = with_decide(lambda state, command: [command])
    assert "the decided event Deposit(amount=1)" in failure(lambda: given(undeclared).when(Deposit(1)))


def test_a_decide_that_returns_no_events_at_all_is_told_what_to_return() -> None:
    silent = with_decide(lambda state, command: None)
    assert "decide returned None" in failure(lambda: given(silent).when(Deposit(1)))


def test_a_decide_that_yields_events_and_returns_others_is_told_to_yield_all() -> None:
    def both(state: Account, command: Command) -> Any:
        yield Deposited(1)
        return [Deposited(2)]

    assert "which is lost" in failure(lambda: given(with_decide(both)).when(Deposit(1)))


def test_an_event_that_would_not_come_back_fails() -> None:
    @dataclass(frozen=True)
    class Measured:
        value: float

    @dataclass(frozen=True)
    class MaybeMeasured:
        value: float | None

    nan, inf = float("nan"), float("inf")
    told = failure(lambda: given(sized(Measured)).when(Deposit(cast("int", nan))))
    assert "the decided event" in told
    assert "cannot be stored: value is nan, and JSON has neither NaN nor infinity" in told
    assert "the given event" in failure(lambda: given(sized(Measured), Measured(inf)))
    assert "value: nan came back as None" in failure(lambda: given(sized(MaybeMeasured), MaybeMeasured(nan)))


def test_an_event_that_changes_on_its_way_fails() -> None:
    @dataclass(frozen=True)
    class Grown:
        size: int

        def __post_init__(self) -> None:
            object.__setattr__(self, "size", self.size + 1)

    assert "size: 2 came back as 3" in failure(lambda: given(sized(Grown)).when(Deposit(1)))


def test_a_decide_that_draws_lots_is_found() -> None:
    random = with_decide(lambda state, command: [Deposited(uuid.uuid4().int % 2**50)])
    assert "when it was asked again" in failure(lambda: given(random).when(Deposit(1)))
    moods = iter([False, True])

    def moody(state: Account, command: Command) -> Iterable[Event]:
        if next(moods):
            raise InsufficientFunds
        return [Deposited(1)]

    assert "InsufficientFunds()" in failure(lambda: given(with_decide(moody)).when(Deposit(1)))


def test_an_evolve_that_draws_lots_is_found() -> None:
    random = with_evolve(lambda state, event: Account(uuid.uuid4().int % 2**50))
    assert "evolve gave another state" in failure(lambda: given(random, Deposited(1)))


def test_a_decide_or_evolve_that_changes_its_state_is_found() -> None:
    def deciding(state: Account, command: Deposit) -> Iterable[Event]:
        state.history.append(command.amount)
        return []

    def evolving(state: Account, event: Event) -> Account:
        state.history.append(event.amount)
        return state

    fresh = dataclasses.replace(with_decide(deciding), initial=Account())
    assert "decide changed the state" in failure(lambda: given(fresh).when(Deposit(1)))
    fresh = dataclasses.replace(with_evolve(evolving), initial=Account())
    assert "evolve changed the state" in failure(lambda: given(fresh, Deposited(1)))


def test_an_evolve_that_forgets_to_return_is_found_unless_it_says_that_none_is_a_state() -> None:
    def forgets(account: Account, event: Event) -> Account:
        return None  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    def may_end(account: Account | None, event: Event) -> Account | None:
        return None

    def says_nothing(account, event):  # type: ignore[no-untyped-def]
        return None

    evolves: list[Any] = [forgets, says_nothing]
    for evolve in evolves:
        told = failure(lambda: given(with_evolve(evolve), Deposited(1)))  # noqa: B023 - it is called at once
        assert "evolve returned None for Deposited(amount=1)" in told
    given(with_evolve(may_end), Deposited(1)).then_state(cast("Any", None))


def test_an_evolve_that_refuses_is_found() -> None:
    def refuse(state: Account, event: Event) -> Account:
        raise InsufficientFunds

    assert "cannot be refused" in failure(lambda: given(with_evolve(refuse), Deposited(1)))


def test_a_fact_that_cannot_cross_a_process_is_found() -> None:
    def refuse(state: Account, command: Command) -> Iterable[Event]:
        raise InsufficientFunds(state=object())

    assert "its fact 'state' cannot be encoded" in failure(
        lambda: given(with_decide(refuse)).when(Deposit(1))
    )


def test_a_crash_of_the_domain_is_raised_as_it_is() -> None:
    def crash(state: Account, command: Command) -> Iterable[Event]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        given(with_decide(crash)).when(Deposit(1))


def test_given_needs_no_pytest() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, rehydrate.testing.given; print(*sys.modules, sep='\\n')"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert set(loaded.stdout.split()) & {"pytest", "hypothesis", "pydantic", "attr", "attrs"} == set()
