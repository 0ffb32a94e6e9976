"""Consumers that cannot work: refused where they are declared, when the App is built, or when they are asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from rehydrate import (
    Aggregate,
    App,
    ConfigurationError,
    EventEnvelope,
    InvalidIdError,
    Park,
    ProcessManager,
    Projection,
    Runtime,
    Send,
    Subscription,
    TransactionalHandler,
)
from tests.bank import Deposit, Event, account
from tests.readside.ledger import Balance, account_id, add, app


@pytest.fixture
async def bank() -> AsyncIterator[Runtime]:
    async with app.open("memory://") as bank:
        yield bank


async def _handler(envelope: EventEnvelope[Event]) -> None: ...


def _write(envelope: EventEnvelope[Event], connection: Any) -> None: ...


def _count(state: int, event: Any) -> int:
    return state + 1


def _react(state: int, event: Any) -> list[Send]:
    return []


def _no_events(state: int, command: Deposit) -> list[Deposit]:
    return []


STRANGER = Aggregate(
    name="stranger", initial=0, decide=_no_events, evolve=_count, commands=Deposit, events=Deposit
)
MAIL = Subscription(name="mail", handler=_handler)
MAIL_TABLE = TransactionalHandler(name="mail", handler=_write)
MAIL_VIEWS = Projection(name="mail", initial=Balance(), key=account_id, evolve=add, sources=[account])
MAILING: ProcessManager[int, Event] = ProcessManager(
    name="mail", initial=0, correlate=account_id, evolve=_count, react=_react, sources=[account]
)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"name": "a b"}, "cannot be named 'a b'"),
        ({"handler": 5}, "must be a function"),
        ({"workers": 0}, "workers=0 must be at least 1"),
        ({"batch": 0}, "batch=0 must be at least 1"),
        ({"after": -1}, "after=-1 must be a position, or NEWEST"),
        ({"on_error": Park}, r"must be a value: Stop\(\)"),
        ({"aggregates": account}, "must be a list"),
        ({"types": ["Deposited"]}, "give the class of the event itself"),
    ],
)
def test_a_subscription_that_cannot_work_is_refused_where_it_is_declared(given: Any, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        Subscription(**({"name": "mail", "handler": _handler} | given))


@pytest.mark.parametrize("stream", ["", "bank_account", "bank_account-", "-ada"])
def test_a_subscription_to_a_stream_that_cannot_be_is_refused(stream: str) -> None:
    with pytest.raises(InvalidIdError):
        Subscription(name="mail", handler=_handler, streams=[stream])


async def test_subscriptions_that_cannot_work_are_refused_when_they_are_asked_for(bank: Runtime) -> None:
    bank.subscribe("mail", _handler)
    with pytest.raises(ConfigurationError, match="two consumers are named 'mail'"):
        bank.subscribe("mail", _handler)
    with pytest.raises(ConfigurationError, match="is not one of this App's aggregates"):
        bank.subscribe("other", _handler, aggregates=[STRANGER])
    named: Any = ["bank_account"]
    with pytest.raises(ConfigurationError, match="'bank_account' is no Aggregate"):
        bank.subscribe("other", _handler, aggregates=named)
    with pytest.raises(ConfigurationError, match="int is no event of bank_account"):
        bank.subscribe("other", _handler, types=[int])
    with pytest.raises(ConfigurationError, match="'other' is none of its aggregates"):
        bank.subscribe("other", _handler, streams=["other-1"])
    with pytest.raises(ConfigurationError, match="two consumers are named 'balances'"):
        bank.subscribe("balances", _handler)
    with pytest.raises(ConfigurationError, match="no consumer 'nobody' in this App"):
        await bank.replay("nobody")


@pytest.mark.parametrize(
    ("consumers", "why"),
    [
        (
            {"subscriptions": [Subscription(name="mail", handler=_handler, types=[int])]},
            "subscription 'mail': int is no event of bank_account",
        ),
        (
            {"transactional": [TransactionalHandler(name="mail", handler=_write, types=[Deposit])]},
            "transactional handler 'mail': Deposit is no event of bank_account",
        ),
        (
            {"subscriptions": [Subscription(name="mail", handler=_handler, streams=["acc-1"])]},
            "no event of stream 'acc-1' would ever come",
        ),
        (
            {"subscriptions": [Subscription(name="mail", handler=_handler, aggregates=[STRANGER])]},
            "'stranger' is not one of the App's aggregates",
        ),
        (
            {"transactional": [TransactionalHandler(name="mail", handler=_write, aggregates=[STRANGER])]},
            "transactional handler 'mail': 'stranger' is not one of the App's aggregates",
        ),
    ],
)
def test_what_could_never_get_an_event_is_refused_when_the_app_is_built(consumers: Any, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        App(aggregates=[account], **consumers)


@pytest.mark.parametrize(
    ("consumers", "why"),
    [
        ({"subscriptions": [MAIL, MAIL]}, "two subscriptions are named 'mail'"),
        ({"transactional": [MAIL_TABLE, MAIL_TABLE]}, "two transactional handlers are named 'mail'"),
        (
            {"subscriptions": [MAIL], "transactional": [MAIL_TABLE]},
            "a subscription and a transactional handler are named 'mail'",
        ),
        (
            {"subscriptions": [MAIL], "projections": [MAIL_VIEWS]},
            "a projection and a subscription are named 'mail'",
        ),
        (
            {"subscriptions": [MAIL], "processes": [MAILING]},
            "a subscription and a process manager are named 'mail'",
        ),
        (
            {"projections": [MAIL_VIEWS], "processes": [MAILING]},
            "a projection and a process manager are named 'mail'",
        ),
    ],
)
def test_no_two_consumers_of_an_app_have_one_name(consumers: Any, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        App(aggregates=[account], **consumers)
