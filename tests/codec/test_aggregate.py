"""The codecs of an aggregate, and what is refused in its name."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import pytest

from rehydrate.codec import AggregateCodecs, JsonCodec, check_aggregates
from rehydrate.domain.aggregate import Aggregate, Snapshot
from rehydrate.errors import ConfigurationError


@dataclass(frozen=True)
class Add:
    amount: int


@dataclass(frozen=True)
class Added:
    amount: int


@dataclass(frozen=True)
class Removed:
    amount: int


@dataclass(frozen=True)
class Empty:
    pass


@dataclass(frozen=True)
class Filled:
    total: int

    def evolve(self, event: Added) -> Self:
        return dataclasses.replace(self, total=self.total + event.amount)


@dataclass(frozen=True)
class Ratio:
    value: float | None


def decide(state: object, command: Add) -> Iterable[Added | Removed]:
    return [Added(command.amount)]


def evolve(state: Empty | Filled, event: Added | Removed) -> Empty | Filled:
    return Filled(event.amount)


stock: Aggregate[Any, Any, Any] = Aggregate(
    name="stock", initial=Empty(), decide=decide, evolve=evolve, commands=Add, events=Added | Removed
)


def refusal(**changes: Any) -> str:
    with pytest.raises(ConfigurationError) as refused:
        AggregateCodecs.of(dataclasses.replace(stock, **changes))
    return str(refused.value)


def test_an_aggregate_has_codecs_for_its_events_its_commands_and_its_state() -> None:
    codecs = AggregateCodecs.of(stock)
    assert set(codecs.events.names) == {Added, Removed}
    assert codecs.commands.decoders["Add"](b'{"amount": 1}') == Add(1)
    assert codecs.state is not None
    assert codecs.state.decode(codecs.state.encode(Filled(3))) == Filled(3)


def test_a_class_may_be_command_and_event() -> None:
    assert (
        AggregateCodecs.of(dataclasses.replace(stock, commands=Add | Added)).commands.names[Added] == "Added"
    )


def test_what_is_wrong_with_its_types_is_told_with_its_name() -> None:
    wrong = dataclasses.make_dataclass("Wrong", [("a", complex), ("b", Any)], frozen=True)
    assert refusal(events=Added | wrong).splitlines() == [
        "aggregate 'stock': its events cannot be stored:",
        "  Wrong.a: complex would not come back as it was; use two floats",
        "  Wrong.b: Any says nothing about what comes back; write the type",
    ]
    assert refusal(commands=wrong).startswith("aggregate 'stock': its commands cannot be stored:\n  Wrong.a")


def test_a_state_that_cannot_be_stored_matters_only_with_snapshots() -> None:
    def watch(state: Sequence[int], event: Added) -> Sequence[int]:
        return state

    assert AggregateCodecs.of(dataclasses.replace(stock, evolve=watch, initial=())).state is None
    told = refusal(evolve=watch, initial=(), snapshot=Snapshot(every=10))
    assert told.splitlines()[0] == "aggregate 'stock': its state cannot be stored:"
    assert "Sequence[int] would not come back" in told


def test_an_initial_state_that_does_not_come_back_from_a_snapshot_is_refused() -> None:
    def watch(state: Ratio, event: Added) -> Ratio:
        return state

    told = refusal(evolve=watch, initial=Ratio(float("nan")), snapshot=Snapshot(every=10))
    assert told == (
        "aggregate 'stock': initial=Ratio(value=nan) does not come back from a snapshot: value: nan came back as None"
    )
    assert "a value of type Add is not of type Ratio" in refusal(
        evolve=watch, initial=Add(1), snapshot=Snapshot(every=10)
    )


class Unhinted:
    """A function without type hints, or with some that cannot be resolved."""

    def __init__(self, **hints: str) -> None:
        self.__annotations__ = hints

    def __call__(self, state: Any, event: Any) -> Any:
        return state


@pytest.mark.parametrize(
    "evolving",
    [Unhinted(), Unhinted(**{"return": "Nowhere"}), Filled.evolve, functools.partial(evolve)],
    ids=["untyped", "unresolved", "Self", "partial"],
)
def test_the_state_is_of_the_class_of_initial_where_evolve_does_not_say(evolving: Any) -> None:
    codecs = AggregateCodecs.of(
        dataclasses.replace(stock, initial=Filled(0), evolve=evolving, snapshot=Snapshot(every=1))
    )
    assert codecs.state is not None
    assert codecs.state.encode(Filled(1)) == b'{"total":1}'


def test_a_codec_of_the_user_is_used_as_it_is() -> None:
    codec = JsonCodec(Added | Removed, aliases={"PutIn": Added})
    assert AggregateCodecs.of(dataclasses.replace(stock, codec=codec)).events is codec


def test_a_codec_of_the_user_has_to_name_every_event() -> None:
    assert refusal(codec=JsonCodec(Added)) == (
        "aggregate 'stock': its codec has no name for Removed; make it for all classes of events="
    )


def test_a_class_where_a_codec_is_due_is_refused_with_what_to_give() -> None:
    assert refusal(codec=JsonCodec) == (
        "aggregate 'stock': codec=JsonCodec is a class; give a value of it, such as codec=JsonCodec(Event)"
    )


def test_all_aggregates_of_an_app_are_checked() -> None:
    other = dataclasses.replace(stock, name="other")
    assert list(check_aggregates([stock, other])) == ["stock", "other"]
    assert check_aggregates([]) == {}


def test_two_aggregates_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=re.escape("two aggregates are named 'stock'")):
        check_aggregates([stock, dataclasses.replace(stock, initial=Filled(1))])


def test_a_codec_of_commands_is_used_as_it_is() -> None:
    codec = JsonCodec(Add, aliases={"PutIn": Add})
    assert AggregateCodecs.of(dataclasses.replace(stock, command_codec=codec)).commands is codec


def test_a_codec_of_commands_has_just_those_that_the_aggregate_takes() -> None:
    assert refusal(command_codec=JsonCodec(Added)) == (
        "aggregate 'stock': its command_codec has no name for Add; make it for all classes of commands="
    )
    assert refusal(command_codec=JsonCodec(Add | Added)) == (
        "aggregate 'stock': its command_codec has Added, and commands= does not; make it for the same classes"
    )


def test_a_codec_of_commands_is_one_for_json() -> None:
    assert refusal(command_codec=JsonCodec) == (
        "aggregate 'stock': command_codec=JsonCodec must be a JsonCodec; write command_codec=JsonCodec(Command, "
        "aliases=...)"
    )
