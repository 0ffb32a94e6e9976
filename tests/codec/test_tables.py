"""The tables of docs/codec.md say of each type what the codec does with it, and leave none out."""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import datetime as dt
import decimal
import fractions
import ipaddress
import pathlib
import re
import typing
import uuid
import zoneinfo
from typing import Any

import msgspec
import pytest

from rehydrate.codec import JsonCodec
from rehydrate.codec.records import KINDS
from rehydrate.codec.types import COLLECTIONS, INSTEAD, KEYS, SCALARS
from rehydrate.errors import ConfigurationError
from tests.docs.pages import ROOT, table

PAGE = ROOT / "docs" / "codec.md"
NAMES: dict[str, Any] = {
    **vars(typing),
    **{name: value for name, value in vars(collections.abc).items() if not name.startswith("_")},
    **{name: getattr(collections, name) for name in ("Counter", "OrderedDict", "defaultdict", "deque")},
    **{
        cls.__name__: cls
        for cls in (decimal.Decimal, uuid.UUID, pathlib.PurePath, zoneinfo.ZoneInfo, re.Pattern)
    },
    **{cls.__name__: cls for cls in (ipaddress.IPv4Address, ipaddress.IPv6Address)},
    **{cls.__name__: cls for cls in (dt.datetime, dt.date, dt.time, dt.timedelta)},
    "AbstractSet": collections.abc.Set,
    "Callable": typing.get_origin(typing.Callable[[], None]),
    "fractions": fractions,
    "msgspec": msgspec,
}


def code(cell: str) -> list[str]:
    return [text.replace("\\|", "|") for text in re.findall(r"`([^`]+)`", cell)]


def types_in(heading: str, column: int = 0) -> list[tuple[Any, list[str]]]:
    """The types of a column that are written as code, each with its row."""
    rows = table(PAGE, heading)
    return [
        (eval(text, NAMES), row)
        for row in rows
        if not row[0].startswith("a union")
        for text in code(row[column])
    ]


ACCEPTED = types_in("Types that come back")
REFUSED = types_in("Types that are refused")


@pytest.mark.parametrize("annotation", [annotation for annotation, _ in ACCEPTED], ids=repr)
def test_a_type_that_comes_back_is_accepted(annotation: Any) -> None:
    JsonCodec(dataclasses.make_dataclass("Happened", [("field", annotation)], frozen=True))


@pytest.mark.parametrize(("annotation", "row"), REFUSED, ids=repr)
def test_a_type_that_is_refused_is_refused_with_what_to_use_instead(annotation: Any, row: list[str]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        JsonCodec(dataclasses.make_dataclass("Happened", [("field", annotation)], frozen=True))
    told = str(refused.value)
    assert told.endswith("write the type" if row[1] == "its type" else f"use {row[1]}")


def test_every_accepted_type_stands_in_the_table() -> None:
    written = [annotation for annotation, _ in ACCEPTED]
    assert {tp for tp in written if isinstance(tp, type) and typing.get_origin(tp) is None} == set(SCALARS)
    assert {typing.get_origin(tp) for tp in written} >= set(COLLECTIONS)
    assert any(row[0] == "an enum" for row in table(PAGE, "Types that come back"))


def test_every_key_stands_in_the_table() -> None:
    (remarks,) = (row[1] for row in table(PAGE, "Types that come back") if row[0] == "`dict[str, int]`")
    assert {eval(text, NAMES) for text in code(remarks) if text != "Literal"} == set(KEYS)


def test_every_type_with_another_to_use_instead_stands_in_the_table() -> None:
    assert {annotation for annotation, _ in REFUSED} == {Any, object, *INSTEAD}


def test_every_sort_of_class_stands_in_the_table() -> None:
    assert [row[0] for row in table(PAGE, "Classes")] == list(KINDS)
