"""What a look at the fields says of a value is what reading it back would show."""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehydrate.codec import JsonCodec


@dataclass(frozen=True, slots=True)
class Paid:
    amount: int
    note: str
    urgent: bool = False
    by: str | None = None


class PaidStruct(msgspec.Struct, frozen=True, rename="camel"):
    paid_amount: int
    paid_note: str | None = None


@dataclass(frozen=True)
class Empty:
    kind: ClassVar[str] = "empty"


@dataclass(frozen=True)
class Derived(Paid):
    more: int = 0


@pytest.mark.parametrize(
    "value", [Paid(1, "x"), Paid(2**80, "", by="ada"), PaidStruct(3), Empty(), Derived(1, "x", more=2)]
)
def test_simple_values_are_told_by_a_look(value: Any) -> None:
    cls: Any = value.__class__
    codec = JsonCodec(cls)
    assert codec.exact[cls](value)
    assert codec.decoders[cls.__name__](codec.encode(value)) == value


class Text(str):
    __slots__ = ()


_anything: Any = st.one_of(
    st.integers(),
    st.text(),
    st.booleans(),
    st.none(),
    st.floats(),
    st.text().map(Text),
    st.lists(st.integers(), max_size=2),
)


@given(_anything, _anything, _anything, _anything)
def test_what_a_look_lets_through_comes_back_in_class_and_value(
    amount: Any, note: Any, urgent: Any, by: Any
) -> None:
    value = Paid(amount, note, urgent, by)
    codec = JsonCodec(Paid)
    if codec.exact[Paid](value):
        back = codec.decoders["Paid"](codec.encode(value))
        for name in ("amount", "note", "urgent", "by"):
            before, after = getattr(value, name), getattr(back, name)
            assert (type(after), after) == (type(before), before)


@dataclass(frozen=True)
class Rounded:
    amount: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "amount", self.amount // 10 * 10)


@dataclass(frozen=True, init=False)
class OwnInit:
    amount: int

    def __init__(self, amount: int) -> None:
        object.__setattr__(self, "amount", amount + 1)


@dataclass(frozen=True)
class Constrained:
    amount: Annotated[int, msgspec.Meta(ge=0)]


@dataclass(frozen=True)
class ConstrainedOrNone:
    amount: Annotated[int, msgspec.Meta(ge=0)] | None


@dataclass(frozen=True)
class Measured:
    metres: float


@dataclass(frozen=True)
class Listed:
    parts: tuple[int, ...] = ()


class PostInitStruct(msgspec.Struct, frozen=True):
    amount: int

    def __post_init__(self) -> None:
        if self.amount < 0:
            raise ValueError("below 0")


@dataclass(frozen=True)
class Large:
    a: int = 0
    b: int = 0
    c: int = 0
    d: int = 0
    e: int = 0
    f: int = 0
    g: int = 0
    h: int = 0
    i: int = field(default=0)


@pytest.mark.parametrize(
    "cls", [Rounded, OwnInit, Constrained, ConstrainedOrNone, Measured, Listed, PostInitStruct, Large]
)
def test_whatever_may_not_come_back_is_read_back(cls: type) -> None:
    assert cls not in JsonCodec(cls).exact
