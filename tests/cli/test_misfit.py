"""What is said about bytes that do not fit: in words, and with the place."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import pydantic
import pytest

from rehydrate.cli.misfit import why_misfit


class Colour(enum.Enum):
    RED = "red"


@dataclass(frozen=True)
class Inner:
    number: int


@dataclass(frozen=True)
class Positive:
    amount: int

    def __post_init__(self) -> None:
        if self.amount < 0:
            raise ValueError("an amount is not negative")


class Shape(msgspec.Struct, forbid_unknown_fields=True):
    number: int = 0
    text: str | None = None
    inner: list[Inner] = []
    counts: dict[uuid.UUID, int] = {}
    day: dt.date | None = None
    colour: Colour = Colour.RED
    few: Annotated[int, msgspec.Meta(ge=1)] = 1
    positive: Positive | None = None


CASES = {
    b'{"number": "1"}': "'number' must be a whole number, and is a text",
    b'{"text": 1}': "'text' must be a text or null, and is a whole number",
    b"[]": "it must be an object, and is a list",
    b'{"inner": [{"number": 1}, {}]}': "'inner[1]' has no field 'number'",
    b'{"inner": [{"number": null}]}': "'inner[0].number' must be a whole number, and is null",
    b'{"numbr": 1}': "there is no field 'numbr'",
    b'{"colour": "blue"}': "'colour': Invalid enum value 'blue'",
    b'{"day": "today"}': "'day': Invalid RFC3339 encoded date",
    b'{"few": 0}': "'few' must be a whole number >= 1",
    b'{"positive": {"amount": -1}}': "'positive': an amount is not negative",
    b'{"counts": {"x": 1}}': "a key of 'counts': Invalid UUID",
    b'{"number": 1': "it is no JSON: it ends too early",
    b"number": "it is no JSON: invalid character at byte 4",
    b'{"text": "\xff"}': "it is not UTF-8",
}


@pytest.mark.parametrize("data", CASES, ids=lambda data: data[:30])
def test_what_msgspec_finds_is_said_in_words(data: bytes) -> None:
    with pytest.raises((msgspec.MsgspecError, UnicodeDecodeError)) as found:
        msgspec.json.decode(data, type=Shape)
    said = why_misfit(found.value)
    assert CASES[data] in said
    assert "`" not in said
    assert "$" not in said


def test_a_missing_field_of_the_whole_is_named() -> None:
    with pytest.raises(msgspec.ValidationError) as found:
        msgspec.json.decode(b"{}", type=Inner)
    assert why_misfit(found.value) == "it has no field 'number'"


def test_what_pydantic_finds_is_one_line_with_the_place() -> None:
    class Model(pydantic.BaseModel):
        amount: int
        note: str

    with pytest.raises(pydantic.ValidationError) as found:
        Model.model_validate_json(b'{"amount": "much"}')
    said = why_misfit(found.value)
    assert said.startswith("'amount': Input should be a valid integer")
    assert said.endswith("; 'note': Field required")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RecursionError("maximum recursion depth exceeded"), "it is nested too deeply"),
        (ValueError("no\n  good"), "no good"),
        (ValueError(), "ValueError"),
    ],
)
def test_another_error_is_told_on_one_line(error: Any, said: str) -> None:
    assert why_misfit(error) == said
