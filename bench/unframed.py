"""The bank with no framework: a dictionary of states, a dictionary of lists, and nothing between caller and function."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from time import perf_counter, time_ns
from typing import Final

import msgspec

from bench.bank import Account, Command, Deposit, Event, Fill, Withdraw, decide, evolve
from bench.sample import Sample, Size, require
from rehydrate.clock import unique_ids

_ENCODE: Final = msgspec.json.Encoder().encode


class Stored(msgspec.Struct, frozen=True, gc=False):
    """One event in its list, encoded."""

    id: str
    type: str
    data: bytes
    metadata: bytes
    recorded_at: int


class UnframedBank:
    """What anybody would write in memory: no version check, no second caller, no time-out, nothing read back."""

    def __init__(self) -> None:
        self._states: dict[str, Account] = {}
        self._log: dict[str, list[Stored]] = {}
        self._new_id = unique_ids()

    def handle(self, id: str, command: Command) -> Sequence[Event]:
        """Decide, store, evolve."""
        state = self._states.get(id, Account())
        events = list(decide(state, command))
        metadata = _ENCODE({"command_id": self._new_id()})
        now = time_ns() // 1_000
        stored = self._log.setdefault(id, [])
        for event in events:
            stored.append(Stored(self._new_id(), type(event).__name__, _ENCODE(event), metadata, now))
            state = evolve(state, event)
        self._states[id] = state
        return events

    def stored(self) -> int:
        """How many events there are."""
        return sum(map(len, self._log.values()))


def rate(size: Size, _: Path) -> Sample:
    """One caller, who calls a function."""
    bank = UnframedBank()
    ids = [f"account-{number}" for number in range(size.accounts)]
    for id in ids:
        bank.handle(id, Fill(size.events))
    gc.collect()
    commands = 0
    began = perf_counter()
    until = began + size.seconds
    for id in cycle(ids):
        commands += len(bank.handle(id, Deposit(10))) + len(bank.handle(id, Withdraw(1)))
        if perf_counter() >= until:
            break
    seconds = perf_counter() - began
    require(stored=bank.stored(), expected=len(ids) * size.events + commands, what="dict and list")
    return Sample(commands / seconds, {"commands": commands, "seconds": seconds})
