"""A codec of events: names, older names, older shapes."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import typing
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, TypeAlias, Union

import attrs
import msgspec
import pydantic
import pytest
import typing_extensions

from rehydrate.codec import JsonCodec
from rehydrate.codec.upcast import UpcastError
from rehydrate.errors import ConfigurationError, UnknownEventError


@dataclass(frozen=True, slots=True)
class Deposited:
    amount: int
    currency: str = "EUR"


@dataclass(frozen=True, slots=True)
class Withdrawn:
    amount: int


class Moved(msgspec.Struct, frozen=True):
    to: str


@attrs.frozen
class Closed:
    pass


class Noted(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)

    text: str


def refusal(union: object, **options: Any) -> str:
    with pytest.raises(ConfigurationError) as refused:
        JsonCodec(union, **options)
    return str(refused.value)


# --------------------------------------------------------------------------------------------------------------- names


def test_values_are_stored_under_the_names_of_their_classes() -> None:
    codec = JsonCodec(Deposited | Withdrawn)
    assert codec.names == {Deposited: "Deposited", Withdrawn: "Withdrawn"}
    assert codec.encode(Deposited(1)) == b'{"amount":1,"currency":"EUR"}'
    assert codec.decoders["Withdrawn"](b'{"amount":1}') == Withdrawn(1)


@pytest.mark.parametrize("event", [Deposited(1), Moved("Rome"), Closed(), Noted(text="a")])
def test_each_sort_of_class_comes_back(event: Any) -> None:
    codec = JsonCodec(Deposited | Moved | Closed | Noted)
    back = codec.decoders[codec.names[type(event)]](codec.encode(event))
    assert back == event
    assert type(back) is type(event)


def test_a_field_that_is_not_stored_has_its_default() -> None:
    assert JsonCodec(Deposited).decoders["Deposited"](b'{"amount":1}') == Deposited(1, "EUR")


def test_a_field_that_is_no_longer_there_is_passed_over() -> None:
    assert JsonCodec(Withdrawn).decoders["Withdrawn"](b'{"amount":1,"old":[]}') == Withdrawn(1)


Alias: TypeAlias = Deposited | Withdrawn
Wide: TypeAlias = Union[Alias, Annotated[Moved, "a remark"]]  # noqa: UP007 - as older code writes it
Lazy = typing_extensions.TypeAliasType("Lazy", Deposited | Withdrawn)


@pytest.mark.parametrize(
    ("union", "names"),
    [
        (Deposited, {"Deposited"}),
        (Alias, {"Deposited", "Withdrawn"}),
        (Wide, {"Deposited", "Withdrawn", "Moved"}),
        (Lazy, {"Deposited", "Withdrawn"}),
        (Deposited | Alias, {"Deposited", "Withdrawn"}),
    ],
)
def test_a_union_may_be_written_in_every_way(union: object, names: set[str]) -> None:
    assert set(JsonCodec(union).names.values()) == names


def test_encode_and_decoders_are_attributes_and_made_once() -> None:
    codec = JsonCodec(Deposited)
    assert codec.encode is codec.encode
    assert codec.decoders["Deposited"] is codec.decoders["Deposited"]


def test_a_name_that_is_not_declared_is_an_unknown_event() -> None:
    with pytest.raises(UnknownEventError) as unknown:
        JsonCodec(Deposited | Withdrawn).decoders["Opened"]
    assert unknown.value.type == "Opened"
    assert unknown.value.known == ("Deposited", "Withdrawn")


# ---------------------------------------------------------------------------------------------------- what is no event


class Pair(NamedTuple):
    left: int
    right: int


class AsArray(msgspec.Struct, frozen=True, array_like=True):
    left: int


class Root(pydantic.RootModel[list[int]]):
    model_config = pydantic.ConfigDict(frozen=True)


@pytest.mark.parametrize(
    ("union", "told"),
    [
        (int, "int: only classes with named fields"),
        (Deposited | None, "None: only classes with named fields"),
        (typing.Any, "Any: only classes with named fields"),
        ([Deposited, Withdrawn], "several classes are written as a union: Placed | Paid"),
        ((Deposited,), "several classes are written as a union: Placed | Paid"),
        ("Deposited", "'Deposited': a forward reference cannot be resolved here"),
        (typing.Optional["Deposited"], "'Deposited': a forward reference cannot be resolved here"),
        (Pair, "Pair: it is stored without the names of its fields"),
        (AsArray, "AsArray: it is stored without the names of its fields"),
        (Root, "Root: it is stored without the names of its fields"),
    ],
)
def test_only_classes_with_named_fields_are_stored_under_names(union: object, told: str) -> None:
    assert told in refusal(union)


def test_two_classes_of_one_name_are_refused() -> None:
    other = dataclasses.make_dataclass("Deposited", ["amount"], frozen=True)
    assert refusal(Deposited | other).startswith("Deposited: two classes have this name")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Deposited@2", "'@' in a stored name is for revisions"),
        ("rehydrate.Due", "'rehydrate.' is for Rehydrate's own"),
        ("x" * 513, "513 bytes"),
    ],
)
def test_a_class_whose_name_cannot_be_stored_is_refused(name: str, told: str) -> None:
    assert told in refusal(dataclasses.make_dataclass(name, [], frozen=True))


# ------------------------------------------------------------------------------------------------- aliases, upcasters


def test_an_alias_is_read_and_never_written() -> None:
    codec = JsonCodec(Deposited, aliases={"Credited": Deposited, "PaidIn": Deposited})
    assert codec.names == {Deposited: "Deposited"}
    assert codec.decoders["Credited"](b'{"amount":1}') == Deposited(1)
    assert codec.decoders["PaidIn"](b'{"amount":1}') == Deposited(1)


def in_cents(fields: dict[str, Any]) -> dict[str, Any]:
    return {"amount": fields["amount"] * 100}


def with_currency(fields: dict[str, Any]) -> dict[str, Any]:
    fields["currency"] = "DEM"
    return fields


def test_each_upcaster_is_one_revision() -> None:
    codec = JsonCodec(Deposited | Withdrawn, upcasters={"Deposited": [in_cents, with_currency]})
    assert codec.names == {Deposited: "Deposited@3", Withdrawn: "Withdrawn"}
    assert codec.decoders["Deposited"](b'{"amount":1}') == Deposited(100, "DEM")
    assert codec.decoders["Deposited@2"](b'{"amount":100}') == Deposited(100, "DEM")
    assert codec.decoders["Deposited@3"](codec.encode(Deposited(100, "CHF"))) == Deposited(100, "CHF")


@pytest.mark.parametrize("known", [("Went@v1",), ("Went@",), ("Went@" + "9" * 5_000,)])
@pytest.mark.parametrize("type", ["Went@v2", "Went@", "Went@\u0662", "Went@" + "9" * 5_000])
def test_what_stands_behind_the_mark_need_not_be_a_revision(type: str, known: tuple[str, ...]) -> None:
    assert "declare it, or name its new class" in str(UnknownEventError(type, known))


@pytest.mark.parametrize("newer", ["Deposited@4", "Deposited@1", "Deposited@", "Withdrawn@2"])
def test_a_revision_that_this_code_does_not_know_is_an_unknown_event(newer: str) -> None:
    codec = JsonCodec(Deposited | Withdrawn, upcasters={"Deposited": [in_cents, with_currency]})
    with pytest.raises(UnknownEventError) as unknown:
        codec.decoders[newer]
    is_newer = "written by newer code" in str(unknown.value)
    assert is_newer == (newer in {"Deposited@4", "Withdrawn@2"})


def test_a_newer_revision_names_both_and_says_what_to_do() -> None:
    codec = JsonCodec(Deposited | Withdrawn, upcasters={"Deposited": [in_cents, with_currency]})
    with pytest.raises(
        UnknownEventError, match=r"as revision 4 of Deposited, of which this code knows 3; deploy that"
    ):
        codec.decoders["Deposited@4"]
    with pytest.raises(
        UnknownEventError, match=r"no event of type 'Closed@2' is declared \(declared: Deposited, "
    ):
        codec.decoders["Closed@2"]


def test_an_alias_goes_through_the_upcasters_of_its_class_at_each_revision() -> None:
    codec = JsonCodec(
        Deposited, aliases={"Credited": Deposited}, upcasters={"Deposited": [in_cents, with_currency]}
    )
    assert codec.decoders["Credited"](b'{"amount":1}') == Deposited(100, "DEM")
    assert codec.decoders["Credited@2"](b'{"amount":100}') == Deposited(100, "DEM")
    assert codec.decoders["Credited@3"](b'{"amount":100,"currency":"CHF"}') == Deposited(100, "CHF")


def test_an_alias_of_another_shape_has_upcasters_of_its_own() -> None:
    codec = JsonCodec(
        Deposited,
        aliases={"Credited": Deposited},
        upcasters={
            "Deposited": [in_cents, with_currency],
            "Credited": [lambda fields: {"amount": fields["sum"]}],
        },
    )
    assert codec.decoders["Credited"](b'{"sum":7}') == Deposited(7)
    assert codec.decoders["Deposited"](b'{"amount":1}') == Deposited(100, "DEM")


def test_a_class_with_upcasters_gets_a_new_shape_under_a_new_name() -> None:
    def spent(fields: dict[str, Any]) -> dict[str, Any]:
        return {"amount": -fields["amount"]}

    first = JsonCodec(
        Deposited,
        aliases={"Withdrawn": Deposited},
        upcasters={"Deposited": [in_cents, with_currency], "Withdrawn": [spent]},
    )
    second = JsonCodec(
        Withdrawn,
        aliases={"Deposited": Withdrawn},
        upcasters={"Deposited": [in_cents, with_currency, spent]},
    )
    assert first.names == {Deposited: "Deposited@3"}
    assert second.names == {Withdrawn: "Withdrawn"}
    assert first.decoders["Withdrawn"](second.encode(Withdrawn(5))) == Deposited(-5)
    assert second.decoders["Deposited@3"](first.encode(Deposited(5))) == Withdrawn(-5)
    assert second.decoders["Deposited"](b'{"amount":5}') == Withdrawn(-500)


def test_an_alias_may_lead_to_a_class_without_upcasters() -> None:
    codec = JsonCodec(Closed, aliases={"Shut": Closed}, upcasters={"Shut": [dict]})
    assert codec.names == {Closed: "Closed"}
    assert codec.decoders["Shut"](b"{}") == Closed()


@pytest.mark.parametrize("event", [Deposited(10**30), Moved("é😀"), Noted(text="\0")])
def test_what_goes_through_an_upcaster_keeps_its_fields(event: Any) -> None:
    name = type(event).__name__
    codec = JsonCodec(event.__class__, upcasters={name: [lambda fields: fields]})
    assert codec.decoders[name](codec.encode(event)) == event


def test_an_upcaster_that_returns_nothing_is_told_to_return_the_fields() -> None:
    def forget(fields: dict[str, Any]) -> Any:
        fields["currency"] = "DEM"

    codec = JsonCodec(Deposited, upcasters={"Deposited": [forget]})
    with pytest.raises(
        UpcastError, match=r"forget must return a dict, and returned NoneType, for what is stored as"
    ):
        codec.decoders["Deposited"](b'{"amount":1}')


def test_an_upcaster_that_fails_is_named_with_what_it_failed_at() -> None:
    codec = JsonCodec(Deposited, upcasters={"Deposited": [dict, in_cents, with_currency]})
    with pytest.raises(UpcastError) as failed:
        codec.decoders["Deposited@2"](b'{"euros":1}')
    assert str(failed.value) == (
        "upcaster in_cents raised KeyError: 'amount' for what is stored as 'Deposited@2'; mend the upcaster"
    )
    assert isinstance(failed.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"aliases": {"Credited": Withdrawn}},
            "alias 'Credited': Withdrawn is not one of the classes of this codec",
        ),
        ({"aliases": {"Deposited": Deposited}}, "alias 'Deposited': it is the name of a class"),
        ({"aliases": {"Credited@2": Deposited}}, "'Credited@2': '@' in a stored name is for revisions"),
        (
            {"aliases": {"rehydrate.Due": Deposited}},
            "'rehydrate.Due': 'rehydrate.' is for Rehydrate's own events",
        ),
        (
            {"upcasters": {"Credited": [dict]}},
            "upcasters for 'Credited': that is neither a class of this codec",
        ),
        ({"upcasters": {"Deposited": in_cents}}, "give a list of functions, oldest first, also of one"),
        ({"upcasters": {"Deposited@2": [dict]}}, "upcasters for 'Deposited@2': that is neither a class"),
    ],
)
def test_aliases_and_upcasters_that_lead_nowhere_are_refused(options: dict[str, Any], told: str) -> None:
    assert told in refusal(Deposited, **options)


# -------------------------------------------------------------------------------------------------------------- digest


def test_a_digest_tells_values_and_classes_apart() -> None:
    codec = JsonCodec(Deposited | Withdrawn | Moved)
    digests = [codec.digest(value) for value in (Deposited(1), Deposited(2), Withdrawn(1), Moved("a"))]
    assert len(set(digests)) == len(digests)
    assert codec.digest(Deposited(1)) == codec.digest(Deposited(1, "EUR"))
    assert all(len(digest) == 16 for digest in digests)


DIGEST = """
import dataclasses
from rehydrate.codec import JsonCodec, JsonValueCodec

@dataclasses.dataclass(frozen=True)
class Tagged:
    tags: frozenset[str]
    names: dict[str, set[str]]
    ids: dict[int, frozenset[frozenset[str]]]

words = [*{"e", "d", "c", "b", "a"}]
codec = JsonCodec(Tagged)
value = Tagged(frozenset(words), {word: {*words} for word in words}, {1: frozenset(frozenset({word}) for word in words)})
print(codec.digest(value), JsonValueCodec(Tagged | None).fingerprint)
"""


def test_digests_and_fingerprints_are_the_same_in_every_process() -> None:
    printed = {
        subprocess.run(
            [sys.executable, "-c", DIGEST],
            check=True,
            capture_output=True,
            text=True,
            env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": str(seed)},
        ).stdout
        for seed in range(4)
    }
    assert len(printed) == 1
