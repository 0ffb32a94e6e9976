"""Processes whose projection kills them at one event, one after the other, until one lives; it tells how many died.

python -m tests.readside.deadly_fold URL
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass

from rehydrate import App, EventEnvelope, Limits, Park, Projection, Runtime, Skip, Stop
from rehydrate.testing.clock import until
from tests.bank import Deposited, Event, account

POISON = 666
POLICIES: dict[str, Park | Skip | Stop] = {"park": Park(), "skip": Skip(), "stop": Stop()}


@dataclass(frozen=True)
class Seen:
    amounts: tuple[int, ...] = ()


def amount_in(envelope: EventEnvelope[Event]) -> int:
    return envelope.event.amount if isinstance(envelope.event, Deposited) else 0


def add(seen: Seen, envelope: EventEnvelope[Event]) -> Seen:
    return Seen((*seen.amounts, amount_in(envelope)))


def key(envelope: EventEnvelope[Event]) -> str:
    return envelope.aggregate_id


def app_with(policy: str, where: str = "", die: Callable[[], object] = lambda: None) -> App:
    def deadly_add(seen: Seen, envelope: EventEnvelope[Event]) -> Seen:
        if amount_in(envelope) == POISON:
            die()
        return add(seen, envelope)

    def deadly_key(envelope: EventEnvelope[Event]) -> str:
        if amount_in(envelope) == POISON:
            die()
        return key(envelope)

    seen = Projection(
        name="seen",
        initial=Seen(),
        key=deadly_key if where == "key" else key,
        evolve=deadly_add if where == "evolve" else add,
        sources=[account],
        on_error=POLICIES[policy],
    )
    return App(aggregates=[account], projections=[seen])


def has_ended(bank: Runtime, head: int) -> bool:
    (seen,) = bank.statistics().consumers
    return seen.state == "stopped" or seen.position == head


async def live(url: str) -> None:
    app = app_with("park", "evolve", lambda: os.kill(os.getpid(), signal.SIGKILL))
    async with app.open(url, limits=Limits(takeover_after=0.1)) as bank:
        head = (await bank.store.head()).position
        await until(lambda: has_ended(bank, head))


def main(url: str) -> None:
    died = 0
    while True:
        pid = os.fork()
        if pid == 0:
            asyncio.run(live(url))
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if os.waitstatus_to_exitcode(status) == 0:
            break
        died += 1
        assert died < 20, "it goes on for ever"
    sys.stdout.write(f"{died}\n")


if __name__ == "__main__":
    main(sys.argv[1])
