"""An event whose handler takes the whole process with it is found, because its attempts are counted before."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path

import pytest

from rehydrate import App, Park
from rehydrate.runtime.subscriber import DEATHS
from tests.bank import Deposit, account

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
