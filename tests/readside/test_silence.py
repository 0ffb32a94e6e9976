"""Whether who runs a consumer is alive, as a list from outside tells it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from rehydrate import Runtime, open_store
from rehydrate.runtime.claim import CLAIM, ClaimRecord, read_claim
from rehydrate.runtime.control import ConsumerStatus, consumers_of
from rehydrate.runtime.tenure import sleep
from rehydrate.store.port import Checkpoint, Store
from rehydrate.testing import FakeClock, until
from tests.bank import Deposit, account
from tests.cli.terminal import BANK, as_input, deposit, typed
from tests.readside.ledger import app, balances

HOUR = 3_600_000_000


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = await open_store("memory://")
    yield store
    await store.close()


@pytest.fixture
async def bank(store: Store, fake_clock: FakeClock) -> AsyncIterator[Runtime]:
    async with app.open(store, clock=fake_clock) as bank:
        done = await bank.dispatch(account, "ada", Deposit(5))
        await bank.view(balances, "ada", at_least=done.position)
        yield bank


class Looked:
    """Somebody lists the consumers; whether he has to wait shows."""

    def __init__(self, store: Store, clock: FakeClock) -> None:
        self.told: list[str] = []
        self.looking = asyncio.create_task(consumers_of(store, clock, tell=self.told.append))

    async def status(self) -> ConsumerStatus:
        await until(self.looking.done)
        (status,) = await self.looking
        return status


async def is_held(store: Store, **fields: object) -> Checkpoint:
    """The claim says something else than its holder wrote last."""
    record = await store.load_checkpoint(CLAIM + balances.consumer)
    assert record is not None
    claim = msgspec.structs.replace(read_claim(record), **fields)
    changed = msgspec.structs.replace(record, epoch=record.epoch + 1, data=msgspec.json.encode(claim))
    assert await store.save_checkpoint(changed, previous=record)
    return changed


async def test_nobody_waits_to_see_who_is_alive_or_that_nobody_runs_it(
    store: Store, bank: Runtime, fake_clock: FakeClock
) -> None:
    await fake_clock.advance(25)
    looked = Looked(store, fake_clock)
    assert (await looked.status()).state == "running"
    await bank.close()
    looked = Looked(store, fake_clock)
    assert (await looked.status()).state == "idle"
    assert looked.told == []


async def dead(store: Store, clock: FakeClock) -> None:
    """It was run by somebody who is no more, and that was not long ago."""
    async with app.open(store, clock=clock) as bank:
        await bank.dispatch(account, "ada", Deposit(5))
        await bank.views(balances, at_least=1)
    await ClaimRecord(store, balances.consumer, "a holder", clock, 10.0).put_whatever_is_there("held")


async def test_one_whose_holder_died_is_silent_once_others_may_take_over(
    store: Store, fake_clock: FakeClock
) -> None:
    await dead(store, fake_clock)
    await fake_clock.advance(9)
    assert (await Looked(store, fake_clock).status()).state == "running"
    await fake_clock.advance(16)
    looked = Looked(store, fake_clock)
    await until(lambda: looked.told)
    assert looked.told == [
        "balances@1: whoever runs it gave no sign of life lately; watching for 5 s whether he does"
    ]
    await fake_clock.advance(4.8)
    assert not looked.looking.done()
    await fake_clock.advance(0.3)
    status = await looked.status()
    assert (status.state, status.rate, status.position) == ("silent", 0.0, 1)
    assert status.reason.startswith(
        "whoever runs it gave no sign of life for 30 s, and nobody has taken over"
    )


@pytest.mark.parametrize("skew", [HOUR, -HOUR])
async def test_another_clock_is_no_sign_of_death(
    store: Store, bank: Runtime, fake_clock: FakeClock, skew: int
) -> None:
    record = await is_held(store, beat_at=fake_clock.wall() + skew)
    looked = Looked(store, fake_clock)
    await until(lambda: looked.told)
    beat = msgspec.structs.replace(record, epoch=record.epoch + 1)
    assert await store.save_checkpoint(beat, previous=record)
    await fake_clock.advance(0.2)
    assert (await looked.status()).state == "running"


class Slow:
    """A store whose every answer is six seconds old."""

    def __init__(self, store: Store, clock: FakeClock) -> None:
        self._store = store
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def list_checkpoints(self) -> list[Checkpoint]:
        found = await self._store.list_checkpoints()
        await sleep(self._clock, 6)
        return found


async def test_a_look_that_takes_longer_than_the_watch_is_not_the_last(
    store: Store, fake_clock: FakeClock
) -> None:
    await dead(store, fake_clock)
    await fake_clock.advance(25)
    looked = Looked(cast("Store", Slow(store, fake_clock)), fake_clock)
    await fake_clock.advance(6.1)
    await until(lambda: looked.told)
    await is_held(store)
    while not looked.looking.done():
        await fake_clock.advance(1)
    assert (await looked.status()).state == "running"


async def test_a_claim_that_does_not_say_when_is_watched_as_long_as_others_wait(
    store: Store, fake_clock: FakeClock
) -> None:
    await dead(store, fake_clock)
    await is_held(store, beat_at=0, takeover_after=0.0)
    looked = Looked(store, fake_clock)
    await until(lambda: looked.told)
    await fake_clock.advance(9.8)
    assert not looked.looking.done()
    await fake_clock.advance(0.3)
    status = await looked.status()
    assert status.state == "silent"
    assert " for 10 s, " in status.reason


async def test_one_that_is_released_while_it_is_watched_is_idle(store: Store, fake_clock: FakeClock) -> None:
    await dead(store, fake_clock)
    await fake_clock.advance(25)
    looked = Looked(store, fake_clock)
    await until(lambda: looked.told)
    await is_held(store, standing="released")
    await fake_clock.advance(0.2)
    assert (await looked.status()).state == "idle"


async def test_a_rate_counts_while_it_is_recent(store: Store, bank: Runtime, fake_clock: FakeClock) -> None:
    for _ in range(3):
        await fake_clock.advance(2)
        done = await bank.dispatch(account, "ada", Deposit(5))
        await bank.views(balances, at_least=done.position)
    assert (await Looked(store, fake_clock).status()).rate > 0
    await fake_clock.advance(11)
    status = await Looked(store, fake_clock).status()
    assert (status.state, status.rate) == ("running", 0.0)


def test_one_whose_process_was_killed_is_shown_as_that(tmp_path: Path) -> None:
    url, log = f"sqlite:///{tmp_path}/bank.db", tmp_path / "log"
    typed("run", BANK, "--store", url, stdin=as_input([deposit("bob", 1), deposit("bob", 1)]))
    killed = subprocess.run([sys.executable, "-m", "tests.readside.poisoned", url, log, "stop"], check=False)
    assert killed.returncode == -9
    while (row := typed("subscriptions", "--store", url).answers[0])["state"] == "running":
        assert row["rate"] >= 0
    assert row["state"] == "silent"
    assert "whoever runs it gave no sign of life" in row["reason"]
    assert typed("projections", "--store", url).stderr.endswith("has no projections\n")
