"""Many commands for several processes, which are killed while they work on them, until each has its answer."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import msgspec

from rehydrate import open_store
from rehydrate.runtime.window import metadata_in
from rehydrate.store.port import Store, StoredEvent
from rehydrate.testing.clock import HANG_LIMIT
from tests.bank import Account, account, app
from tests.faults.reader import LogReader
from tests.faults.real_servers import LIMIT
from tests.faults.worker import Close, Refused, Run, Stored
from tests.faults.workers import Answer, Worker, Workers

REPEATED = frozenset({
    "CommandTimeoutError", "OutcomeUnknownError", "StoreUnavailableError", "StoreClosedError", "VersionConflictError",
})  # fmt: skip
"""What is answered with a repeat of the command."""


class Slot:
    """One of the processes, and the next one in its place."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.open: dict[str, Run] = {}
        """What it was told to do and has not answered."""
        self.answered = 0
        self.errors = 0


class Campaign:
    """Hands out commands to processes, so many to each at a time; repeats what was not answered, with the same id."""

    def __init__(
        self, workers: Workers, commands: Iterable[Run] = (), *, at_a_time: int, with_cause: bool = False
    ) -> None:
        self.commands = {command.id: command for command in commands}
        self.stored: dict[str, Stored] = {}
        self.rejected: dict[str, Refused] = {}
        self.errors: Counter[str] = Counter()
        self.slots: list[Slot] = []
        self._workers = workers
        self._at_a_time = at_a_time
        self._with_cause = with_cause
        self._waiting = deque(self.commands.values())
        self._endless: Iterator[Run] = iter(())
        self._is_troubled = False
        self._kills = deque[int]()
        self._chance = random.Random()
        self._watching: list[asyncio.Future[None]] = []
        self._position = 0
        """The newest that was acknowledged: a command that is sent later cannot have run before."""

    @property
    def answered(self) -> int:
        return len(self.stored) + len(self.rejected)

    @property
    def is_over(self) -> bool:
        return not self._is_troubled and self.answered == len(self.commands)

    async def run(
        self, processes: int, *, kills: Sequence[int] = (), chance: random.Random | None = None
    ) -> None:
        """Let so many processes work it off; one at random is killed whenever so many commands have been answered."""
        self._kills = deque(sorted(kills))
        self._chance = chance or random.Random()
        self.slots = [Slot(await self._workers.start()) for _ in range(processes)]
        await self._keep_all_running()

    async def run_through(
        self, trouble: Coroutine[Any, Any, None], commands: Iterator[Run], *, processes: int
    ) -> None:
        """Let so many processes work while there is trouble; it begins when all of them are ready.

        They are handed new commands until it is over. Then everything is answered within `LIMIT` seconds.
        """
        self._endless = commands
        self._is_troubled = True

        async def from_beginning_to_end() -> None:
            await trouble
            self._endless = iter(())
            self._is_troubled = False
            for slot in self.slots:
                self._feed(slot)
            await self.until(lambda: self.is_over, limit=LIMIT)

        self.slots = [Slot(await self._workers.start()) for _ in range(processes)]
        for slot in self.slots:
            await slot.worker.ready()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_all_running())
            tasks.create_task(from_beginning_to_end())

    async def _keep_all_running(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for slot in self.slots:
                tasks.create_task(self._keep_running(slot))

    async def get_on(self, count: int) -> None:
        """Wait until so many more commands have been answered, be it after the service has resumed."""
        enough = self.answered + count
        await self.until(lambda: self.answered >= enough, limit=LIMIT)

    async def until(self, condition: Callable[[], object], *, limit: float = HANG_LIMIT) -> None:
        """Wait until enough has been answered, or everything."""
        async with asyncio.timeout(limit):
            while not condition() and not self.is_over:
                self._watching.append(asyncio.get_running_loop().create_future())
                await self._watching[-1]

    async def _keep_running(self, slot: Slot) -> None:
        while True:
            slot.worker.on_answer = partial(self._answer, slot)
            self._feed(slot)
            await slot.worker.listening
            self._waiting.extendleft(slot.open.values())
            slot.open.clear()
            if self.is_over:
                return
            slot.worker = await self._workers.start()

    def _feed(self, slot: Slot) -> None:
        if self.is_over:
            slot.worker.order(Close())
            return
        orders: list[Run] = []
        while len(slot.open) < self._at_a_time and (order := self._next()):
            if self._with_cause and order.caused_at is None:
                order = msgspec.structs.replace(order, caused_at=self._position)
            slot.open[order.id] = order
            orders.append(order)
        slot.worker.order(*orders)

    def _next(self) -> Run | None:
        """What has to be done next: what is to be repeated, or something new."""
        if self._waiting:
            return self._waiting.popleft()
        order = next(self._endless, None)
        if order is not None:
            self.commands[order.id] = order
        return order

    def _answer(self, slot: Slot, answer: Answer) -> None:
        if answer.id not in slot.open:
            return  # Somebody else has asked that process for something.
        order = slot.open.pop(answer.id)
        slot.answered += 1
        match answer:
            case Stored():
                self.stored[answer.id] = answer
                self._position = max(self._position, answer.position)
            case Refused() if answer.is_rejection:
                self.rejected[answer.id] = answer
            case Refused():
                assert answer.error in REPEATED, answer
                assert answer.stored is False, answer
                slot.errors += 1
                self.errors[answer.error] += 1
                self._waiting.append(order)
            case _:
                raise AssertionError(answer)
        watching, self._watching = self._watching, []
        for future in watching:
            if not future.done():
                future.set_result(None)
        while self._kills and self.answered >= self._kills[0]:
            self._kills.popleft()
            self._chance.choice(self.slots).worker.shoot()
        for fed in self.slots if self.is_over else [slot]:
            self._feed(fed)


async def verify(url: str, campaign: Campaign, *readers: LogReader) -> None:
    """Every command is there exactly once, whole and where its answer said, or was refused and is not there.

    And the readers, who read all the time, have passed nothing.
    """
    store = await open_store(url)
    try:
        events = await whole_log(store)
        for reader in readers:
            await reader.finish(events)
        _verify_commands(campaign, events)
        by_account: defaultdict[str, list[StoredEvent]] = defaultdict(list)
        for event in events:
            by_account[event.stream.partition("-")[2]].append(event)
        for name, stored in by_account.items():
            assert [event.version for event in stored] == list(range(1, len(stored) + 1)), f"{name} has gaps"
        async with app.open(store) as bank:
            for name, stored in by_account.items():
                amounts = [
                    campaign.commands[metadata_in(e).command_id].amount
                    for e in stored
                    if _is_first(stored, e)
                ]
                assert await bank.state(account, name) == Account(sum(amounts), len(stored)), name
    finally:
        await store.close()


async def whole_log(store: Store) -> list[StoredEvent]:
    """The log, whose positions have no gaps, so that nobody can fill one behind a reader."""
    events: list[StoredEvent] = []
    while (
        not (page := await store.read_all(after=events[-1].position if events else 0)).is_last or page.events
    ):
        events += page.events
    assert [event.position for event in events] == list(range(1, len(events) + 1)), "positions have gaps"
    return events


def _is_first(stored: list[StoredEvent], event: StoredEvent) -> bool:
    """Whether an event of a stream is the first of its command."""
    if event.version == 1:
        return True
    return metadata_in(stored[event.version - 2]).command_id != metadata_in(event).command_id


def _verify_commands(campaign: Campaign, events: list[StoredEvent]) -> None:
    by_id: defaultdict[str, list[StoredEvent]] = defaultdict(list)
    for event in events:
        by_id[metadata_in(event).command_id].append(event)
    lost = campaign.stored.keys() - by_id.keys()
    assert not lost, f"acknowledged, and not there: {sorted(lost)}"
    unknown = by_id.keys() - campaign.stored.keys()
    assert not unknown, f"there, and refused: {sorted(unknown)}"
    for id, stored in by_id.items():
        order, answer = campaign.commands[id], campaign.stored[id]
        assert len(stored) == order.parts, f"{order}: {stored}"
        assert {event.stream for event in stored} == {account.stream(order.account)}
        first, last = stored[0], stored[-1]
        assert (last.version, last.position) == (answer.version, answer.position), f"{answer}: {stored}"
        assert (last.version - first.version, last.position - first.position) == (order.parts - 1,) * 2
