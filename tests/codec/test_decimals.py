"""A float where a Decimal is declared is refused, also one that is equal to the Decimal which would come back."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple, TypedDict

import msgspec
import pytest

from rehydrate import ActorCrashedError, Aggregate, App
from rehydrate.codec import JsonCodec
from rehydrate.testing import given


class Line(NamedTuple):
    text: str
    price: Decimal


class Totals(TypedDict):
    net: Decimal


class Rate(msgspec.Struct, frozen=True, rename="camel"):
    the_rate: Decimal | None = None


@dataclass(frozen=True)
class Node:
    weight: Decimal
    inner: Node | None = None


@dataclass(frozen=True)
class Chain:
    """Holds itself, and no Decimal."""

    inner: Chain | None = None
    weight: float = 0


@dataclass(frozen=True)
class Billed:
    total: Decimal = Decimal(0)
    either: Decimal | float = 0.5
    whole: int | Decimal = 1
    lines: tuple[Line, ...] = ()
    pair: tuple[float, Decimal] = (0.5, Decimal(1))
    by_key: dict[str, list[Decimal]] | None = None
    keyed: dict[Decimal, int] | None = None
    several: frozenset[Decimal] = frozenset()
    totals: Totals | None = None
    rate: Rate | None = None
    node: Node | None = None


wrong: Any = 3.5
ONE = Decimal(1)


@pytest.mark.parametrize(
    ("event", "path"),
    [
        (Billed(total=wrong), "total"),
        (Billed(whole=wrong), "whole"),
        (Billed(lines=(Line("a", ONE), Line("b", wrong))), "lines[1].price"),
        (Billed(pair=(3.5, wrong)), "pair[1]"),
        (Billed(by_key={"a": [wrong]}), "by_key['a'][0]"),
        (Billed(keyed={wrong: 1}), "keyed[3.5]"),
        (Billed(several=frozenset({wrong})), "several[0]"),
        (Billed(totals={"net": wrong}), "totals['net']"),
        (Billed(rate=Rate(wrong)), "rate.the_rate"),
        (Billed(node=Node(ONE, Node(wrong))), "node.inner.weight"),
    ],
)
def test_a_float_in_place_of_a_decimal_is_found_with_its_place(event: Billed, path: str) -> None:
    with pytest.raises(TypeError) as refused:
        JsonCodec(Billed).exact[Billed](event)
    assert str(refused.value) == f"{path}: 3.5 is of type float where a Decimal is due; write Decimal('3.5')"


def test_what_is_declared_is_read_back() -> None:
    event = Billed(
        total=Decimal("3.5"), lines=(Line("a", ONE),), by_key={"a": [ONE]}, keyed={ONE: 1}, several=frozenset({ONE}),
        totals={"net": ONE}, rate=Rate(ONE), node=Node(ONE, Node(ONE)),
    )  # fmt: skip
    codec = JsonCodec(Billed)
    assert codec.exact[Billed](event) is False
    assert codec.decoders["Billed"](codec.encode(event)) == event


def test_classes_without_decimals_are_not_looked_at() -> None:
    assert Chain not in JsonCodec(Chain | Billed).exact


@dataclass(frozen=True)
class Pay:
    amount: float


@dataclass(frozen=True)
class Paid:
    amount: Decimal


def _decide(state: int, command: Pay) -> list[Paid]:
    amount: Any = command.amount
    return [Paid(amount)]


def _evolve(state: int, event: Paid) -> int:
    return state + 1


till = Aggregate(name="till", initial=0, decide=_decide, evolve=_evolve, commands=Pay, events=Paid)


@pytest.mark.parametrize("amount", [3.5, 0.1])
async def test_it_is_never_stored_and_given_says_so_too(amount: float) -> None:
    reason = rf"cannot be stored: TypeError: amount: {amount} is of type float where a Decimal is due"
    async with App(aggregates=[till]).open("memory://") as shop:
        with pytest.raises(ActorCrashedError, match=f"its Paid {reason}"):
            await shop.dispatch(till, "one", Pay(amount))
        assert await shop.state(till, "one") == 0
    with pytest.raises(AssertionError, match=reason):
        given(till).when(Pay(amount)).then(Paid(Decimal(1)))
