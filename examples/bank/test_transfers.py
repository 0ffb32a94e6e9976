"""What moves the money, by itself: pure functions over values."""

from __future__ import annotations

from examples.bank.account import (
    AccountClosed,
    InsufficientFunds,
    MoneyReceived,
    MoneySent,
    MoneyTakenBack,
    ReceiveMoney,
    SendMoney,
    TakeBack,
)
from examples.bank.aggregates import bank_account, money_transfer
from examples.bank.transfer import Accepted, Complete, Expire, Expired, Fail, Requested
from examples.bank.transfers import PATIENCE, TIME_OUT, Cause, Moving, evolve, react
from rehydrate import Cancel, Rejected, Send

REQUESTED = Requested("t1", "ada", "bob", 30)
SENT = MoneySent("t1", 30)


def after(*events: Cause | Rejected) -> list[Send | Cancel]:
    """What follows from the last of these events."""
    moving = Moving()
    for event in events:
        moving = evolve(moving, event)
    return list(react(moving, events[-1]))


def test_a_request_takes_the_money_and_sets_a_time() -> None:
    assert after(REQUESTED) == [
        Send(bank_account, "ada", SendMoney("t1", 30)),
        Send(money_transfer, "t1", Expire(), after=PATIENCE, name=TIME_OUT),
    ]


def test_money_that_is_held_and_accepted_goes_to_its_target_whichever_came_first() -> None:
    onward = [Cancel(TIME_OUT), Send(bank_account, "bob", ReceiveMoney("t1", 30))]
    assert after(REQUESTED, SENT) == []
    assert after(REQUESTED, SENT, Accepted()) == onward
    assert after(REQUESTED, Accepted()) == []
    assert after(REQUESTED, Accepted(), SENT) == onward


def test_money_that_nobody_accepted_in_time_goes_back() -> None:
    back = [Send(bank_account, "ada", TakeBack("t1", 30))]
    assert after(REQUESTED, SENT, Expired()) == back
    # Also where it is taken after that.
    assert after(REQUESTED, Expired()) == []
    assert after(REQUESTED, Expired(), SENT) == back


def test_a_target_that_does_not_take_it_sends_it_back() -> None:
    refused = Rejected(Send(bank_account, "bob", ReceiveMoney("t1", 30)), AccountClosed())
    assert after(REQUESTED, SENT, Accepted(), refused) == [Send(bank_account, "ada", TakeBack("t1", 30))]


def test_a_source_without_funds_ends_it() -> None:
    refused = Rejected(
        Send(bank_account, "ada", SendMoney("t1", 30)), InsufficientFunds(balance=5, amount=30)
    )
    assert after(REQUESTED, refused) == [
        Cancel(TIME_OUT),
        Send(money_transfer, "t1", Fail("insufficient funds: balance 5, amount 30")),
    ]


def test_each_way_ends_with_an_outcome() -> None:
    assert after(REQUESTED, SENT, MoneyReceived("t1", 30)) == [Send(money_transfer, "t1", Complete())]
    failed = Fail("the money went back")
    assert after(REQUESTED, SENT, MoneyTakenBack("t1", 30)) == [Send(money_transfer, "t1", failed)]
