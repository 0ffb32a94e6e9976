"""Defects that stores have been seen with, and that these do not have; `tests/test_field_defects.py` has the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from rehydrate import VersionConflictError, open_store
from rehydrate.store.port import Checkpoint, ViewChange
from tests.bank import Account, Deposit, account, app
from tests.stand_ins import SHARED, deposited


def _place(position: int, epoch: int = 1) -> Checkpoint:
    return Checkpoint(name="balances", position=position, event_id=f"e{position}", epoch=epoch)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_checkpoints_outlive_whoever_saved_them(kind: str, tmp_path: Path) -> None:
    url = SHARED if kind == "memory" else f"sqlite:///{tmp_path}/bank.db"
    first, second = await open_store(url), await open_store(url)
    await first.save_checkpoint(_place(7), previous=None)
    await first.close()
    assert await second.load_checkpoint("balances") == _place(7)
    assert await second.save_checkpoint(_place(8), previous=_place(7))
    third = await open_store(url)
    await second.close()
    assert await third.load_checkpoint("balances") == _place(8)
    await third.close()


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_checkpoint_is_saved_with_its_views_or_not_at_all(kind: str, tmp_path: Path) -> None:
    store = await open_store("memory://" if kind == "memory" else f"sqlite:///{tmp_path}/bank.db")
    assert await store.save_checkpoint(_place(7), previous=None, views=[ViewChange("ada", b"7")])
    assert not await store.save_checkpoint(_place(9), previous=_place(6), views=[ViewChange("ada", b"9")])
    assert await store.load_checkpoint("balances") == _place(7)
    assert await store.load_view("balances", "ada") == b"7"
    await store.close()


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_an_append_that_is_refused_burns_no_position(kind: str, tmp_path: Path) -> None:
    store = await open_store("memory://" if kind == "memory" else f"sqlite:///{tmp_path}/bank.db")
    for number in range(1, 6):
        with pytest.raises(VersionConflictError):
            await store.append("s-1", [deposited(f"bad-{number}")], expected_version=90)
        appended = await store.append("s-1", [deposited(f"good-{number}")], expected_version=number - 1)
        assert appended.position == number
    await store.close()


async def test_what_is_called_durable_is(tmp_path: Path) -> None:
    for url in ("memory://", SHARED, f"sqlite:///{tmp_path}/bank.db"):
        async with app.open(url) as bank:
            await bank.dispatch(account, "ada", Deposit(1))
            durable = bank.store.capabilities.durable
        async with app.open(url) as bank:
            assert (await bank.state(account, "ada") == Account(1, 1)) is durable
    assert (tmp_path / "bank.db").exists()
