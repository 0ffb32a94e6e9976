"""A field in the data of a line that its command does not have: found wherever it stands, and nothing else is."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import pydantic
import pytest

from rehydrate.cli.run.fields import unknown_field
from tests.cli.terminal import BANK, typed


@dataclass(frozen=True)
class Item:
    name: str
    count: int = 1


class Pair(NamedTuple):
    left: Item
    right: int = 0


class Circle(msgspec.Struct, frozen=True, tag="circle"):
    radius: int = 1


class Square(msgspec.Struct, frozen=True, tag="square"):
    side: int = 1


class Renamed(msgspec.Struct, frozen=True, rename="camel"):
    in_cents: int = 0


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, populate_by_name=True)
    amount: int = pydantic.Field(0, alias="betrag")
    item: Item | None = None


class OpenModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="allow")
    amount: int = 0


@dataclass(frozen=True)
class Order:
    item: Item | None = None
    items: tuple[Item, ...] = ()
    two: tuple[Item, int] | None = None
    by_name: dict[str, Item] = field(default_factory=dict[str, Item])
    notes: dict[str, int] = field(default_factory=dict[str, int])
    shape: Circle | Square | None = None
    pair: Pair | None = None
    renamed: Renamed | None = None
    model: Model | None = None
    open_model: OpenModel | None = None


ITEM: dict[str, Any] = {"name": "x"}
BAD: dict[str, Any] = ITEM | {"cuont": 2}

FINE: list[dict[str, Any]] = [
    {},
    {"item": None},
    {"item": ITEM, "items": [ITEM], "two": [ITEM, 1], "by_name": {"cuont": ITEM}, "notes": {"any": 1}},
    {"shape": {"type": "square", "side": 2}, "pair": [ITEM, 1], "renamed": {"inCents": 1}},
    {"model": {"betrag": 1}, "open_model": {"anything": [1]}},
    {"model": {"amount": 1, "item": ITEM}},
]
WRONG: dict[str, dict[str, Any]] = {
    "itme": {"itme": ITEM},
    "item.cuont": {"item": BAD},
    "items.1.cuont": {"items": [ITEM, BAD]},
    "two.cuont": {"two": [BAD, 1]},
    "by_name.a.cuont": {"by_name": {"a": BAD}},
    "shape.sdie": {"shape": {"type": "square", "sdie": 2}},
    "pair.cuont": {"pair": [BAD, 1]},
    "renamed.in_cents": {"renamed": {"in_cents": 1}},
    "model.amuont": {"model": {"amuont": 1}},
    "model.item.cuont": {"model": {"item": BAD}},
}


def checked(data: dict[str, Any]) -> str | None:
    text = json.dumps(data).encode()
    return unknown_field(msgspec.json.decode(text, type=Order, dec_hook=_model), json.loads(text))


def _model(kind: Any, fields: object) -> Any:
    return kind.model_validate_json(json.dumps(fields))


@pytest.mark.parametrize("data", FINE, ids=str)
def test_what_every_class_has_is_fine(data: dict[str, Any]) -> None:
    assert checked(data) is None


@pytest.mark.parametrize("path", WRONG)
def test_a_field_that_nobody_has_is_named_with_its_path(path: str) -> None:
    found = checked(WRONG[path])
    assert found is not None
    assert found.startswith(f"there is no field {path!r} (")


def test_a_misspelt_field_of_a_command_is_an_error_of_its_line_and_nothing_is_stored() -> None:
    ended = typed(
        "run", BANK, "--store", "memory://",
        stdin='{"aggregate": "bank_account", "id": "a", "command": "Touch", "data": {"amuont": 5}}\n'
        '{"aggregate": "bank_account", "id": "a", "command": "Deposit", "data": {"amount": 5, "note": ""}}\n'
        '{"aggregate": "bank_account", "id": "a", "command": "Deposit", "data": {"amount": 5}}\n',
    )  # fmt: skip
    assert ended.code == 1
    assert [answer.get("version") for answer in ended.answers] == [None, None, 1]
    assert ended.answers[0]["error"] == {
        "type": "MalformedLineError",
        "message": "its data does not fit Touch: there is no field 'amuont' (it has none)",
    }
    assert (
        ended.answers[1]["error"]["message"]
        == "its data does not fit Deposit: there is no field 'note' (there is: amount)"
    )
