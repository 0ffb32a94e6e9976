"""A process that is a node of a cluster: `python -m tests.cluster.bank_node STORE CLUSTER`.

It takes orders as `tests.faults.worker` does. Its commands have no ids of their own; the id of the order goes into the
metadata of the events, so that the log tells how often each was stored.
"""

from __future__ import annotations

import asyncio
import sys

import msgspec

from rehydrate import RehydrateError, Rejection, Runtime
from tests.bank import account, app
from tests.faults.worker import Ask, Close, Closed, Order, Ready, Refused, Run, Shown, Stored, tell


async def carry_out(bank: Runtime, order: Run | Ask) -> None:
    try:
        match order:
            case Run():
                result = await bank.dispatch(
                    account, order.account, order.command, metadata={"order": order.id}
                )
                tell(Stored(order.id, result.version, result.position))
            case Ask():
                state = await bank.state(account, order.account)
                tell(Shown(order.id, state.balance, state.changes))
    except Rejection as no:
        tell(Refused(order.id, type(no).__name__, no.facts, is_rejection=True))
    except RehydrateError as error:
        tell(Refused(order.id, type(error).__name__))


async def main(store: str, cluster: str) -> None:
    lines = asyncio.StreamReader(limit=2**20)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    decoder = msgspec.json.Decoder[Order](Order)
    async with asyncio.TaskGroup() as working, app.open(store, cluster=cluster) as bank:
        tell(Ready())
        while line := await lines.readline():
            order = decoder.decode(line)
            if isinstance(order, Close):
                break
            working.create_task(carry_out(bank, order))
            await asyncio.sleep(0)
    tell(Closed())
    transport.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
