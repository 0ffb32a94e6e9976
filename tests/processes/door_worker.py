"""A door that a process manager opens and closes; to close one that is closed changes nothing.

python -m tests.processes.door_worker URL

Opens the App, and kills itself right after it was told that the door has opened.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rehydrate import Aggregate, App, EventEnvelope, ProcessManager, Rejected, Rejection, Send, open_store
from rehydrate.errors import StoreError
from rehydrate.store.port import Appended, AppendWaiter, NewEvent, Store


@dataclass(frozen=True, slots=True)
class Open:
    pass


@dataclass(frozen=True, slots=True)
class Shut:
    pass


@dataclass(frozen=True, slots=True)
class Kick:
    """Refused while the door is shut."""


@dataclass(frozen=True, slots=True)
class Opened:
    pass


@dataclass(frozen=True, slots=True)
class WasShut:
    pass


@dataclass(frozen=True, slots=True)
class Press:
    what: str


@dataclass(frozen=True, slots=True)
class Pressed:
    what: str


class IsShut(Rejection):
    pass


def decide_door(is_open: bool, command: Open | Shut | Kick) -> Iterable[Opened | WasShut]:
    match command:
        case Open() if not is_open:
            yield Opened()
        case Shut() if is_open:
            yield WasShut()
        case Kick() if not is_open:
            raise IsShut
        case _:
            pass


def evolve_door(_is_open: bool, event: Opened | WasShut) -> bool:
    return isinstance(event, Opened)


def decide_button(_count: int, command: Press) -> Iterable[Pressed]:
    yield Pressed(command.what)


def evolve_button(count: int, _event: Pressed) -> int:
    return count + 1


door = Aggregate(
    name="door",
    initial=False,
    decide=decide_door,
    evolve=evolve_door,
    commands=Open | Shut | Kick,
    events=Opened | WasShut,
)
button = Aggregate(
    name="button",
    initial=0,
    decide=decide_button,
    evolve=evolve_button,
    commands=Press,
    events=Pressed,
)
_COMMANDS: dict[str, Open | Shut | Kick] = {"open": Open(), "shut": Shut(), "kick": Kick()}


def by_button(envelope: EventEnvelope[Pressed]) -> str | None:
    return envelope.aggregate_id


def count_refusals(refused: int, event: Pressed | Rejected) -> int:
    return refused + isinstance(event, Rejected)


def move(_refused: int, event: Pressed | Rejected) -> Iterable[Send]:
    if isinstance(event, Pressed):
        yield Send(door, "d", _COMMANDS[event.what])


porter = ProcessManager(
    name="porter",
    initial=0,
    correlate=by_button,
    evolve=count_refusals,
    react=move,
    sources=[button],
)
app = App(aggregates=[door, button], processes=[porter])


class Deadly:
    """A store whose user is killed once the door has opened."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def submit(
        self,
        stream: str,
        events: Sequence[NewEvent],
        expected_version: int,
        waiter: AppendWaiter,
        last_id: str = "",
        last_position: int = 0,
    ) -> Appended | StoreError | None:
        if events[0].type == "Opened":
            waiter = _Killing()
        return self._store.submit(stream, events, expected_version, waiter, last_id, last_position)


class _Killing:
    def append_done(self, outcome: Appended | StoreError) -> None:
        assert isinstance(outcome, Appended)
        os.kill(os.getpid(), signal.SIGKILL)


async def main(url: str) -> None:
    deadly: Any = Deadly(await open_store(url))
    async with app.open(deadly):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
