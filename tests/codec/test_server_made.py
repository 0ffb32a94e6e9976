"""What the server fills in does not count when a command is compared with one of the same id."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import attrs
import msgspec
import pydantic
import pytest

from rehydrate import Aggregate, App, DuplicateCommandError, Runtime, ServerMade
from rehydrate.codec import JsonCodec

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(seconds=1)


@dataclass(frozen=True)
class OfDataclass:
    amount: int
    at: Annotated[datetime, ServerMade]


class OfStruct(msgspec.Struct, frozen=True, rename="camel"):
    amount: int
    at: Annotated[datetime, ServerMade()]


@attrs.frozen
class OfAttrs:
    amount: int
    at: Annotated[datetime, ServerMade]


class OfModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    amount: int
    at: Annotated[datetime, ServerMade]


@dataclass(frozen=True)
class AllCounts:
    amount: int
    at: Annotated[datetime, "another mark"]


@dataclass(frozen=True)
class NothingCounts:
    at: Annotated[datetime, ServerMade]


@dataclass(frozen=True)
class MayBeMissing:
    amount: int
    at: Annotated[datetime, ServerMade] | None


class MayBeMissingOfModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    amount: int
    at: Annotated[datetime, ServerMade] | None = None


Made = OfDataclass | OfStruct | OfAttrs | OfModel | MayBeMissing | MayBeMissingOfModel


@pytest.mark.parametrize("kind", [OfDataclass, OfStruct, OfAttrs, OfModel, MayBeMissing, MayBeMissingOfModel])
def test_a_digest_is_of_what_counts(kind: Callable[..., Made]) -> None:
    codec = JsonCodec(kind)
    assert codec.digest(kind(amount=1, at=NOON)) == codec.digest(kind(amount=1, at=LATER))
    assert codec.digest(kind(amount=1, at=NOON)) != codec.digest(kind(amount=2, at=NOON))


def test_all_fields_count_that_are_not_marked() -> None:
    codec = JsonCodec(AllCounts | NothingCounts)
    assert codec.digest(AllCounts(1, NOON)) != codec.digest(AllCounts(1, LATER))
    assert codec.digest(NothingCounts(NOON)) == codec.digest(NothingCounts(LATER))


@dataclass(frozen=True)
class Deposited:
    amount: int
    at: datetime


@dataclass(frozen=True)
class Account:
    balance: int = 0


def decide(account: Account, command: OfDataclass) -> list[Deposited]:
    return [Deposited(command.amount, command.at)]


def evolve(account: Account, event: Deposited) -> Account:
    return Account(account.balance + event.amount)


account = Aggregate(
    name="account", initial=Account(), decide=decide, evolve=evolve, commands=OfDataclass, events=Deposited
)


@pytest.fixture
async def bank() -> AsyncGenerator[Runtime]:
    async with App(aggregates=[account]).open("memory://") as bank:
        yield bank


async def test_a_repeat_with_another_time_is_answered_with_the_first_result(bank: Runtime) -> None:
    first = await bank.dispatch(account, "ada", OfDataclass(1, NOON), command_id="once")
    again = await bank.dispatch(account, "ada", OfDataclass(1, LATER), command_id="once")
    assert first == again
    assert again.events == (Deposited(1, NOON),)
    with pytest.raises(DuplicateCommandError):
        await bank.dispatch(account, "ada", OfDataclass(2, NOON), command_id="once")
    assert await bank.state(account, "ada") == Account(1)


async def test_two_tries_at_the_same_time_share_one_decision(bank: Runtime) -> None:
    tries: list[Any] = [
        bank.dispatch_nowait(account, "ada", OfDataclass(1, at), command_id="once") for at in (NOON, LATER)
    ]
    assert [(await sent).events for sent in tries] == [(Deposited(1, NOON),)] * 2
