"""The read side without an event loop."""

from __future__ import annotations

from pathlib import Path
from threading import Event as Flag

import pytest

from rehydrate import EventEnvelope, Park, Projection, ProjectionBuildingError, SyncRuntime
from rehydrate.testing.clock import HANG_LIMIT
from tests.bank import Deposit, Event, Withdraw, account
from tests.readside.ledger import Balance, app, balances


def test_views_are_read_by_threads(tmp_path: Path) -> None:
    with app.open_sync(f"sqlite:///{tmp_path}/bank.db") as bank:
        done = bank.dispatch(account, "ada", Deposit(5))
        assert bank.view(balances, "ada", at_least=done.position) == Balance(5, 1)
        assert bank.views(balances) == [("ada", Balance(5, 1))]
        assert [one.name for one in bank.statistics().consumers] == ["balances@1"]
    with app.open_sync(f"sqlite:///{tmp_path}/other.db", consumers=False) as bank:
        bank.dispatch(account, "ada", Deposit(5))
        with pytest.raises(ProjectionBuildingError):
            bank.view(balances, "ada")


def test_a_plain_handler_may_send_commands(tmp_path: Path) -> None:
    with app.open_sync(f"sqlite:///{tmp_path}/bank.db") as bank:
        answered = Flag()

        def handler(envelope: EventEnvelope[Event]) -> None:
            if envelope.aggregate_id == "ada":
                bank.dispatch(account, "eve", Deposit(1), command_id=envelope.id)
                answered.set()

        bank.subscribe("interest", handler)
        bank.dispatch(account, "ada", Deposit(5))
        assert answered.wait(HANG_LIMIT)
        assert bank.state(account, "eve").balance == 1


def test_what_is_parked_is_replayed_and_dropped(tmp_path: Path) -> None:
    fails, seen = Flag(), Flag()
    fails.set()

    def handler(envelope: EventEnvelope[Event]) -> None:
        seen.set()
        if fails.is_set():
            raise RuntimeError("cannot")

    with app.open_sync(f"sqlite:///{tmp_path}/bank.db") as bank:
        bank.subscribe("mail", handler, on_error=Park())
        bank.dispatch(account, "ada", Deposit(5))
        assert seen.wait(HANG_LIMIT)
        _until_parked(bank, 1)
        assert bank.replay("mail") == 0
        fails.clear()
        assert bank.replay("mail") == 1
        assert bank.drop("mail") == 0


def _until_parked(bank: SyncRuntime, count: int) -> None:
    while len(bank.parked("mail")) < count:
        pass


def test_types_of_views_are_inferred(tmp_path: Path) -> None:
    """For the type checkers more than for this run."""
    projection: Projection[Balance, Event] = balances
    with app.open_sync(f"sqlite:///{tmp_path}/bank.db") as bank:
        bank.dispatch(account, "ada", Deposit(5))
        done = bank.dispatch(account, "ada", Withdraw(2))
        view: Balance = bank.view(projection, "ada", at_least=done.position)
        assert view.amount + bank.view(balances, "ada").amount == 6
