"""Commands that a process manager sends are stored: they come back as they were, also for later code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from rehydrate import (
    Aggregate,
    App,
    EventEnvelope,
    Park,
    ProcessManager,
    Rejected,
    Send,
    open_store,
)
from rehydrate.store.port import Store
from rehydrate.testing import Happened, given
from rehydrate.testing.clock import until
from tests.bank import Deposit, Deposited, Event, account
from tests.processes.test_process import at_rest, types_in


@pytest.fixture
async def store() -> Any:
    store = await open_store("memory://")
    yield store
    await store.close()


@dataclass(frozen=True, slots=True)
class Pay:
    price: Decimal


@dataclass(frozen=True, slots=True)
class Paid:
    price: Decimal


def decide_till(_total: Decimal, command: Pay) -> Iterable[Paid]:
    yield Paid(command.price)


def evolve_till(total: Decimal, event: Paid) -> Decimal:
    return total + event.price


till = Aggregate(
    name="till", initial=Decimal(0), decide=decide_till, evolve=evolve_till, commands=Pay, events=Paid
)


def of_account(envelope: EventEnvelope[Event]) -> str | None:
    return envelope.aggregate_id


def number(count: int, _event: Event | Rejected) -> int:
    return count + 1


def paying(price: Any, **fields: Any) -> ProcessManager[int, Event]:
    """One that pays this at each deposit, whatever it is."""

    def react(_count: int, event: Event | Rejected) -> Iterable[Send]:
        if isinstance(event, Deposited):
            yield Send(till, "t", Pay(price), **fields)

    return ProcessManager(
        name="paying",
        initial=0,
        correlate=of_account,
        evolve=number,
        react=react,
        sources=[account],
        on_error=Park(),
    )


@pytest.mark.parametrize(
    ("price", "why"),
    [
        (None, "cannot be stored: ValidationError: "),
        ("dear", "cannot be stored: ValidationError: "),
        (0.1, "cannot be stored: TypeError: "),
        (0.5, "cannot be stored: TypeError: "),
        (1j, "cannot be stored: TypeError: "),
        ("1.5", "does not come back as it was: price: '1.5' came back as Decimal('1.5')"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("fields", [{}, {"after": timedelta(days=1)}], ids=["at once", "timer"])
async def test_a_command_that_would_not_come_back_is_a_mistake_of_react(
    store: Store, price: Any, why: str, fields: dict[str, Any]
) -> None:
    process = paying(price, **fields)
    async with App(aggregates=[account, till], processes=[process]).open(store) as bank:
        await bank.dispatch(account, "a", Deposit(1))
        await until(lambda: bank.statistics().consumers[0].parked == 1)
        (parked,) = await bank.parked("paying:events")
        assert "paying: the command of Send(till, 't', Pay(price=" in parked.reason
        assert why in parked.reason
    assert await types_in(store, "paying-a") == []
    with pytest.raises(AssertionError) as failure:
        given(process, Happened(account, "a", Deposited(1)))
    assert str(failure.value) in parked.reason


async def test_what_comes_back_is_sent(store: Store) -> None:
    async with App(aggregates=[account, till], processes=[paying(Decimal("0.5"))]).open(store) as bank:
        await bank.dispatch(account, "a", Deposit(1))
        await at_rest(bank)
        assert await bank.state(till, "t") == Decimal("0.5")
