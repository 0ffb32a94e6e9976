"""What a subscription leaves out, by the names that are stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from rehydrate import ConfigurationError, JsonCodec, Subscription
from rehydrate.codec.subscription import unwanted_of


@dataclass(frozen=True, slots=True)
class Opened:
    pass


@dataclass(frozen=True, slots=True)
class Closed:
    pass


@dataclass(frozen=True, slots=True)
class Elsewhere:
    pass


class OfMyOwn:
    """A codec that has no list of all names: its decoders are found as they are asked for."""

    def __init__(self) -> None:
        codec = JsonCodec(Opened | Closed)
        self.names: Mapping[type, str] = codec.names
        self.encode: Callable[[Any], bytes] = codec.encode
        self.decoders: Mapping[str, Callable[[bytes], Any]] = codec.decoders


AGED = JsonCodec(
    Opened | Closed,
    aliases={"Ended": Closed},
    upcasters={"Closed": [lambda fields: fields]},  # pyright: ignore[reportUnknownLambdaType]
)


def unwanted(codecs: Any, *types: type, **given: Any) -> frozenset[tuple[str, str]]:
    return unwanted_of(Subscription(name="mail", handler=print, types=types, **given), codecs)


def test_every_known_name_of_what_is_not_asked_for_is_left_out() -> None:
    assert unwanted({"account": AGED}, Opened) == {
        ("account", "Closed"),
        ("account", "Closed@2"),
        ("account", "Ended"),
        ("account", "Ended@2"),
    }
    assert unwanted({"account": AGED}, Closed) == {("account", "Opened")}
    for nothing in ((), (Opened, Closed)):
        assert unwanted({"account": AGED}, *nothing) == frozenset()


@dataclass(frozen=True, slots=True)
class Reopened(Opened):
    pass


def test_a_class_stands_for_those_that_are_made_of_it() -> None:
    codecs = {"account": JsonCodec(Opened | Reopened | Closed), "order": OfMyOwn()}
    assert unwanted(codecs, Opened) == {("account", "Closed")}
    assert unwanted(codecs, Reopened) == {("account", "Opened"), ("account", "Closed")}
    assert unwanted({"account": JsonCodec(Reopened | Closed)}, Opened) == {("account", "Closed")}


def test_each_aggregate_leaves_out_what_it_knows_itself() -> None:
    codecs = {"account": JsonCodec(Opened | Closed), "order": JsonCodec(Opened), "user": JsonCodec(Elsewhere)}
    assert unwanted(codecs, Opened) == {("account", "Closed"), ("user", "Elsewhere")}
    assert unwanted(codecs, Closed, streams=["account-1"]) == {("account", "Opened")}


def test_where_a_codec_has_no_list_of_names_nothing_is_left_out_and_no_class_is_refused() -> None:
    codecs = {"account": JsonCodec(Opened | Closed), "order": OfMyOwn()}
    assert unwanted(codecs, Opened, Elsewhere) == {("account", "Closed")}


def test_what_no_event_can_be_of_is_refused() -> None:
    codecs = {"account": JsonCodec(Opened | Closed), "user": JsonCodec(Elsewhere)}
    with pytest.raises(ConfigurationError, match="'mail': Elsewhere is no event of account"):
        unwanted(codecs, Opened, Elsewhere, streams=["account-1"])
    with pytest.raises(ConfigurationError, match=r"'order' is none of its aggregates \(account, user\)"):
        unwanted(codecs, streams=["account-1", "order-1"])
