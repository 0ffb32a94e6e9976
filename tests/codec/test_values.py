"""Values of accepted types that still would not come back are never stored as something else."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import sys
import zoneinfo
from dataclasses import dataclass, field
from typing import Any

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehydrate.codec import JsonCodec, difference
from rehydrate.codec.difference import why_not_stored


@dataclass(frozen=True)
class Part:
    size: float


@dataclass(frozen=True)
class Bigger(Part):
    weight: float = 1


@dataclass(frozen=True)
class Happened:
    number: float = 0
    maybe: float | None = None
    many: dict[str, float | None] = field(default_factory=dict[str, float | None])
    count: int = 0
    text: str = ""
    at: dt.datetime | None = None
    days: frozenset[dt.datetime] = frozenset()
    planned: dict[dt.datetime, int] = field(default_factory=dict[dt.datetime, int])
    rate: decimal.Decimal = decimal.Decimal(0)
    part: Part | None = None
    parts: tuple[Part, ...] = ()


codec = JsonCodec(Happened)


def told(event: Happened) -> str | None:
    """Why it is not stored, as the runtime finds out; `None` if it is."""
    try:
        back = codec.decoders["Happened"](codec.encode(event))
    except Exception as error:  # noqa: BLE001 - as the runtime does
        return type(error).__name__
    return None if back == event else difference(event, back)


NAN = float("nan")
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
REPEATED = dt.datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN)
MEAN_TIME = dt.datetime(1890, 1, 1, tzinfo=BERLIN)


def wrong(value: object) -> Any:
    """A value of another type than its field says."""
    return value


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (Happened(number=NAN), "ValidationError"),
        (Happened(number=math.inf), "ValidationError"),
        (Happened(maybe=NAN), "maybe: nan came back as None"),
        (Happened(maybe=-math.inf), "maybe: -inf came back as None"),
        (Happened(many={"a": 1, "b": NAN}), "many['b']: nan came back as None"),
        (Happened(number=2**53 + 1), "number: 9007199254740993 came back as 9007199254740992.0"),
        (Happened(text="\ud800"), "UnicodeEncodeError"),
        (Happened(count=10 ** (sys.get_int_max_str_digits() + 1)), "ValueError"),
        (Happened(count=True), "ValidationError"),
        (Happened(count=wrong(1.5)), "ValidationError"),
        (Happened(text=wrong(b"a")), "text: b'a' came back as 'YQ=='"),
        (Happened(parts=wrong([Part(1)])), "parts: [Part(size=1)] came back as (Part(size=1.0),)"),
        (Happened(part=Bigger(1)), "part: Bigger(size=1, weight=1) came back as Part(size=1.0)"),
        (
            Happened(parts=(Part(1), Bigger(2))),
            "parts[1]: Bigger(size=2, weight=1) came back as Part(size=2.0)",
        ),
        (Happened(rate=decimal.Decimal("sNaN")), "InvalidOperation"),
        (Happened(at=wrong(dt.date(2024, 1, 1))), "ValidationError"),
        (
            Happened(at=dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(seconds=90)))),
            "at: datetime.datetime(2024, 1, 1, 0, 0, tzinfo=datetime.timezone(datetime.timedelta(seconds=90))) came back",
        ),
        (Happened(at=MEAN_TIME), "at: datetime.datetime(1890, 1, 1, 0, 0, tzinfo=zoneinfo.ZoneInfo"),
    ],
)
def test_what_does_not_come_back_is_found(event: Happened, reason: str) -> None:
    try:
        found = told(event)
    except decimal.InvalidOperation:
        found = "InvalidOperation"
    assert found is not None
    assert found.startswith(reason)


@pytest.mark.parametrize(
    "event",
    [
        Happened(number=1),
        Happened(count=2**64),
        Happened(count=-(2**70)),
        Happened(text="\0\u2028😀"),
        Happened(rate=decimal.Decimal("NaN")),
        Happened(rate=decimal.Decimal("-Infinity")),
        Happened(at=REPEATED),
        Happened(at=REPEATED.replace(fold=1)),
        Happened(at=dt.datetime(2024, 1, 1, fold=1)),  # noqa: DTZ001 - it may be naive
        Happened(days=frozenset({REPEATED, REPEATED.replace(hour=5)})),
        Happened(planned={REPEATED.replace(fold=1): 1, REPEATED: 2}),
        Happened(parts=(Part(1), Part(2))),
    ],
)
def test_what_comes_back_is_stored(event: Happened) -> None:
    assert told(event) is None


def test_a_moment_in_the_hour_that_the_clocks_repeat_is_the_same_moment() -> None:
    event = Happened(at=REPEATED.replace(fold=1))
    back = codec.decoders["Happened"](codec.encode(event))
    assert back != event
    assert back.at.timestamp() == REPEATED.replace(fold=1).timestamp()
    assert back.at.utcoffset() == dt.timedelta(hours=1)


@given(st.floats(), st.floats() | st.none(), st.datetimes(timezones=st.timezones()))
def test_nothing_is_stored_silently_different(number: float, maybe: float | None, at: dt.datetime) -> None:
    event = Happened(number=number, maybe=maybe, at=at)
    if told(event) is None:
        back: Happened = codec.decoders["Happened"](codec.encode(event))
        assert (repr(back.number), repr(back.maybe)) == (repr(number), repr(maybe))
        assert back.at is not None
        assert back.at.utcoffset() == at.utcoffset()
        assert back.at.replace(tzinfo=None) == at.replace(tzinfo=None)
    else:
        assert not math.isfinite(number) or not math.isfinite(maybe or 0) or _has_seconds(at)


def _has_seconds(at: dt.datetime) -> bool:
    return bool((at.utcoffset() or dt.timedelta(0)) % dt.timedelta(minutes=1))


# ---------------------------------------------------------------------------------------------------------- difference


class Struct(msgspec.Struct, frozen=True):
    value: float


@attrs.frozen
class Attrs:
    value: float


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)

    value: float
    _secret: int = 0


@pytest.mark.parametrize("cls", [Struct, Attrs, Model, Part])
def test_a_difference_names_the_field_in_each_sort_of_class(cls: Any) -> None:
    name = "size" if cls is Part else "value"
    one, other = cls(**{name: 1.0}), cls(**{name: 2.0})
    assert difference(one, cls(**{name: 1.0})) is None
    assert difference(one, other) == f"{name}: 1.0 came back as 2.0"


def test_what_is_unequal_though_its_fields_are_equal_is_a_difference() -> None:
    one, other = Model(value=1), Model(value=1)
    other._secret = 1  # pyright: ignore[reportPrivateUsage]
    assert "all its fields came back, and yet" in (difference(one, other) or "")


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (1, 2, "1 came back as 2"),
        (1, "1", "1 came back as '1'"),
        ([1, 2], [1], "[1, 2] came back as [1]"),
        ([1, [2, 3]], [1, [2, 4]], "[1][1]: 3 came back as 4"),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, "['a']['b']: 1 came back as 2"),
        ({"a": 1}, {"b": 1}, "{'a': 1} came back as {'b': 1}"),
        ({1, 2}, {1, 3}, "{1, 2} came back as {1, 3}"),
        ((Struct(1), Struct(2)), (Struct(1), Struct(3)), "[1].value: 2 came back as 3"),
    ],
)
def test_a_difference_says_where_it_is(before: object, after: object, told: str) -> None:
    assert difference(before, after) == told


class ShareModel(pydantic.BaseModel):
    of_all: float


class ShareAsText(ShareModel):
    model_config = pydantic.ConfigDict(ser_json_inf_nan="strings")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (Happened(number=math.inf), "number is inf, and JSON has neither NaN nor infinity"),
        (Happened(many={"a": 1, "b": NAN}), "many['b'] is nan, and JSON has neither NaN nor infinity"),
        ([Struct(-math.inf)], "[0].value is -inf, and JSON has neither NaN nor infinity"),
        (NAN, "it is nan, and JSON has neither NaN nor infinity"),
        (Happened(number=1.5), "ValidationError: what it said"),
        (ShareModel(of_all=NAN), "of_all is nan, and JSON has neither NaN nor infinity"),
        ([ShareAsText(of_all=NAN)], "ValidationError: what it said"),
    ],
)
def test_a_number_that_json_does_not_have_is_named_as_what_is_wrong(value: Any, told: str) -> None:
    assert why_not_stored(value, "ValidationError: what it said") == told
