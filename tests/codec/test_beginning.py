"""What aggregates and views begin with: whether it can be changed in place, and whether it was."""

from __future__ import annotations

import enum
import functools
import threading
from collections import defaultdict, deque
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


class Valued:
    def __init__(self) -> None:
        self.number = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Valued) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    @functools.cached_property
    def double(self) -> int:
        return 2 * self.number


@dataclass(frozen=True, eq=False)
class Itself:
    items: list[int] = field(default_factory=list[int])


class Remembering(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    items: list[int] = []
    _total: int | None = pydantic.PrivateAttr(None)

    def total(self) -> int:
        if self._total is None:
            self._total = sum(self.items)
        return self._total


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
        Plain(),
        Itself(),
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
    (Valued(), _number),
    (Remembering(), lambda held: held.items.append(1)),
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


MARK = Plain()


@pytest.mark.parametrize("held", [[MARK], {"key": MARK}, {MARK: 0}, (MARK, []), [Holder(MARK)], [Itself()]])
def test_an_object_that_is_equal_to_itself_alone_is_the_same_in_all_copies(held: Any) -> None:
    beginning = Beginning("it", initial := Holder(held))
    begun = beginning.new()
    assert begun is not initial
    assert begun == initial == beginning.copy()
    assert not beginning.is_changed()


def test_only_what_can_be_changed_is_copied() -> None:
    idle, items, text = Holder("idle"), [1], (Holder(1), "text")
    begun = Beginning("it", Holder({"phase": idle, "items": items, "text": text})).new().one
    assert begun["phase"] is idle
    assert begun["text"] is text
    assert begun["items"] is not items


class Linked:
    """Equal by its number, whatever it refers to."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.other: Any = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Linked) and self.number == other.number

    __hash__ = None  # type: ignore[assignment]


def test_what_is_frozen_is_copied_where_it_refers_back_to_what_can_be_changed() -> None:
    linked = Linked(1)
    linked.other = Holder(linked)
    begun = Beginning("it", Holder(linked)).new().one
    assert begun is not linked
    assert begun.other.one is begun


class Uncompared:
    """As an array of numpy is: what it is compared to says nothing about all of it."""

    def __init__(self) -> None:
        self.numbers = [1, 2]

    def __eq__(self, other: object) -> bool:
        raise ValueError("the truth value is ambiguous")

    __hash__ = None  # type: ignore[assignment]


class Random:
    def __init__(self) -> None:
        self.number = 0

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("held", [Uncompared(), Random(), [Random()]])
def test_what_is_not_equal_to_its_copy_is_taken_on_trust(held: Any) -> None:
    beginning = Beginning("it", initial := Holder(held))
    assert beginning.new() is initial
    assert beginning.copy() is initial
    assert not beginning.is_changed()


class Lazy:
    @property
    def __class__(self) -> Any:
        raise RuntimeError("outside of a context")

    @__class__.setter
    def __class__(self, value: Any) -> None: ...

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = None  # type: ignore[assignment]


def test_what_cannot_be_looked_at_is_taken_on_trust() -> None:
    deep: Any = []
    for _ in range(2_000):
        deep = Holder(deep)
    for initial in (Holder(Lazy(), []), Holder([Lazy()]), deep):
        beginning = Beginning("it", initial)
        assert beginning.new() is initial
        assert not beginning.is_changed()


def test_what_is_remembered_when_it_is_read_is_no_change() -> None:
    model, valued, deep = Remembering(items=[1]), Valued(), [{"a": (Remembering(items=[2]), Valued())}]
    beginning = Beginning("it", Holder(model, [valued, *deep]))
    begun = beginning.new()
    assert begun.one.total() == 1
    assert begun.other[0].double == 0
    assert begun.other[1]["a"][0].total() == 2
    assert begun.other[1]["a"][1].double == 0
    assert not beginning.is_changed(begun)
    begun.other[1]["a"][1].number = 3
    assert beginning.is_changed(begun)


def test_what_a_defaultdict_adds_when_it_is_read_is_a_change() -> None:
    beginning = Beginning("it", Holder(defaultdict[str, int](int)))
    assert beginning.new().one["a"] == 0
    assert beginning.is_changed()


def test_a_number_that_is_not_equal_to_itself_is_no_change() -> None:
    beginning = Beginning("it", Holder([float("nan")], {"a": [float("nan")]}))
    assert beginning.new() is not beginning.new()
    assert not beginning.is_changed()


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
    assert begun.items[1] is begun.items
