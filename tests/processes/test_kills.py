"""A bank whose processes die between any two steps of a transfer: no money is lost, none is made, nothing comes twice."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from examples.bank.app import app, bank_account
from rehydrate import open_store
from rehydrate.store.port import StoredEvent
from rehydrate.testing.conformance.moves import check_moves
from rehydrate.testing.conformance.process_managers import killed_one_after_the_other
from tests.processes.crash_worker import ACCOUNTS, CLOSED, OTHERS, START

ROOT = Path(__file__).parents[2]


async def run_until_killed(
    url: str, first: int, step: int, most: int, with_signal: int = signal.SIGKILL
) -> int:
    """How many processes were killed, or stood still."""
    worker = await asyncio.create_subprocess_exec(
        sys.executable,
        *(
            "-W",
            "ignore",
            "-m",
            "tests.processes.crash_worker",
            url,
            *map(str, (first, step, most, int(with_signal))),
        ),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await worker.communicate()
    assert worker.returncode == 0, err.decode()
    killed: int = msgspec.json.decode(out.splitlines()[-1])["killed"]
    return killed


async def money_is_conserved(url: str) -> None:
    async with app.open(url, consumers=False) as bank:
        balances = {id: (await bank.state(bank_account, id)).balance for id in (*ACCOUNTS, CLOSED)}
        log = await whole_log(bank.store)
    rounds = sum(1 for event in log if event.type == "Deposited") - len(ACCOUNTS)
    assert rounds % OTHERS == 0
    held = 0
    moved: dict[str, Counter[str]] = {}
    for event in log:
        if event.type in {"MoneySent", "MoneyReceived", "MoneyTakenBack"}:
            facts = msgspec.json.decode(event.data)
            moved.setdefault(facts["transfer"], Counter())[event.type] += 1
            held += facts["amount"] if event.type == "MoneySent" else -facts["amount"]
    # Whatever is neither here nor there is on its way.
    assert sum(balances.values()) + held == START * len(ACCOUNTS) + rounds
    accepted = {event.stream.partition("-")[2] for event in log if event.type == "Accepted"}
    settled = Counter(
        event.stream.partition("-")[2] for event in log if event.type in {"Completed", "Failed"}
    )
    for transfer, steps in moved.items():
        # It may still wait for a receiver who did not come to accept it: then the money is held.
        expected = {"MoneySent": 1, ("MoneyReceived" if steps["MoneyReceived"] else "MoneyTakenBack"): 1}
        assert dict(steps) == (expected if transfer in accepted else {"MoneySent": 1}), transfer
    # Each transfer that was accepted has come to its end, once.
    assert settled.keys() >= accepted
    assert set(settled.values()) == {1}
    handled = Counter(
        (event.stream, msgspec.json.decode(event.data)["event_id"])
        for event in log
        if event.type == "rehydrate.Handled"
    )
    assert set(handled.values()) == {1}


async def whole_log(store: Any) -> list[StoredEvent]:
    events: list[StoredEvent] = []
    after = 0
    while True:
        page = await store.read_all(after=after)
        events += page.events
        if page.is_last:
            return events
        after = page.position


async def test_killed_between_steps_on_sqlite(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'bank.db'}"
    assert await run_until_killed(url, 3, 14, 100) >= 3
    await money_is_conserved(url)


@pytest.mark.slow
@pytest.mark.parametrize("first", [1, 2])
async def test_killed_between_every_two_steps_on_sqlite(tmp_path: Path, first: int) -> None:
    url = f"sqlite:///{tmp_path / 'bank.db'}"
    assert await run_until_killed(url, first, 2, 100) > 20
    await money_is_conserved(url)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["postgres", "mongodb", "nats"])
async def test_killed_between_many_steps_on_servers(kind: str, request: pytest.FixtureRequest) -> None:
    url: str = request.getfixturevalue(f"{kind}_url")
    assert await run_until_killed(url, 1, 3, 100) > 10
    await money_is_conserved(url)


# Not on SQLite: a process that is stopped inside its commit holds the lock of the file.
@pytest.mark.parametrize("kind", ["postgres", "nats"])
async def test_processes_that_stood_still_and_wake_after_another_has_taken_over(
    kind: str, request: pytest.FixtureRequest
) -> None:
    url: str = request.getfixturevalue(f"{kind}_url")
    assert await run_until_killed(url, 13, 1, 1, signal.SIGSTOP) == 1
    await money_is_conserved(url)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["postgres", "mongodb", "nats"])
async def test_processes_that_stood_still_on_servers(kind: str, request: pytest.FixtureRequest) -> None:
    url: str = request.getfixturevalue(f"{kind}_url")
    assert await run_until_killed(url, 2, 4, 100, signal.SIGSTOP) > 5
    await money_is_conserved(url)


@pytest.mark.parametrize("moment", ["rehydrate.Due", "Rung"])
async def test_killed_when_a_timer_is_due_and_when_its_command_is_sent(tmp_path: Path, moment: str) -> None:
    url = f"sqlite:///{tmp_path / 'purses.db'}"
    opener = "rehydrate.store.url:open_store"
    # Right before the append, and right after it was acknowledged.
    assert await killed_one_after_the_other(opener, url, "1", moment) == 2
    store = await open_store(url)
    done = check_moves(await whole_log(store))
    assert done["Given"] == done["rehydrate.Due"] == done["Rung"] == 3
    await store.close()
