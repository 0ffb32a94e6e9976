"""A process whose handler kills it at one event: `python -m tests.readside.poisoned URL LOG POLICY`."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from rehydrate import App, EventEnvelope, Limits, Park, Stop
from tests.bank import Event, account

POISON = ("bank_account-bob", 2)
TAKEOVER = 0.3


async def main(url: str, log: Path, policy: str) -> None:
    async def handler(envelope: EventEnvelope[Event]) -> None:
        with log.open("a") as file:
            file.write(f"{envelope.stream} {envelope.version}\n")
        if (envelope.stream, envelope.version) == POISON:
            os.kill(os.getpid(), signal.SIGKILL)

    app = App(aggregates=[account])
    async with app.open(url, limits=Limits(takeover_after=TAKEOVER)) as bank:
        subscribed = bank.subscribe("mail", handler, on_error=Park() if policy == "park" else Stop())
        while True:
            await asyncio.sleep(0.02)
            seen = subscribed.statistics()
            if seen.state == "stopped" or (seen.parked and seen.lag == 0):
                sys.stdout.write(f"{seen.state} {seen.parked} {seen.reason}")
                return


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
