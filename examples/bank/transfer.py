"""A transfer of money, as somebody asks for it: the domain. What moves the money is in `transfers`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeAlias, assert_never

from rehydrate import Rejection


class Standing(Enum):
    NEW = "new"
    REQUESTED = "requested"
    ACCEPTED = "accepted"
    EXPIRED = "expired"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Request:
    transfer: str
    """Its own id: what follows from the event is said by the event."""
    source: str
    target: str
    amount: int


@dataclass(frozen=True, slots=True)
class Accept:
    """The receiver wants the money."""


@dataclass(frozen=True, slots=True)
class Expire:
    """The receiver did not answer in time."""


@dataclass(frozen=True, slots=True)
class Complete:
    """The money has arrived."""


@dataclass(frozen=True, slots=True)
class Fail:
    """No money has moved, or it is back."""

    reason: str


Command: TypeAlias = Request | Accept | Expire | Complete | Fail


@dataclass(frozen=True, slots=True)
class Requested:
    transfer: str
    source: str
    target: str
    amount: int


@dataclass(frozen=True, slots=True)
class Accepted:
    pass


@dataclass(frozen=True, slots=True)
class Expired:
    pass


@dataclass(frozen=True, slots=True)
class Completed:
    pass


@dataclass(frozen=True, slots=True)
class Failed:
    reason: str


Event: TypeAlias = Requested | Accepted | Expired | Completed | Failed


class NotPossible(Rejection):
    """The transfer is not where that could be done."""


@dataclass(frozen=True, slots=True)
class Transfer:
    standing: Standing = Standing.NEW
    reason: str = ""


def decide(transfer: Transfer, command: Command) -> Iterable[Event]:
    """What a command leads to, or why it is refused."""
    standing = transfer.standing
    match command:
        case Request(transfer_id, source, target, amount):
            if standing is not Standing.NEW or amount <= 0:
                raise NotPossible(standing=standing.value, amount=amount)
            yield Requested(transfer_id, source, target, amount)
        case Accept():
            if standing is not Standing.REQUESTED:
                raise NotPossible(standing=standing.value)
            yield Accepted()
        case Expire():
            # It may have been accepted at the last moment: then this comes too late, and changes nothing.
            if standing is Standing.REQUESTED:
                yield Expired()
        case Complete():
            yield Completed()
        case Fail(reason):
            yield Failed(reason)
        case _:
            assert_never(command)


def evolve(transfer: Transfer, event: Event) -> Transfer:
    """What a transfer is after an event."""
    match event:
        case Requested():
            return replace(transfer, standing=Standing.REQUESTED)
        case Accepted():
            return replace(transfer, standing=Standing.ACCEPTED)
        case Expired():
            return replace(transfer, standing=Standing.EXPIRED)
        case Completed():
            return replace(transfer, standing=Standing.COMPLETED)
        case Failed(reason):
            return replace(transfer, standing=Standing.FAILED, reason=reason)
        case _:
            assert_never(event)
