"""The same bank on `eventsourcing`, written as its documentation teaches, with its own event classes.

Of the forms that its documentation shows, this one, event classes with an `apply` and `trigger_event`, is the fastest:
the `@event` decorator costs about a fifth.
"""

from __future__ import annotations

from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate


class InsufficientFundsError(Exception): ...


class Account(Aggregate):
    """An account that refuses overdrafts."""

    def __init__(self) -> None:
        self.balance = 0
        self.changes = 0

    class Deposited(Aggregate.Event):
        amount: int

        def apply(self, aggregate: Account) -> None:
            aggregate.balance += self.amount
            aggregate.changes += 1

    class Withdrawn(Aggregate.Event):
        amount: int

        def apply(self, aggregate: Account) -> None:
            aggregate.balance -= self.amount
            aggregate.changes += 1

    def deposit(self, amount: int) -> None:
        self.trigger_event(self.Deposited, amount=amount)

    def withdraw(self, amount: int) -> None:
        if amount > self.balance:
            raise InsufficientFundsError
        self.trigger_event(self.Withdrawn, amount=amount)


class Bank(Application[UUID]):
    """The application service: one method per command."""

    def open_account(self, events: int) -> UUID:
        """An account with that many events, saved as one."""
        account = Account()
        for _ in range(events - 1):  # Its creation is the first one.
            account.deposit(1)
        self.save(account)
        return account.id

    def deposit(self, account_id: UUID, amount: int) -> int:
        account: Account = self.repository.get(account_id)
        account.deposit(amount)
        self.save(account)
        return account.version

    def withdraw(self, account_id: UUID, amount: int) -> int:
        account: Account = self.repository.get(account_id)
        account.withdraw(amount)
        self.save(account)
        return account.version

    def changes(self, account_id: UUID) -> int:
        account: Account = self.repository.get(account_id)
        return account.changes
