"""What moves the money of a transfer, from account to account: a process manager. Pure, like the rest of the domain.

The money is taken from its source at once, waits for the receiver, and goes to the target, or back: when the receiver
does not answer within a day, or the target does not take it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeAlias

from examples.bank import account
from examples.bank.account import MoneyReceived, MoneySent, MoneyTakenBack, ReceiveMoney, SendMoney, TakeBack
from examples.bank.aggregates import bank_account, money_transfer
from examples.bank.transfer import Accepted, Complete, Event, Expire, Expired, Fail, Requested
from rehydrate import Cancel, EventEnvelope, ProcessManager, Rejected, Send

PATIENCE = timedelta(days=1)
TIME_OUT = "time-out"

Cause: TypeAlias = account.Event | Event


@dataclass(frozen=True, slots=True)
class Moving:
    """How far a transfer has come."""

    id: str = ""
    source: str = ""
    target: str = ""
    amount: int = 0
    is_held: bool = False
    """The money has left its source."""
    is_accepted: bool = False
    is_expired: bool = False


def correlate(envelope: EventEnvelope[Cause]) -> str | None:
    """The transfer that an event is about."""
    match envelope.event:
        case MoneySent(transfer) | MoneyReceived(transfer) | MoneyTakenBack(transfer):
            return transfer
        case _:
            return envelope.aggregate_id if envelope.aggregate == money_transfer.name else None


def evolve(moving: Moving, event: Cause | Rejected) -> Moving:
    """How far it is after an event."""
    match event:
        case Requested(transfer, source, target, amount):
            return replace(moving, id=transfer, source=source, target=target, amount=amount)
        case MoneySent():
            return replace(moving, is_held=True)
        case Accepted():
            return replace(moving, is_accepted=True)
        case Expired():
            return replace(moving, is_expired=True)
        case _:
            return moving


def react(moving: Moving, event: Cause | Rejected) -> Iterable[Send | Cancel]:
    """What follows from an event."""
    match event:
        case Requested(transfer, source, _, amount):
            yield Send(bank_account, source, SendMoney(transfer, amount))
            yield Send(money_transfer, transfer, Expire(), after=PATIENCE, name=TIME_OUT)
        case MoneySent() | Accepted() | Expired() if moving.is_held:
            yield from _onward(moving)
        case Rejected(Send(command=SendMoney(transfer)), no):
            yield Cancel(TIME_OUT)
            yield Send(money_transfer, transfer, Fail(str(no)))
        case Rejected(Send(command=ReceiveMoney(transfer, amount)), _):
            yield Send(bank_account, moving.source, TakeBack(transfer, amount))
        case MoneyReceived(transfer):
            yield Send(money_transfer, transfer, Complete())
        case MoneyTakenBack(transfer):
            yield Send(money_transfer, transfer, Fail("the money went back"))
        case _:
            pass


def _onward(moving: Moving) -> Iterable[Send | Cancel]:
    """Where the money goes that has left its source."""
    if moving.is_accepted:
        yield Cancel(TIME_OUT)
        yield Send(bank_account, moving.target, ReceiveMoney(moving.id, moving.amount))
    elif moving.is_expired:
        yield Send(bank_account, moving.source, TakeBack(moving.id, moving.amount))


transfers = ProcessManager(
    name="transfers",
    initial=Moving(),
    correlate=correlate,
    evolve=evolve,
    react=react,
    sources=[bank_account, money_transfer],
)
