"""Closing a runtime under load answers everybody, and what it answered is true."""

from __future__ import annotations

import random

from rehydrate import open_store
from rehydrate.runtime.window import metadata_in
from rehydrate.store.port import StoredEvent
from tests.faults.worker import Close, Refused, Run, Stored
from tests.faults.workers import workers_on

COMMANDS = 1_500


async def test_closing_a_runtime_under_load_answers_everybody(url: str, chance: random.Random) -> None:
    orders = [
        Run(id=f"c{n}", account=f"account{chance.randrange(20)}", amount=chance.randint(-9, 9) or 1)
        for n in range(COMMANDS)
    ]
    async with workers_on(url) as workers:
        worker, other = await workers.start(), await workers.start()
        await worker.ready()
        await other.ready()
        # Both work on the same accounts, so that closing meets conflicts, too.
        enough = chance.randrange(COMMANDS // 2, COMMANDS)
        other.order(*orders[1::2])
        worker.order(*orders[:enough:2], Close(), *orders[enough::2])
        await worker.ended()
        other.order(Close())
        await other.ended()
        assert worker.is_closed
        assert other.is_closed
    assert worker.answers.keys() == {order.id for order in orders[:enough:2]}
    assert other.answers.keys() == {order.id for order in orders[1::2]}
    stored: dict[str, StoredEvent] = {}
    store = await open_store(url)
    for event in (await store.read_all(limit=COMMANDS)).events:
        assert stored.setdefault(metadata_in(event).command_id, event) is event, "it is there twice"
    await store.close()
    for id, answer in (worker.answers | other.answers).items():
        if isinstance(answer, Stored):
            event = stored.pop(id)
            assert (event.version, event.position) == (answer.version, answer.position)
        else:
            assert isinstance(answer, Refused)
            assert answer.is_rejection or answer.error in {"StoreClosedError", "VersionConflictError"}, answer
    assert not stored, "it was refused, and is there"
