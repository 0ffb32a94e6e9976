"""The same bank on `eventsourcing` with msgspec Structs as events: the recipe that its documentation gives for speed.

The library itself brings no such classes; who wants them writes this module.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, cast
from uuid import UUID, uuid4

import msgspec
from eventsourcing.application import Application
from eventsourcing.domain import (
    BaseAggregate,
    CanInitAggregate,
    CanMutateAggregate,
    DomainEventProtocol,
    datetime_now_with_tzinfo,
)
from eventsourcing.persistence import Mapper, StoredEvent, Transcoder
from eventsourcing.utils import get_topic, resolve_topic

from bench.peer_bank import InsufficientFundsError


class DomainEvent(msgspec.Struct, frozen=True, kw_only=True):
    originator_id: UUID
    originator_version: int
    timestamp: datetime = msgspec.field(default_factory=datetime_now_with_tzinfo)


class AggregateEvent(DomainEvent, CanMutateAggregate[UUID], frozen=True):
    def _as_dict(self) -> dict[str, Any]:
        return {field: getattr(self, field) for field in self.__struct_fields__}


class Aggregate(BaseAggregate[UUID]):
    @staticmethod
    def create_id(*_: Any, **__: Any) -> UUID:
        return uuid4()

    class Event(AggregateEvent, frozen=True): ...

    class Created(Event, CanInitAggregate[UUID], frozen=True):
        originator_topic: str


class StructMapper(Mapper[UUID]):
    """Events to bytes and back by msgspec, without the detour over a dictionary."""

    def to_stored_event(self, domain_event: DomainEventProtocol[UUID]) -> StoredEvent:
        return StoredEvent(
            originator_id=domain_event.originator_id,
            originator_version=domain_event.originator_version,
            topic=get_topic(domain_event.__class__),
            state=msgspec.json.encode(domain_event),
        )

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[UUID]:
        event = msgspec.json.decode(stored_event.state, type=resolve_topic(stored_event.topic))
        return cast(DomainEventProtocol[UUID], event)


class NoTranscoder(Transcoder):
    """Has to be there, and is not asked."""

    def encode(self, obj: Any) -> bytes:
        raise NotImplementedError

    def decode(self, data: bytes) -> Any:
        raise NotImplementedError


class Account(Aggregate):
    """An account that refuses overdrafts."""

    def __init__(self) -> None:
        self.balance = 0
        self.changes = 0

    class Deposited(Aggregate.Event, frozen=True):
        amount: int

        def apply(self, aggregate: Account) -> None:
            aggregate.balance += self.amount
            aggregate.changes += 1

    class Withdrawn(Aggregate.Event, frozen=True):
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

    env: ClassVar[dict[str, str]] = {
        "MAPPER_TOPIC": get_topic(StructMapper),
        "TRANSCODER_TOPIC": get_topic(NoTranscoder),
    }

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
