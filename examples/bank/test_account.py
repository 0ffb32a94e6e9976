"""The account by itself: no event loop, no store, no mock."""

from __future__ import annotations

import pytest

from examples.bank.account import (
    Account,
    AmountNotPositive,
    Command,
    Deposit,
    Deposited,
    InsufficientFunds,
    Withdraw,
    Withdrawn,
)
from examples.bank.app import bank_account
from rehydrate.testing import given


def test_a_deposit_is_recorded() -> None:
    given(bank_account).when(Deposit(100)).then(Deposited(100))


def test_a_withdrawal_within_the_balance_is_recorded() -> None:
    given(bank_account, Deposited(100)).when(Withdraw(100)).then(Withdrawn(100))


def test_an_overdraft_is_refused_with_its_facts() -> None:
    given(bank_account, Deposited(20)).when(Withdraw(30)).then_rejected(
        InsufficientFunds, balance=20, amount=30
    )


@pytest.mark.parametrize("command", [Deposit(0), Deposit(-1), Withdraw(0), Withdraw(-1)], ids=str)
def test_an_amount_that_is_not_positive_is_refused(command: Command) -> None:
    given(bank_account, Deposited(20)).when(command).then_rejected(AmountNotPositive)


def test_the_balance_is_what_came_in_less_what_went_out() -> None:
    given(bank_account, Deposited(100), Withdrawn(10)).then_state(Account(balance=90))
