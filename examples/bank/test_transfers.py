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
from examples.bank.transfers import PATIENCE, TIME_OUT, transfers
from rehydrate import Cancel, Send
from rehydrate.testing import Happened, given

REQUESTED = Happened(money_transfer, "t1", Requested("t1", "ada", "bob", 30))
ACCEPTED = Happened(money_transfer, "t1", Accepted())
EXPIRED = Happened(money_transfer, "t1", Expired())
SENT = Happened(bank_account, "ada", MoneySent("t1", 30))

TAKE = Send(bank_account, "ada", SendMoney("t1", 30))
EXPIRE = Send(money_transfer, "t1", Expire(), after=PATIENCE, name=TIME_OUT)
GIVE = Send(bank_account, "bob", ReceiveMoney("t1", 30))
GIVE_BACK = Send(bank_account, "ada", TakeBack("t1", 30))


def test_a_request_takes_the_money_and_sets_a_time() -> None:
    given(transfers, REQUESTED).then(TAKE, EXPIRE).then_timers("t1", EXPIRE)


def test_money_that_is_held_and_accepted_goes_to_its_target_whichever_came_first() -> None:
    requested = given(transfers, REQUESTED)
    requested.when(SENT).then().when(ACCEPTED).then(Cancel(TIME_OUT), GIVE).then_timers("t1")
    requested.when(ACCEPTED).then().when(SENT).then(Cancel(TIME_OUT), GIVE).then_timers("t1")


def test_money_that_nobody_accepted_in_time_goes_back() -> None:
    requested = given(transfers, REQUESTED)
    requested.when(SENT).then().when(EXPIRED).then(GIVE_BACK)
    # Also where it is taken after that.
    requested.when(EXPIRED).then().when(SENT).then(GIVE_BACK)


def test_a_target_that_does_not_take_it_sends_it_back() -> None:
    given(transfers, REQUESTED, SENT, ACCEPTED).when_refused(GIVE, AccountClosed()).then(GIVE_BACK)


def test_a_source_without_funds_ends_it() -> None:
    given(transfers, REQUESTED).when_refused(TAKE, InsufficientFunds(balance=5, amount=30)).then(
        Cancel(TIME_OUT),
        Send(money_transfer, "t1", Fail("insufficient funds: balance 5, amount 30")),
    ).then_timers("t1")


def test_each_way_ends_with_an_outcome() -> None:
    held = given(transfers, REQUESTED, SENT)
    held.when(Happened(bank_account, "bob", MoneyReceived("t1", 30))).then(
        Send(money_transfer, "t1", Complete())
    )
    held.when(Happened(bank_account, "ada", MoneyTakenBack("t1", 30))).then(
        Send(money_transfer, "t1", Fail("the money went back"))
    )
