"""The log as it is afterwards: `python -m tests.faults.cluster.reading STORE FILE` writes it as JSON.

And every account is asked for: its state has to be what its events make it.
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from pathlib import Path

import msgspec

from rehydrate import open_store
from rehydrate.runtime.window import metadata_in
from rehydrate.store.port import StoredEvent
from tests.faults.cluster.bank import Account, account, app
from tests.faults.cluster.history import Entry


class _Body(msgspec.Struct):
    amount: int


def entry(event: StoredEvent) -> Entry:
    amount = msgspec.json.decode(event.data, type=_Body).amount
    return Entry(
        position=event.position,
        account=event.stream.partition("-")[2],
        version=event.version,
        command_id=metadata_in(event).command_id,
        amount=-amount if event.type == "Withdrawn" else amount,
    )


async def main(url: str, path: Path) -> None:
    store = await open_store(url)
    log: list[Entry] = []
    after, is_last = 0, False
    while not is_last:
        page = await store.read_all(after=after)
        log += map(entry, page.events)
        after, is_last = page.position, page.is_last
    balances: defaultdict[str, list[int]] = defaultdict(list)
    for one in log:
        balances[one.account].append(one.amount)
    async with app.open(store) as bank:
        for name, amounts in balances.items():
            state = await bank.state(account, name)
            assert state == Account(sum(amounts), len(amounts)), (
                f"{name} is {state}, and not what its events say"
            )
    await store.close()
    path.write_bytes(msgspec.json.encode(log))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
