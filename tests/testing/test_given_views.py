"""`given` folds the views that a runtime folds, and says readably what is wrong with a projection where something is."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from rehydrate import (
    Aggregate,
    ConfigurationError,
    EventEnvelope,
    InvalidIdError,
    JsonCodec,
    Metadata,
    Park,
    Projection,
    Skip,
)
from rehydrate.testing import FakeClock, Happened, given
from tests.bank import Cursed, Deposited, Event, Withdrawn, account
from tests.readside.ledger import Balance, account_id, add, balances


def projected(
    *,
    key: Callable[[EventEnvelope[Event]], Any] = account_id,
    evolve: Callable[[Any, EventEnvelope[Event]], Any] = add,
    **changes: Any,
) -> Projection[Any, Any]:
    fields: dict[str, Any] = {"name": "balances", "initial": Balance(), "sources": [account]}
    return Projection(key=key, evolve=evolve, **(fields | changes))


def deposited(id: str, *amounts: int, **said: Any) -> Happened:
    events = [Deposited(amount) for amount in amounts]
    return Happened(account, id, *events, **said)


def failure(check: Callable[[], object]) -> str:
    with pytest.raises(AssertionError) as failed:
        check()
    return str(failed.value)


# ------------------------------------------------------------------------------------------------------- what is right


def test_events_are_folded_into_the_views_of_their_keys() -> None:
    (
        given(balances, Happened(account, "ada", Deposited(100), Withdrawn(30)), deposited("bob", 5))
        .then_view("ada", Balance(70, 2))
        .then_view("bob", Balance(5, 1))
        .then_no_view("eve")
        .then_views({"bob": Balance(5, 1), "ada": Balance(70, 2)})
    )


def test_nothing_has_happened_and_there_is_no_view() -> None:
    given(balances).then_views({}).then_no_view("ada")


def test_a_story_goes_on_and_what_was_given_stays_as_it_is() -> None:
    begun = given(balances, deposited("ada", 1))
    begun.when(deposited("ada", 2)).when(deposited("bob", 3), deposited("ada", 4)).then_views(
        {"ada": Balance(7, 3), "bob": Balance(3, 1)}
    )
    begun.then_views({"ada": Balance(1, 1)}).when(deposited("ada", 8)).then_view("ada", Balance(9, 2))


def test_a_key_may_be_several_or_none() -> None:
    def everywhere(envelope: EventEnvelope[Event]) -> Iterable[str] | None:
        if envelope.aggregate_id == "nobody":
            return None
        return [envelope.aggregate_id, "all accounts", envelope.aggregate_id]

    projection = projected(key=everywhere)
    given(projection, deposited("ada", 1), deposited("nobody", 2), deposited("bob", 4)).then_views(
        {"ada": Balance(1, 1), "bob": Balance(4, 1), "all accounts": Balance(5, 2)}
    )


def test_an_evolve_that_returns_none_removes_the_view_which_begins_anew() -> None:
    def close(balance: Balance, envelope: EventEnvelope[Event]) -> Balance | None:
        after = add(balance, envelope)
        return after if after.amount else None

    (
        given(projected(evolve=close), Happened(account, "ada", Deposited(5), Withdrawn(5)))
        .then_no_view("ada")
        .when(deposited("ada", 2))
        .then_view("ada", Balance(2, 1))
    )


def test_an_envelope_has_what_a_store_would_say_of_the_event() -> None:
    seen: list[EventEnvelope[Event]] = []

    def keep(count: int, envelope: EventEnvelope[Event]) -> int:
        seen.append(envelope)
        return count + 1

    noon = datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    given(
        projected(initial=0, evolve=keep),
        deposited("ada", 1, 2),
        deposited("bob", 3, recorded_at=noon, metadata={"by": "eve"}, correlation_id="c", causation_id="e"),
        deposited("ada", 4, command_id="one"),
    )
    told = {envelope.position: envelope for envelope in seen}
    assert [(one.stream, one.version, one.event) for one in told.values()] == [
        ("bank_account-ada", 1, Deposited(1)),
        ("bank_account-ada", 2, Deposited(2)),
        ("bank_account-bob", 1, Deposited(3)),
        ("bank_account-ada", 3, Deposited(4)),
    ]
    assert [one.type for one in told.values()] == ["Deposited"] * 4
    assert [one.id for one in told.values()] == [f"event-{position}" for position in told]
    began = datetime.fromtimestamp(FakeClock().wall() / 1e6, UTC)
    assert [one.recorded_at for one in told.values()] == [began, began, noon, noon]
    assert told[3].recorded_at.tzinfo is UTC
    assert [one.metadata for one in told.values()] == [
        Metadata(command_id="command-1"),
        Metadata(command_id="command-1"),
        Metadata(command_id="command-2", user={"by": "eve"}, correlation_id="c", causation_id="e"),
        Metadata(command_id="one"),
    ]


def test_the_codec_of_the_source_is_used() -> None:
    def names(_: str, envelope: EventEnvelope[Event]) -> str:
        return envelope.type

    source = replace(account, codec=JsonCodec(Event, upcasters={"Deposited": [lambda fields: fields]}))
    projection = projected(initial="", evolve=names, sources=[source])
    given(projection, Happened(source, "ada", Deposited(1))).then_view("ada", "Deposited@2")


def test_events_of_others_than_the_sources_are_not_read_and_a_failure_says_so() -> None:
    other = replace(account, name="other")
    begun = given(balances, Happened(other, "ada", Deposited(1), Cursed()))
    begun.then_views({}).when(deposited("ada", 2)).then_views({"ada": Balance(2, 1)})
    told = " (it does not read events of other: no source of it)"
    assert failure(lambda: begun.then_view("ada", Balance(1, 1))) == (
        f"balances: there is no view of 'ada', and none of any other key{told}"
    )
    assert failure(lambda: begun.then_views({"ada": Balance(1, 1)})).splitlines()[0] == (
        f"balances: there are other views than expected{told}"
    )


# --------------------------------------------------------------------------------------------- another view than expected


def test_another_view_is_shown_beside_the_expected_one() -> None:
    assert failure(lambda: given(balances, deposited("ada", 70)).then_view("ada", Balance(70, 2))) == (
        "balances: the view of 'ada' is another than expected\n"
        "- Balance(amount=70, changes=2)\n"
        "+ Balance(amount=70, changes=1)\n"
        "(- expected, + actual)"
    )


def test_no_view_is_no_view_also_where_a_reader_is_given_what_views_begin_with() -> None:
    told = failure(lambda: given(balances, deposited("ada", 70)).then_view("eve", Balance()))
    assert told == "balances: there is no view of 'eve', only of 'ada'"
    many = given(balances, *[deposited(f"{n:02}", 1) for n in range(11)])
    assert failure(lambda: many.then_view("eve", Balance())).endswith("only of '00', '01', '02', '03', '04', "
        "'05', '06', '07', '08', '09', ...")  # fmt: skip


def test_a_view_where_none_was_expected_is_shown() -> None:
    assert failure(lambda: given(balances, deposited("ada", 70)).then_no_view("ada")) == (
        "balances: there is a view of 'ada', and none was expected: Balance(amount=70, changes=1)"
    )


def test_of_other_views_those_are_shown_that_differ() -> None:
    begun = given(balances, deposited("ada", 1), deposited("bob", 2), deposited("cyd", 3))
    told = failure(
        lambda: begun.then_views({"ada": Balance(1, 1), "bob": Balance(2, 2), "dan": Balance(4, 1)})
    )
    assert told.splitlines()[0] == "balances: there are other views than expected"
    assert sorted(told.splitlines()[1:]) == [
        "(- expected, + actual)",
        "+ 'bob': Balance(amount=2, changes=1)",
        "+ 'cyd': Balance(amount=3, changes=1)",
        "- 'bob': Balance(amount=2, changes=2)",
        "- 'dan': Balance(amount=4, changes=1)",
    ]
    none = failure(lambda: given(balances).then_views({"ada": Balance(1, 1)}))
    assert none.splitlines()[1:3] == ["- 'ada': Balance(amount=1, changes=1)", "+ no views"]


# ------------------------------------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize("policy", [{}, {"on_error": Skip()}, {"on_error": Park()}])
def test_what_evolve_raises_is_raised_as_it_is_and_says_where(policy: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError, match="a bug in evolve") as failed:
        given(projected(**policy), deposited("ada", 1)).when(Happened(account, "bob", Cursed()))
    assert failed.value.__notes__ == [
        "balances: evolve failed at Cursed() of bank_account-bob, for the view of 'bob'"
    ]


def test_what_key_raises_is_raised_as_it_is_and_says_where() -> None:
    def number(envelope: EventEnvelope[Event]) -> str:
        return str(int(envelope.aggregate_id))

    with pytest.raises(ValueError, match="invalid literal") as failed:
        given(projected(key=number), deposited("ada", 1))
    assert failed.value.__notes__ == ["balances: key failed at Deposited(amount=1) of bank_account-ada"]


def test_an_evolve_that_forgets_to_return_is_refused_as_a_runtime_refuses_it() -> None:
    def forgets(balance: Balance, envelope: EventEnvelope[Event]) -> Balance:
        return None  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    evolves: list[Any] = [forgets, lambda balance, envelope: None]  # pyright: ignore[reportUnknownLambdaType]
    for evolve in evolves:
        with pytest.raises(
            TypeError, match="evolve returned None for Deposited; return the next view, or declare"
        ):
            given(projected(evolve=evolve), deposited("ada", 1))


@pytest.mark.parametrize(
    ("key", "error", "told"),
    [
        (7, TypeError, "key gave int; return a str, several of them, or None"),
        ("", InvalidIdError, "it is empty"),
        ([7], InvalidIdError, "must be a str"),
        ("\x01mine", InvalidIdError, "which is for Rehydrate's own"),
    ],
)
def test_a_key_that_is_none_is_refused_as_a_runtime_refuses_it(
    key: object, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        given(projected(key=lambda envelope: key), deposited("ada", 1))


@dataclass(frozen=True)
class Measured:
    value: float | None = 0.0


def test_a_view_that_cannot_be_stored_or_does_not_come_back_fails() -> None:
    def measured(view: float) -> Projection[Any, Any]:
        def measure(_: Measured, envelope: EventEnvelope[Event]) -> Measured:
            return Measured(view)

        return projected(initial=Measured(), evolve=measure)

    assert failure(lambda: given(measured(float("nan")), deposited("ada", 1))) == (
        "balances: the view Measured(value=nan) of 'ada' does not come back as it was: "
        "value: nan came back as None"
    )
    told = failure(lambda: given(measured(1j), deposited("ada", 1)))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert told.startswith("balances: the view Measured(value=1j) of 'ada' cannot be stored: TypeError: ")


def test_a_view_of_another_class_fails() -> None:
    other = projected(evolve=lambda view, envelope: Measured(1.0))
    told = failure(lambda: given(other, deposited("ada", 1)))
    assert told == (
        "balances: the view Measured(value=1.0) of 'ada' cannot be stored: TypeError: "
        "a value of type Measured is not of type Balance"
    )


def test_a_projection_whose_views_cannot_be_stored_is_refused_as_an_app_refuses_it() -> None:
    with pytest.raises(ConfigurationError, match=r"initial=.* does not come back from the store"):
        given(projected(initial=Measured(float("nan")), evolve=lambda view, envelope: view))
    with pytest.raises(ConfigurationError, match="its views cannot be stored"):
        given(projected(initial=object(), evolve=lambda view, envelope: view))


def test_an_event_that_the_aggregate_does_not_declare_or_that_cannot_be_stored_fails() -> None:
    wrong: Any = Balance()
    assert "the given event Balance(amount=0, changes=0) is of type Balance, which the aggregate" in failure(
        lambda: given(balances, Happened(account, "ada", wrong))
    )
    assert "bank_account: the given event Deposited(amount='1') cannot be stored" in failure(
        lambda: given(balances, deposited("ada", "1"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    )


@dataclass(frozen=True)
class Amounts:
    all: list[int] = field(default_factory=list[int])


def test_an_evolve_or_key_that_changes_what_it_is_given_is_found() -> None:
    def collect(view: Amounts, envelope: EventEnvelope[Event]) -> Amounts:
        view.all.append(envelope.version)
        return view

    def sign(view: int, envelope: EventEnvelope[Event]) -> int:
        assert envelope.metadata.user is not None
        envelope.metadata.user["seen"] = True
        return view

    def signed(envelope: EventEnvelope[Event]) -> str:
        sign(0, envelope)
        return "ada"

    happened = deposited("ada", 1, metadata={"by": "ada"})
    told = failure(lambda: given(projected(initial=Amounts(), evolve=collect), happened))
    assert told.splitlines()[:2] == [
        "balances: evolve changed the view that it was given; it must leave it alone",
        "- Amounts(all=[])",
    ]
    told = failure(lambda: given(projected(initial=0, evolve=sign), happened))
    assert "evolve changed the envelope that it was given" in told
    assert "key changed the envelope that it was given" in failure(
        lambda: given(projected(key=signed), happened)
    )


def test_an_evolve_or_key_that_draws_lots_is_found() -> None:
    def draw(view: int, envelope: EventEnvelope[Event]) -> int:
        return uuid.uuid4().int % 2**50

    told = failure(lambda: given(projected(initial=0, evolve=draw), deposited("ada", 1)))
    assert told.startswith(
        "balances: evolve gave another view when it was asked again for Deposited(amount=1) of bank_account-ada"
    )
    told = failure(lambda: given(projected(key=lambda envelope: uuid.uuid4().hex), deposited("ada", 1)))
    assert told.startswith("balances: key gave other keys when it was asked again for Deposited(amount=1)")
    # In which order the keys come is the same to the views.
    turns = iter([["a", "b"], ["b", "a"]])
    given(projected(key=lambda envelope: next(turns)), deposited("ada", 1)).then_view("a", Balance(1, 1))


# -------------------------------------------------------------------------------------------- what cannot have happened


def test_an_event_without_a_place_is_told_how_to_say_it() -> None:
    wrong: Any = Deposited(1)
    assert failure(lambda: given(balances, wrong)) == (
        "balances: Deposited(amount=1) does not say where it happened; write Happened(aggregate, id, event)"
    )


def test_what_no_store_would_hold_is_refused() -> None:
    wrong: Any = account.name
    with pytest.raises(ConfigurationError, match="'bank_account' is no Aggregate"):
        Happened(wrong, "ada", Deposited(1))
    with pytest.raises(InvalidIdError, match="it is empty"):
        deposited("", 1)
    with pytest.raises(InvalidIdError, match="command id"):
        deposited("ada", 1, command_id="")
    with pytest.raises(ConfigurationError, match=r"it has no time zone; write datetime\(..., tzinfo=UTC\)"):
        deposited("ada", 1, recorded_at=datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(ConfigurationError, match="is not a mapping of str to JSON scalars"):
        given(balances, deposited("ada", 1, metadata={"at": object()}))


def test_two_aggregates_of_one_name_are_refused() -> None:
    other: Aggregate[Any, Any, Any] = replace(account)
    with pytest.raises(ConfigurationError, match="two aggregates are named 'bank_account'"):
        given(balances, Happened(other, "ada", Deposited(1)))
    with pytest.raises(ConfigurationError, match="two aggregates are named 'bank_account'"):
        given(projected(sources=[account, other]))
