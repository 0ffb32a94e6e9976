"""Types that would not come back are refused when a codec is made, each with a sentence that says what to use instead."""

# ruff: noqa: UP006, UP007, UP045 - also as older code writes it
from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import ipaddress
import pathlib
import re
import types
import typing
import zoneinfo
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping, MutableSequence, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, NewType, Optional, TypeVar, Union

import msgspec
import pydantic
import pytest

from rehydrate.codec import JsonCodec
from rehydrate.errors import ConfigurationError
from tests.codec import unresolved

T = TypeVar("T")


@dataclass(frozen=True)
class Left:
    side: int


@dataclass(frozen=True)
class Right:
    side: int


@dataclass(frozen=True)
class Box(Generic[T]):
    content: T


class Mixed(enum.Enum):
    TEXT = "a"
    NUMBER = 1


class Fractional(enum.Enum):
    HALF = 0.5


class Empty(enum.Enum):
    pass


class Huge(enum.IntEnum):
    BIG = 2**64


class Name(str):
    __slots__ = ()


class Amount(decimal.Decimal):
    pass


class Plain:
    pass


class Recursive:
    """What `type Json = dict[str, Json]` is."""

    @property
    def __value__(self) -> Any:
        return types.GenericAlias(dict, (str, self))

    def __repr__(self) -> str:
        return "Json"


class Tagged(msgspec.Struct, frozen=True, tag="same"):
    pass


class AlsoTagged(msgspec.Struct, frozen=True, tag="same"):
    pass


def refusal(annotation: Any) -> str:
    """What is said about an event with one field of this type."""
    with pytest.raises(ConfigurationError) as refused:
        JsonCodec(dataclasses.make_dataclass("Happened", [("field", annotation)], frozen=True))
    return str(refused.value)


@pytest.mark.parametrize(
    ("annotation", "told"),
    [
        (Any, "Happened.field: Any says nothing about what comes back; write the type"),
        (object, "Happened.field: object says nothing about what comes back; write the type"),
        (dict[str, Any], "Happened.field: Any says nothing"),
        (tuple[object, ...] | None, "Happened.field: object says nothing"),
        (Optional[Any], "Happened.field: Any says nothing"),
        (complex, "complex would not come back as it was; use two floats"),
        (
            Callable[[int], int],
            "Callable[[int], int] would not come back as it was; use a str or an enum that names",
        ),
        (typing.Callable[..., int], "use a str or an enum that names what to call"),
        (Plain, "Plain would not come back as it was; use a frozen dataclass"),
        (list[Plain], "Happened.field: Plain would not come back"),
        (pathlib.Path, "Path would not come back as it was; use str"),
        (re.Pattern, "Pattern would not come back as it was; use str"),
        (re.Pattern[str], "Pattern[str] would not come back as it was; use str"),
        (type[int], "type[int] would not come back as it was; use str"),
        (ipaddress.IPv4Address, "use str"),
        (pydantic.HttpUrl, "HttpUrl would not come back as it was; use str"),
        (zoneinfo.ZoneInfo, "use str, its key"),
        (fractions.Fraction, "use two ints"),
        (memoryview, "use bytes"),
        (range, "use two ints"),
        (Sequence[int], "Sequence[int] would not come back as it was; use tuple[..., ...] or list[...]"),
        (MutableSequence[int], "use list[...]"),
        (Mapping[str, int], "Mapping[str, int] would not come back as it was; use dict[..., ...]"),
        (MutableMapping[str, int], "use dict[..., ...]"),
        (AbstractSet[int], "use frozenset[...]"),
        (Collection[int], "use tuple[..., ...]"),
        (Iterable[int], "use tuple[..., ...]"),
        (collections.OrderedDict[str, int], "use dict[..., ...]"),
        (collections.defaultdict[str, int], "use dict[..., ...]"),
        (collections.Counter[str], "use dict[..., int]"),
        (collections.deque[int], "use tuple[..., ...] or list[...]"),
        (msgspec.Raw, "use bytes"),
        (int | msgspec.UnsetType, "use None"),
        (Name, "Name would not come back as it was; use NewType('Name', str)"),
        (Amount, "use NewType('Amount', Decimal)"),
        (list, "list does not say what it holds; use list[int]"),
        (dict, "dict does not say what it holds; use dict[str, int]"),
        (tuple, "tuple does not say what it holds; use tuple[int, ...]"),
        (frozenset, "frozenset does not say what it holds; use frozenset[int]"),
        (set[list[int]], "set[list[int]] cannot hold list[int]; use tuple[..., ...] in it"),
        (frozenset[set[int]], "cannot hold set[int]; use frozenset[...] in it"),
        (set[bytearray | int], "cannot hold bytearray; use bytes in it"),
        (
            dict[tuple[int, int], str],
            "tuple[int, int] cannot be a key of a JSON object; use a tuple of pairs",
        ),
        (dict[bool, str], "bool cannot be a key"),
        (dict[int | str, str], "int | str cannot be a key"),
        (dict[Left, str], "Left cannot be a key"),
        (dict[Literal[1, "a"], str], "cannot be a key"),
        (
            Left | Right,
            "Left | Right cannot be told apart in JSON; make each a msgspec.Struct with `tag=True`",
        ),
        (Union[Left, Right, None], "Left | Right | None cannot be told apart"),
        (list[Left | Right], "cannot be told apart"),
        (Tagged | AlsoTagged, "cannot be told apart"),
        (
            str | dt.datetime,
            "str | datetime cannot be told apart in JSON; use one of them, or a field for each",
        ),
        (bytes | str, "cannot be told apart"),
        (dt.date | dt.datetime, "cannot be told apart"),
        (decimal.Decimal | str, "cannot be told apart"),
        (list[int] | tuple[int, ...], "cannot be told apart"),
        (dict[str, int] | Left, "cannot be told apart"),
        (Mixed, "Mixed is an enum whose values are neither all str nor all int"),
        (Fractional, "Fractional is an enum whose values"),
        (Empty, "Empty is an enum whose values"),
        (Huge, "Huge cannot be decoded"),
        (Literal[b"a"], "holds more than str, int, bool and None; use the type of its values"),
        (Literal[Mixed.TEXT], "holds more than str, int, bool and None"),
        (T, "T is a type variable; write out the type"),
        (Box[int], "Box[int] is generic; declare a class for each type that you use it with"),
        (Box, "Box: it is generic"),
        ("Nothing", "name 'Nothing', which cannot be found"),
        (Recursive(), "Json refers to itself"),
    ],
)
def test_a_type_that_would_not_come_back_is_refused(annotation: Any, told: str) -> None:
    assert told in refusal(annotation)


def test_all_that_is_wrong_is_said_at_once() -> None:
    @dataclass(frozen=True)
    class First:
        a: complex
        b: int
        c: Any

    class Second(msgspec.Struct, frozen=True):
        d: Sequence[int]

    with pytest.raises(ConfigurationError) as refused:
        JsonCodec(First | Second)
    assert [line.partition(":")[0] for line in str(refused.value).splitlines()] == [
        "First.a",
        "First.c",
        "Second.d",
    ]


def test_a_field_of_a_nested_class_is_told_under_the_name_of_that_class() -> None:
    @dataclass(frozen=True)
    class Inner:
        value: complex

    assert refusal(tuple[Inner, ...]).startswith("Inner.value: complex")


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (unresolved.Imported, "the annotations of Imported name 'Decimal', which cannot be found in"),
        (unresolved.Misspelt, "the annotations of Misspelt name 'Amuont'"),
        (
            dataclasses.make_dataclass("Broken", [("amount", "int |")], frozen=True),
            "the annotations of Broken cannot be evaluated",
        ),
    ],
)
def test_annotations_that_cannot_be_resolved_are_refused(event: type, told: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(told)):
        JsonCodec(event)


@pytest.mark.parametrize(
    "annotation",
    [
        NewType("AccountId", int),
        Annotated[int, msgspec.Meta(ge=0)],
        Annotated[tuple[Annotated[str, "a remark"], ...], "another"],
        Left | None,
        int | float | None,
        typing.List[int],
        typing.Dict[str, typing.FrozenSet[int]],
        tuple[()],
        tuple[int, str],
        None,
    ],
    ids=repr,
)
def test_what_a_type_checker_reads_does_not_matter(annotation: Any) -> None:
    JsonCodec(dataclasses.make_dataclass("Happened", [("field", annotation)], frozen=True))


@dataclass(frozen=True)
class Node:
    children: tuple[Node, ...] = ()


def test_a_class_may_hold_others_of_its_class() -> None:
    codec = JsonCodec(Node)
    tree = Node((Node(), Node((Node(),))))
    assert codec.decoders["Node"](codec.encode(tree)) == tree
