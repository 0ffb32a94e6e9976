"""Classes whose values would be no values, or not come back, are refused; the others hold each other."""

from __future__ import annotations

import collections
import dataclasses
import re
import typing
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar

import attrs
import msgspec
import pydantic
import pytest

from rehydrate.codec import JsonCodec, JsonValueCodec
from rehydrate.errors import ConfigurationError

T = TypeVar("T")


class Tagged(msgspec.Struct, frozen=True, tag=True):
    pass


@dataclass(frozen=True)
class Left:
    side: int


class Changeable(msgspec.Struct):
    size: int


class Incomparable(msgspec.Struct, frozen=True, eq=False):
    size: int


class LeavesOut(msgspec.Struct, frozen=True, omit_defaults=True):
    size: int = 0


class GenericStruct(msgspec.Struct, Generic[T], frozen=True):
    size: T


@dataclass
class ChangeableDataclass:
    size: int


@dataclass(frozen=True, eq=False)
class IncomparableDataclass:
    size: int


@dataclass(frozen=True)
class WithInitVar:
    size: dataclasses.InitVar[int]


class Undecorated(Left):
    size: int


@pydantic.dataclasses.dataclass(frozen=True)
class PydanticDataclass:
    size: int


@attrs.define
class ChangeableAttrs:
    size: int


@attrs.frozen(eq=False)
class IncomparableAttrs:
    size: int


@attrs.frozen
class PrivateAttrs:
    _size: int


class ChangeableModel(pydantic.BaseModel):
    size: int


class FrozenModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)


class ExcludingModel(FrozenModel):
    size: int = pydantic.Field(default=0, exclude=True)


class TwoAliases(FrozenModel):
    size: int = pydantic.Field(validation_alias="read", serialization_alias="written")


class Secretive(FrozenModel):
    size: pydantic.SecretStr


class Undefined(FrozenModel):
    size: Nowhere  # type: ignore[name-defined] # noqa: F821 # pyright: ignore[reportUndefinedVariable]


class Textual(FrozenModel):
    data: bytes


class Flagged(FrozenModel):
    flags: re.RegexFlag


class HoldsStruct(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, arbitrary_types_allowed=True)

    struct: Tagged


class Keyed(FrozenModel):
    data: dict[Literal[1, 2], int]


class Other(FrozenModel):
    pass


class Ambiguous(FrozenModel):
    either: FrozenModel | Other


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (Changeable, "Changeable: it can be changed: write `class ...(msgspec.Struct, frozen=True)`"),
        (Incomparable, "Incomparable: its values are equal to nothing else: leave out `eq=False`"),
        (LeavesOut, "LeavesOut: it leaves out fields"),
        (GenericStruct, "GenericStruct: it is generic: declare a class for each type"),
        (ChangeableDataclass, "ChangeableDataclass: it can be changed: write `@dataclass(frozen=True)`"),
        (IncomparableDataclass, "IncomparableDataclass: its values are equal to nothing else"),
        (WithInitVar, "`InitVar` fields are not supported"),
        (Undecorated, "Undecorated: only its base is a dataclass"),
        (PydanticDataclass, "PydanticDataclass: it is a dataclass of Pydantic"),
        (ChangeableAttrs, "ChangeableAttrs: it can be changed: write `@attrs.frozen`"),
        (IncomparableAttrs, "IncomparableAttrs: its values are equal to nothing else"),
        (
            PrivateAttrs,
            "PrivateAttrs: fields of attrs classes that begin with `_` are not stored: rename _size",
        ),
        (
            ChangeableModel,
            "ChangeableModel: it can be changed: write `model_config = ConfigDict(frozen=True)`",
        ),
        (ExcludingModel, "ExcludingModel: excluded fields are not stored: size"),
        (TwoAliases, "TwoAliases: field 'size' is written as 'written' and not read under that name"),
        (Secretive, "Secretive.size: SecretStr would not come back as it was"),
        (Undefined, "Undefined is not fully defined: call Undefined.model_rebuild()"),
        (Textual, "Textual.data: bytes must be text here"),
        (Flagged, "Flagged.flags: RegexFlag is read by Pydantic only while it is a single flag"),
        (HoldsStruct, "HoldsStruct.struct: Tagged is not a type that Pydantic reads and writes"),
        (Keyed, "Keyed.data: Literal[1, 2] cannot be a key"),
        (Ambiguous, "Ambiguous.either: FrozenModel | Other cannot be told apart in JSON; give the field"),
    ],
)
def test_a_class_whose_values_are_no_values_is_refused(event: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(told)):
        JsonCodec(event)


class Options(TypedDict, total=False):
    depth: int
    name: typing.Required[str]


class Position(NamedTuple):
    x: int
    y: int = 0


class Vague(TypedDict):
    what: Any


def test_a_typed_dict_and_a_named_tuple_may_be_held() -> None:
    @dataclass(frozen=True)
    class Set:
        options: Options
        at: Position

    codec = JsonCodec(Set)
    event = Set(options={"name": "a"}, at=Position(1))
    back = codec.decoders["Set"](codec.encode(event))
    assert back == event
    assert type(back.at) is Position
    with pytest.raises(ConfigurationError, match=re.escape("Vague.what: Any says nothing")):
        JsonValueCodec(Vague)
    loose: Any = collections.namedtuple  # noqa: PYI024
    with pytest.raises(ConfigurationError, match=re.escape("Loose.a: Any says nothing")):
        JsonValueCodec(loose("Loose", "a"))


class Cat(FrozenModel):
    kind: Literal["cat"] = "cat"


class Dog(FrozenModel):
    kind: Literal["dog"] = "dog"
    name: bytes = b""

    model_config = pydantic.ConfigDict(frozen=True, ser_json_bytes="base64", val_json_bytes="base64")


class Home(FrozenModel):
    pet: Cat | Dog = pydantic.Field(discriminator="kind")
    others: tuple[Annotated[Cat | Dog, pydantic.Field(discriminator="kind")], ...] = ()
    named: int = pydantic.Field(default=1, alias="Named")


def test_pydantic_tells_the_members_of_a_union_apart_by_a_field() -> None:
    codec = JsonCodec(Home)
    home = Home(pet=Dog(name=b"\xff"), others=(Cat(), Dog()), Named=3)
    assert codec.decoders["Home"](codec.encode(home)) == home


def test_models_and_dataclasses_hold_each_other() -> None:
    @dataclass(frozen=True)
    class Moved:
        home: Home
        old: Home | None = None

    codec = JsonCodec(Moved)
    moved = Moved(Home(pet=Cat()), Home(pet=Dog(name=b"\0")))
    assert codec.decoders["Moved"](codec.encode(moved)) == moved
    assert codec.digest(moved) == codec.digest(Moved(Home(pet=Cat()), Home(pet=Dog(name=b"\0"))))
