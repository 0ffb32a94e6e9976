"""An event whose handler takes the whole process with it is found, because its attempts are counted before."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rehydrate import App, Park, Runtime, open_store
from rehydrate.runtime.deaths import DEATHS
from rehydrate.testing import FakeClock
from rehydrate.testing.clock import until
from rehydrate.testing.conformance.mortal import MortalStore
from tests.bank import Deposit, account
from tests.readside.deadly_fold import POISON, app_with, has_ended

app = App(aggregates=[account])


@pytest.mark.parametrize("policy", ["park", "stop"])
async def test_an_event_that_kills_its_process_meets_the_policy_in_the_end(
    tmp_path: Path, policy: str
) -> None:
    url, log = f"sqlite:///{tmp_path}/bank.db", tmp_path / "log"
    async with app.open(url) as bank:
        for version in range(1, 4):
            for id in ("ada", "bob"):
                await bank.dispatch(account, id, Deposit(version))
    killed = 0
    while True:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.readside.poisoned", url, log, policy),
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await process.communicate()
        if process.returncode == 0:
            break
        killed += 1
        assert killed <= DEATHS + 1, "one attempt in a hurry, then so many that are counted"
    handled = Counter(log.read_text().splitlines())
    assert handled["bank_account-bob 2"] == killed == DEATHS + 1
    state, parked, *reason = said.decode().split()
    assert f"{DEATHS} processes ended while they handled it" in " ".join(reason) or policy == "park"
    if policy == "stop":
        assert (state, parked) == ("stopped", "0")
        assert handled["bank_account-ada 3"] == 0
        # The next start is a new try: code that is mended goes on.
        async with app.open(url) as bank:
            subscribed = bank.subscribe("mail", lambda envelope: None)
            await until(lambda: subscribed.statistics().position == 6)
        return
    assert (state, parked) == ("running", "2")
    assert handled["bank_account-ada 3"] == 1
    async with app.open(url, consumers=False) as bank:
        bank.subscribe("mail", lambda envelope: None, on_error=Park())
        assert [(one.stream, one.version) for one in await bank.parked("mail")] == [
            ("bank_account-bob", 2),
            ("bank_account-bob", 3),
        ]
        assert await bank.replay("mail") == 2


AMOUNTS = (("bob", 1), ("ada", 2), ("bob", POISON), ("ada", 4), ("bob", 5))


async def test_an_event_whose_fold_kills_its_process_meets_the_policy_in_the_end(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/bank.db"
    async with app.open(url) as bank:
        for id, amount in AMOUNTS:
            await bank.dispatch(account, id, Deposit(amount))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-m", "tests.readside.deadly_fold", url),
        stdout=asyncio.subprocess.PIPE,
    )
    died, _ = await process.communicate()
    # Two that did not know yet that it is one of the events.
    assert int(died) == 2 + DEATHS
    mended = app_with("park")
    async with mended.open(url, consumers=False) as bank:
        assert await seen_in(bank) == {"bob": (1,), "ada": (2, 4)}
        assert await bank.replay("seen") == 2
        assert await seen_in(bank) == {"bob": (1, POISON, 5), "ada": (2, 4)}


@pytest.mark.parametrize(
    ("policy", "where", "deaths", "seen"),
    [
        ("park", "evolve", DEATHS, {"bob": (1,), "ada": (2, 4)}),
        ("skip", "evolve", DEATHS, {"bob": (1, 5), "ada": (2, 4)}),
        ("stop", "evolve", DEATHS, None),
        # Whose later events would have to wait cannot be told, so it stops.
        ("park", "key", DEATHS + 1, None),
    ],
)
async def test_it_meets_each_policy_and_is_tried_anew_by_the_next_start(
    fake_clock: FakeClock, policy: str, where: str, deaths: int, seen: dict[str, tuple[int, ...]] | None
) -> None:
    store = await open_store("memory://")
    async with app.open(store) as bank:
        for id, amount in AMOUNTS:
            await bank.dispatch(account, id, Deposit(amount))
    died = 0
    while True:
        mortal: Any = MortalStore(store, sys.maxsize)
        deadly = app_with(policy, where, mortal.kill)
        async with deadly.open(mortal, clock=fake_clock) as bank:
            while not mortal.is_dead and not has_ended(bank, len(AMOUNTS)):
                await fake_clock.advance(1)
            if not mortal.is_dead:
                break
        died += 1
    assert died == 2 + deaths
    if seen is None:
        assert f"{deaths} processes ended while they handled it" in bank.statistics().consumers[0].reason
    else:
        async with app_with(policy).open(store, consumers=False) as bank:
            assert await seen_in(bank) == seen
    async with app_with(policy).open(store) as bank:
        await until(lambda: bank.statistics().consumers[0].position == len(AMOUNTS))
        await bank.replay("seen")
        assert (await seen_in(bank))["bob"] == ((1, 5) if policy == "skip" else (1, POISON, 5))
    await store.close()


async def seen_in(bank: Runtime) -> dict[str, tuple[int, ...]]:
    place = await bank.store.list_views("seen@1")
    return {key: tuple(json.loads(data)["amounts"]) for key, data in place if key in {"ada", "bob"}}
