"""What aggregates and views begin with: whether it can be changed in place, and whether it was."""

from __future__ import annotations

import enum
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import attrs
import msgspec
import pydantic
import pytest

from rehydrate.codec.beginning import Beginning


@dataclass(frozen=True)
class Cart:
    items: list[int] = field(default_factory=list[int])


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Loose:
    number: int = 0


class LooseStruct(msgspec.Struct):
    number: int = 0


@attrs.define
class LooseAttrs:
    number: int = 0


class LooseModel(pydantic.BaseModel):
    number: int = 0


class Plain:
    def __init__(self) -> None:
        self.number = 0


NOT_GIVEN = object()


@dataclass(frozen=True)
class Holder:
    one: Any
    other: Any = NOT_GIVEN


@pytest.mark.parametrize(
    "held",
    [
        None,
        1,
        "text",
        b"bytes",
        (1, (2, "three")),
        frozenset({1}),
        Colour.RED,
        int,
        len,
        NOT_GIVEN,
        Holder(Holder(1)),
        MappingProxyType({1: 2}),
        threading.Lock(),
    ],
)
def test_what_nobody_can_change_is_handed_out_as_it_is(held: Any) -> None:
    initial = Holder(held)
    assert Beginning("it", initial).new() is initial
    assert Beginning("it", initial).copy() is initial


def _number(held: Any) -> None:
    held.number = 1


CHANGES: list[tuple[Any, Callable[[Any], object]]] = [
    ([], lambda held: held.append(1)),
    ({}, lambda held: held.update({1: 2})),
    (set[int](), lambda held: held.add(1)),
    (bytearray(), lambda held: held.extend(b"x")),
    (deque[int](), lambda held: held.append(1)),
    ((1, Cart()), lambda held: held[1].items.append(1)),
    (Holder([[]]), lambda held: held.one[0].append(1)),
    (Loose(), _number),
    (LooseStruct(), _number),
    (LooseAttrs(), _number),
    (LooseModel(), _number),
]


@pytest.mark.parametrize(("held", "change"), CHANGES)
def test_what_can_be_changed_is_each_ones_own_and_is_found_changed(held: Any, change: Any) -> None:
    beginning = Beginning("it", Holder(held))
    first, second = beginning.new(), beginning.new()
    assert first == second == Holder(held)
    assert not beginning.is_changed()
    change(first.one)
    assert not beginning.is_changed(), "it is compared with the last one, and with the one that is named"
    assert beginning.is_changed(first)
    assert beginning.is_changed(), "once is enough"
    assert beginning.new() == Holder(held) == beginning.copy()

    change((another := Beginning("it", Holder(held))).new().one)
    assert another.is_changed()


def test_what_was_declared_may_be_changed_later() -> None:
    initial = Cart()
    beginning = Beginning("it", initial)
    initial.items.append(1)
    assert beginning.new() == Cart()
    assert not beginning.is_changed()


def test_an_object_that_stands_for_something_is_the_same_in_all_copies() -> None:
    lock = threading.Lock()
    begun = Beginning("it", Holder([lock, Colour.RED])).new()
    assert begun.other is NOT_GIVEN
    assert begun.one[0] is lock


def test_what_cannot_be_compared_is_copied_and_taken_on_trust() -> None:
    beginning = Beginning("it", Holder(Plain()))
    beginning.new().one.number = 1
    assert not beginning.is_changed()
    assert beginning.new().one.number == 0


class Uncopied(list[int]):
    def __deepcopy__(self, memo: object) -> Uncopied:
        raise RuntimeError("there is one of me")


def test_what_cannot_be_copied_is_taken_on_trust() -> None:
    initial = Holder(Uncopied())
    assert Beginning("it", initial).new() is initial


def test_a_value_that_holds_itself() -> None:
    initial = Cart([1])
    initial.items.append(initial.items)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    begun: Any = Beginning("it", initial).new()
    assert begun.items is not initial.items
    assert begun.items[1] is begun.items
