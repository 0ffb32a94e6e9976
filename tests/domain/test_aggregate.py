"""An aggregate as a value, and its snapshot policy."""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from types import MethodType
from typing import Any

import pytest

from rehydrate.domain.aggregate import Aggregate, Snapshot
from rehydrate.errors import ConfigurationError


def decide(state: int, command: str) -> list[int]:
    return [len(command)]


def evolve(state: int, event: int) -> int:
    return state + event


counter = Aggregate(name="counter", initial=0, decide=decide, evolve=evolve, commands=str, events=int)


def test_a_stream_is_named_after_the_aggregate_and_the_id() -> None:
    assert counter.stream("ada-1") == "counter-ada-1"


def test_an_aggregate_cannot_be_changed_and_is_equal_to_itself_only() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        counter.name = "other"  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]
    assert counter != dataclasses.replace(counter)


@pytest.mark.parametrize("name", ["bank_account", "_", "Bank.Account2", "a" * 128])
def test_a_name_may_have_letters_digits_underscores_and_dots(name: str) -> None:
    assert dataclasses.replace(counter, name=name).name == name


@pytest.mark.parametrize(
    "name", ["", "bank-account", "2bank", ".bank", "konto é", "bank account", "a" * 129, "a\n"]
)
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be named"):
        dataclasses.replace(counter, name=name)


def test_names_that_begin_with_rehydrate_are_for_rehydrate() -> None:
    with pytest.raises(ConfigurationError, match="Rehydrate's own"):
        dataclasses.replace(counter, name="rehydrate.timers")


@pytest.mark.parametrize("seconds", [0, -1, math.nan, -math.inf])
def test_passivation_comes_after_more_than_no_time(seconds: float) -> None:
    with pytest.raises(ConfigurationError, match="passivate_after="):
        dataclasses.replace(counter, passivate_after=seconds)


@pytest.mark.parametrize("seconds", [0.001, 300, math.inf])
def test_passivation_may_come_soon_or_never(seconds: float) -> None:
    assert dataclasses.replace(counter, passivate_after=seconds).passivate_after == seconds


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, "it must be seconds, as a number; math.inf is never"),
        ("5", "it must be seconds, as a number"),
        (timedelta(minutes=5), "it must be seconds, as a number; write 300"),
    ],
)
def test_passivation_after_what_is_no_number_says_what_to_write(given: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(told)):
        dataclasses.replace(counter, passivate_after=given)


@pytest.mark.parametrize("name", [None, 7, b"counter"])
def test_a_name_that_is_no_text_is_refused(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="an aggregate cannot be named"):
        dataclasses.replace(counter, name=name)


async def later(state: int, event: int) -> int:
    return state + event


async def one_by_one(state: int, command: str) -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("function", [None, "decide", later, one_by_one])
def test_decide_and_evolve_are_plain_functions(function: Any) -> None:
    with pytest.raises(ConfigurationError, match="must be a plain function"):
        dataclasses.replace(counter, decide=function)
    with pytest.raises(ConfigurationError, match="must be a plain function"):
        dataclasses.replace(counter, evolve=function)


class Rules:
    def decide(self, state: int, command: str) -> list[int]:
        return [self.add(state, len(command))]

    @staticmethod
    def add(state: int, event: int = 1, *more: int, doubled: bool = False) -> int:
        return state + event

    def __call__(self, *given: int) -> int:
        return sum(given)


def no_state(command: str) -> list[int]:
    return [1]


def injected(state: int, event: int, *, clock: int) -> int:
    return state + event + clock


@functools.wraps(injected)
def wrapped(*given: int) -> int:
    return injected(*given, clock=1)


@pytest.mark.parametrize(
    ("functions", "told"),
    [
        ({"decide": no_state}, r"decide is called with \(state, command\), and takes \(command\)"),
        ({"decide": Rules.decide}, r"and takes \(self, state, command\)"),
        (
            {"evolve": injected},
            r"evolve is called with \(state, event\), and takes \(state, event, \*, clock\)",
        ),
        ({"evolve": lambda: 0}, r"and takes \(\)"),
    ],
)
def test_a_function_that_cannot_be_called_with_what_it_gets_is_refused(
    functions: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"aggregate 'counter': .*{told}"):
        dataclasses.replace(counter, **functions)


@pytest.mark.parametrize(
    "function",
    [Rules().decide, Rules.add, Rules(), wrapped, functools.partial(injected, clock=2), max, operator.mul],
)
def test_whatever_can_be_called_with_what_it_gets_is_taken(function: Any) -> None:
    assert dataclasses.replace(counter, evolve=function).evolve is function or isinstance(
        function, MethodType
    )


@pytest.mark.parametrize("field", ["every", "keep", "schema"])
def test_a_snapshot_policy_counts_from_one(field: str) -> None:
    settings: dict[str, Any] = {"every": 1, "keep": 1, "schema": 1}
    assert Snapshot(**settings) == Snapshot(every=1)
    with pytest.raises(ConfigurationError, match=f"Snapshot\\({field}=0\\): it must be at least 1"):
        Snapshot(**settings | {field: 0})
    wrongs: tuple[Any, ...] = (None, "1", 1.5)
    for wrong in wrongs:
        with pytest.raises(ConfigurationError, match="it must be at least 1, and an int"):
            Snapshot(**settings | {field: wrong})


def test_type_parameters_may_be_written_out() -> None:
    written = Aggregate[int, str, int](
        name="counter", initial=0, decide=decide, evolve=evolve, commands=str, events=int
    )
    assert written.name == "counter"
