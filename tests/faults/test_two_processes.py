"""Two processes on one file: neither decides on a state older than what the other has acknowledged."""

from __future__ import annotations

import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from rehydrate import open_store
from tests.faults.workers import Worker, working

ROUNDS = 1_000


async def _seen_by(asker: Worker, number: int, id: str) -> int:
    balance = (await asker.ask(n=number, id=id))["balance"]
    assert isinstance(balance, int)
    return balance


async def test_what_one_process_acknowledged_the_other_decides_on(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/bank.db"
    seed = random.randrange(2**32)
    sys.stdout.write(f"seed {seed}\n")
    lots = random.Random(seed)
    async with working(url) as ada, working(url) as bob:
        balances = dict.fromkeys(("one", "two", "three"), 0)
        for number in range(ROUNDS):
            writer, other = lots.sample((ada, bob), 2)
            id = lots.choice(list(balances))
            amount = lots.randrange(1, 10)
            done = await writer.ask(n=number, id=id, amount=amount, command_id=f"in-{number}")
            assert "error" not in done
            balances[id] += amount
            match lots.randrange(3):
                case 0:
                    assert await _seen_by(other, number, id) == balances[id]
                case 1:
                    # Only whoever knows of the deposit can pay this out.
                    paid = await other.ask(n=number, id=id, amount=-balances[id], command_id=f"out-{number}")
                    assert "error" not in paid
                    balances[id] = 0
                case _:
                    # Whoever does not know of it would refuse with an older balance; nobody may accept.
                    refused = await other.ask(
                        n=number, id=id, amount=-balances[id] - 1, command_id=f"no-{number}"
                    )
                    assert refused["error"] == "InsufficientFunds"


async def test_a_stopped_process_holds_up_nobody_and_goes_on_where_it_was(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/bank.db"
    async with working(url) as ada, working(url) as bob:
        for number in range(100):
            ada.send(n=number, id="one", amount=1, command_id=f"ada-{number}")
        assert await ada.hear() is not None
        ada.stop()
        told = await bob.ask(n=0, id="two", amount=1, command_id="bob-0")
        if told.get("error") == "StoreUnavailableError":
            # It was stopped inside its commit, which SQLite declares to hold up others until it goes on.
            ada.go_on()
            told = await bob.ask(n=0, id="two", amount=1, command_id="bob-0")
        assert told["version"] == 1
        for number in range(20):
            assert "error" not in await bob.ask(n=number, id="one", amount=1, command_id=f"bob-one-{number}")
        ada.go_on()
        for _ in range(99):
            answer = await ada.hear()
            assert answer is not None
            assert "error" not in answer
        assert await _seen_by(bob, 0, "one") == 120
        await ada.finish()
        await bob.finish()


async def test_a_process_that_ends_under_load_answers_everybody_first(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/bank.db"
    async with working(url) as ada:
        for number in range(500):
            ada.send(n=number, id=f"a{number % 7}", amount=1, command_id=f"c{number}")
        await ada.finish()
        answers = [answer async for answer in _rest(ada)]
    assert sorted(answer["n"] for answer in answers) == list(range(500))
    store = await open_store(url)
    assert (await store.head()).position == 500
    await store.close()


async def _rest(worker: Worker) -> AsyncIterator[dict[str, Any]]:
    while (answer := await worker.hear()) is not None:
        yield answer
