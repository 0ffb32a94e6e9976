"""States: any type, several classes, and the fingerprint of their shape."""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional

import pytest

from rehydrate.codec import JsonValueCodec
from rehydrate.errors import ConfigurationError


@dataclass(frozen=True)
class Left:
    side: int


@dataclass(frozen=True)
class Right:
    side: int


@dataclass(frozen=True)
class Other:
    pass


class Position(NamedTuple):
    x: int


class Suit(enum.Enum):
    HEARTS = "h"


class MoreSuits(enum.Enum):
    HEARTS = "h"
    SPADES = "s"


def shaped(annotation: Any) -> str:
    return JsonValueCodec(
        dataclasses.make_dataclass("State", [("field", annotation)], frozen=True)
    ).fingerprint


def test_a_fingerprint_tells_shapes_apart() -> None:
    inner = dataclasses.make_dataclass("Inner", [("a", int)], frozen=True)
    other = dataclasses.make_dataclass("Inner", [("a", str)], frozen=True)
    shapes = [
        int,
        str,
        int | None,
        list[int],
        tuple[int, ...],
        tuple[int],
        inner,
        other,
        Suit,
        MoreSuits,
        Literal["h"],
    ]
    assert len({shaped(shape) for shape in shapes}) == len(shapes)
    renamed = dataclasses.make_dataclass("State", [("renamed", int)], frozen=True)
    assert JsonValueCodec(renamed).fingerprint != shaped(int)


def test_a_fingerprint_does_not_tell_remarks_apart() -> None:
    assert shaped(Annotated[int, "a remark"]) == shaped(int) == shaped(NewType("Id", int))
    assert shaped(int | None) == shaped(Optional[int]) == shaped(None | int)  # noqa: UP045


def test_a_state_may_be_any_value() -> None:
    for annotation, state in [
        (int, 3),
        (dict[int, tuple[str, ...]], {1: ("a",)}),
        (Left | None, None),
        (Position, Position(1)),
    ]:
        codec = JsonValueCodec(annotation)
        assert codec.decode(codec.encode(state)) == state


def test_a_state_may_be_one_of_several_classes() -> None:
    codec = JsonValueCodec(Left | Right | None)
    assert codec.encode(Right(1)) == b'["Right",{"side":1}]'
    for state in (Left(1), Right(1), None):
        assert codec.decode(codec.encode(state)) == state
    assert codec.fingerprint != JsonValueCodec(Left | Right).fingerprint


def test_a_state_of_another_class_is_not_encoded() -> None:
    with pytest.raises(TypeError, match="a value of type Right is not of type Left"):
        JsonValueCodec(Left).encode(Right(1))
    with pytest.raises(TypeError, match="a value of type Other is none of Left, Right"):
        JsonValueCodec(Left | Right).encode(Other())


def test_a_state_that_would_not_come_back_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=re.escape("the state: Sequence[int] would not come back")):
        JsonValueCodec(Sequence[int])
    with pytest.raises(ConfigurationError, match=re.escape("Happened.field: complex")):
        JsonValueCodec(dataclasses.make_dataclass("Happened", [("field", complex)], frozen=True) | Left)


def test_whether_a_state_may_hold_a_float() -> None:
    may: list[Any] = [float, int | float, dict[str, tuple[float, ...]], NewType("Share", float)]
    for annotation in may:
        held: Any = dataclasses.make_dataclass("Held", [("field", annotation)], frozen=True)
        assert JsonValueCodec(held | Left).holds_floats
        assert JsonValueCodec(tuple[held | None, ...]).holds_floats
    may_not: list[Any] = [int, Left | Right, str | None, Suit]
    for annotation in may_not:
        assert not JsonValueCodec(annotation).holds_floats
