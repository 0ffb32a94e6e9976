"""Types that the codec takes, drawn at random with values of them, and what it means to come back."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import types
import typing
import uuid
import zoneinfo
from typing import Any, Literal, NamedTuple, TypedDict, cast

import attrs
import msgspec
import pydantic
from hypothesis import strategies as st


class Color(enum.Enum):
    RED = "red"
    BLUE = 'b"l\\ue'


class Size(enum.IntEnum):
    SMALL = -1
    LARGE = 2**62


class Rank(enum.Enum):
    FIRST = 1
    LAST = 2


class Unit(enum.StrEnum):
    METRE = "m"
    NONE = ""


class Access(enum.Flag):
    READ = 1
    WRITE = 2
    RUN = 4


class Money(msgspec.Struct, frozen=True):
    cents: int
    currency: str = "EUR"


class Circle(msgspec.Struct, frozen=True, tag=True):
    radius: float


class Square(msgspec.Struct, frozen=True, tag=True):
    side: float


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    name: str
    at: tuple[float, float] | None = None


@attrs.frozen
class Weight:
    grams: decimal.Decimal
    unit: Unit = Unit.NONE


class Point(NamedTuple):
    x: int
    y: tuple[int, ...] = ()


class Options(TypedDict, total=False):
    depth: typing.Required[int]
    label: str


class Person(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)

    name: str
    born: dt.date | None = None
    tags: frozenset[str] = frozenset()


class Case(NamedTuple):
    """A type and values of it; what a set and the key of a dict can hold is marked."""

    annotation: Any
    values: st.SearchStrategy[Any]
    is_hashable: bool = True
    is_key: bool = False


_ZONES = [
    zoneinfo.ZoneInfo(key)
    for key in ("Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe")
]
_offsets = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(
    lambda minutes: dt.timezone(dt.timedelta(minutes=minutes))
)
_aware = st.datetimes(timezones=_offsets) | st.datetimes(
    # Zones had offsets with seconds before, which is a test of its own.
    min_value=dt.datetime.fromisoformat("1972-01-08"),
    timezones=st.sampled_from(_ZONES),
    allow_imaginary=False,
)
_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_finite = st.floats(allow_nan=False, allow_infinity=False)
_numbers = st.decimals(allow_nan=False)

SCALARS = [
    Case(bool, st.booleans()),
    Case(int, st.integers() | st.integers(-(2**70), 2**70), is_key=True),
    Case(float, _finite, is_key=True),
    Case(str, _text, is_key=True),
    Case(bytes, st.binary(max_size=8), is_key=True),
    Case(bytearray, st.binary(max_size=8).map(bytearray), is_hashable=False),
    Case(decimal.Decimal, _numbers, is_key=True),
    Case(uuid.UUID, st.uuids(), is_key=True),
    Case(dt.datetime, st.datetimes() | _aware, is_key=True),
    Case(dt.date, st.dates(), is_key=True),
    Case(dt.time, st.times() | st.times(timezones=_offsets), is_key=True),
    Case(dt.timedelta, st.timedeltas(), is_key=True),
    Case(Color, st.sampled_from(Color), is_key=True),
    Case(Size, st.sampled_from(Size), is_key=True),
    Case(Rank, st.sampled_from(Rank), is_key=True),
    Case(Unit, st.sampled_from(Unit), is_key=True),
    Case(Access, st.sampled_from([Access(bits) for bits in range(8)]), is_key=True),
    Case(Literal["a", "b"], st.sampled_from("ab"), is_key=True),
    Case(Literal[1, 2], st.sampled_from([1, 2]), is_key=True),
    Case(Literal[True, "x", 3] | None, st.sampled_from([True, "x", 3, None])),
    Case(int | float, st.integers() | _finite),
    Case(int | decimal.Decimal, st.integers() | _numbers),
    Case(str | int | bool | None, _text | st.integers() | st.booleans() | st.none()),
    Case(int | dt.timedelta, st.integers() | st.timedeltas()),
    Case(types.NoneType, st.none()),
]
CLASSES = [
    Case(Money, st.builds(Money, st.integers(), _text)),
    Case(Circle | Square, st.builds(Circle, _finite) | st.builds(Square, _finite)),
    Case(Place, st.builds(Place, _text, st.none() | st.tuples(_finite, _finite))),
    Case(Weight, st.builds(Weight, _numbers, st.sampled_from(Unit))),
    Case(Point, st.builds(Point, st.integers(), st.lists(st.integers(), max_size=2).map(tuple))),
    Case(
        Options,
        st.fixed_dictionaries({"depth": st.integers()}, optional={"label": _text}),
        is_hashable=False,
    ),
    Case(
        Person,
        st.builds(Person, name=_text, born=st.none() | st.dates(), tags=st.frozensets(_text, max_size=3)),
    ),
]
FINITE = Case(decimal.Decimal, st.decimals(allow_nan=False, allow_infinity=False), is_key=True)
_NOT_IN_PYDANTIC = {bytes, bytearray, Access, decimal.Decimal, int | decimal.Decimal}
_NO_KEY_IN_PYDANTIC = {Literal[1, 2], Rank}
IN_PYDANTIC = [
    case._replace(is_key=case.is_key and case.annotation not in _NO_KEY_IN_PYDANTIC)
    for case in [*SCALARS, FINITE]
    if case is FINITE or case.annotation not in _NOT_IN_PYDANTIC
]


def cases(simple: list[Case]) -> st.SearchStrategy[Case]:
    """A type out of simple ones, collections of them and collections of those."""
    return st.recursive(
        st.sampled_from(simple), lambda inner: inner.flatmap(lambda case: _around(case, simple)), max_leaves=3
    )


def _around(case: Case, simple: list[Case]) -> st.SearchStrategy[Case]:
    values, hashable = case.values, case.is_hashable
    lists = st.lists(values, max_size=3)
    around = [
        Case(types.GenericAlias(tuple, (case.annotation, ...)), lists.map(tuple), hashable),
        Case(types.GenericAlias(tuple, (case.annotation, int)), st.tuples(values, st.integers()), hashable),
        Case(types.GenericAlias(list, case.annotation), lists, False),
        Case(typing.Union[case.annotation, None], st.none() | values, hashable),  # noqa: UP007 - None has no `|`
        Case(typing.Annotated[case.annotation, "a remark"], values, hashable),
    ]
    around += [
        Case(
            types.GenericAlias(dict, (key.annotation, case.annotation)),
            st.dictionaries(key.values, values),
            False,
        )
        for key in simple
        if key.is_key
    ]
    if hashable:
        around.append(Case(types.GenericAlias(frozenset, case.annotation), lists.map(frozenset)))
        around.append(Case(types.GenericAlias(set, case.annotation), lists.map(set), False))
    return st.sampled_from(around)


def fields_of(simple: list[Case]) -> st.SearchStrategy[tuple[Case, ...]]:
    return st.lists(cases(simple), max_size=3).map(tuple)


def as_dataclass(fields: tuple[Case, ...]) -> type:
    pairs = [(f"field_{index}", case.annotation) for index, case in enumerate(fields)]
    return dataclasses.make_dataclass("Happened", pairs, frozen=True)


def as_struct(fields: tuple[Case, ...]) -> type:
    return msgspec.defstruct(
        "Happened", [(f"field_{index}", case.annotation) for index, case in enumerate(fields)], frozen=True
    )


def as_attrs(fields: tuple[Case, ...]) -> type:
    made = {f"field_{index}": attrs.field(type=case.annotation) for index, case in enumerate(fields)}
    return attrs.make_class("Happened", made, frozen=True)


def as_pydantic(fields: tuple[Case, ...]) -> type:
    made: dict[str, Any] = {f"field_{index}": (case.annotation, ...) for index, case in enumerate(fields)}
    model: type = pydantic.create_model("Happened", __config__=pydantic.ConfigDict(frozen=True), **made)
    return model


def came_back(before: Any, after: Any) -> bool:
    """Whether a value is what it was: equal, and of the same type down to its last part."""
    if type(before) is not type(after):
        return False
    if isinstance(before, dt.datetime):
        same_wall = before.replace(tzinfo=None) == after.replace(tzinfo=None)
        return bool(same_wall and before.utcoffset() == after.utcoffset())
    if (parts := parts_of(before)) is not None:
        parts_after = parts_of(after) or []
        return len(parts) == len(parts_after) and all(map(came_back, parts, parts_after))
    if isinstance(before, float | decimal.Decimal):
        return str(before) == str(after)
    equal: bool = before == after
    return equal


def parts_of(value: Any) -> list[Any] | None:
    """What a value is made of, written out again here so as not to test the codec with itself."""
    if isinstance(value, dict):
        return sorted(cast("Any", value).items(), key=_order)
    if isinstance(value, set | frozenset):
        return sorted(cast("Any", value), key=_order)
    if isinstance(value, tuple | list):
        return list(cast("Any", value))
    if isinstance(value, msgspec.Struct):
        return [getattr(value, name) for name in value.__struct_fields__]
    if isinstance(value, pydantic.BaseModel):
        return [part for _, part in value]
    if dataclasses.is_dataclass(value):
        return [getattr(value, field.name) for field in dataclasses.fields(value)]
    if hasattr(value, "__attrs_attrs__"):
        return [getattr(value, field.name) for field in value.__attrs_attrs__]
    return None


def _order(value: Any) -> str:
    """A text by which equal values stand at the same place, whatever their time zone is called."""
    if isinstance(value, dt.datetime):
        return f"{value.replace(tzinfo=None, fold=0)} {value.utcoffset()}"
    if isinstance(value, dt.time):
        return value.isoformat()
    if (parts := parts_of(value)) is not None:
        return repr([_order(part) for part in parts])
    return repr(value)
