"""Processes that move money between purses, each of which is killed at one of its writes.

python -m rehydrate.testing.conformance.lives OPENER URL STRIDE [TYPE]

Each process is a child that kills itself: for each write, or for each that appends an event of that type, one that has
just begun a move, and one that goes on with what that left; then one that lives to the end. Time is moved by hand, so
that nobody waits for a takeover or a timer.
"""

from __future__ import annotations

import asyncio
import os
import pkgutil
import signal
import sys
import time
import traceback
from collections import Counter
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, NamedTuple

from rehydrate.runtime.limits import WINDOW_EVENTS, Limits
from rehydrate.runtime.runtime import Runtime
from rehydrate.runtime.timers import count_pending, timers_of
from rehydrate.store.port import ANY_VERSION, Store
from rehydrate.testing.clock import FakeClock
from rehydrate.testing.conformance.mortal import MortalStore
from rehydrate.testing.conformance.moves import PATIENCE, Give, Shut, app, moves, other_events, purse

DUE: Final = PATIENCE.total_seconds() + 1
"""Seconds after which a timer is due."""
_LIMITS: Final = Limits(takeover_after=2 * DUE)
"""So that time may be moved beyond a timer without a holder being taken for dead."""
_STEP: Final = 0.05
"""Seconds that pass between two looks, while something is under way."""


class Purses:
    """What is done with one store, in a time that is moved by hand."""

    def __init__(self, store: Store) -> None:
        self.store = store
        # The store has a clock of its own, by which it says when an event was recorded.
        self.clock = FakeClock(wall=time.time_ns() // 1_000)
        self._asked: list[asyncio.Future[Any]] = []

    def opened(self, store: Any = None) -> AbstractAsyncContextManager[Runtime]:
        return app.open(store or self.store, clock=self.clock, limits=_LIMITS)

    async def shut(self, id: str) -> None:
        async with app.open(self.store, consumers=False) as runtime:
            await runtime.dispatch(purse, id, Shut())

    def give(self, runtime: Runtime, move: str, to: str) -> None:
        """Begin a move. Whoever dies meanwhile does not hear what became of it."""
        self._asked.append(runtime.dispatch_nowait(purse, move.partition(".")[0], Give(move, to, 1)))

    async def rest(self, *runtimes: Runtime, mortal: MortalStore | None = None) -> None:
        """Let time pass until nothing follows any more and no timer is pending; or until the process is dead."""
        while mortal is None or not mortal.is_dead:
            if not await self._is_quiet(*runtimes):
                await self.let_pass(_LIMITS.takeover_after / 4 if _is_waiting(*runtimes) else _STEP)
            elif await count_pending(self.store, timers_of(moves.name)):
                await self.let_pass(DUE)
            else:
                break
        for one in self._asked:
            # What it failed with is no matter here, and is to be looked at.
            if one.done() and not one.cancelled():
                one.exception()
        self._asked.clear()

    async def until_pending(self, runtime: Runtime) -> None:
        """Let time pass, and not so much that a timer is due, until nothing follows but what one timer will have follow."""
        while not await self._is_quiet(runtime):
            await self.let_pass(_STEP)
        assert await count_pending(self.store, timers_of(moves.name)) == 1

    async def let_pass(self, seconds: float) -> None:
        await self.clock.advance(seconds)
        # What waits for the store goes on in real time.
        await asyncio.sleep(0.001 if seconds == _STEP else 0.005)

    async def _is_quiet(self, *runtimes: Runtime) -> bool:
        """Whether all that was asked for is answered, and all that is stored is read, by one process or another."""
        if not all(one.done() for one in self._asked):
            return False
        head = (await self.store.head()).position
        places: Counter[str] = Counter()
        for one in [one for runtime in runtimes for one in runtime.statistics().consumers]:
            places[one.name] = max(places[one.name], 0 if one.parked else one.position)
        return min(places.values()) >= head == (await self.store.head()).position


def _is_waiting(*runtimes: Runtime) -> bool:
    """Whether the name of somebody who is dead has still to be taken."""
    states: dict[str, set[str]] = {}
    for one in [one for runtime in runtimes for one in runtime.statistics().consumers]:
        states.setdefault(one.name, set()).add(one.state)
    return {"waiting"} in states.values()


async def live(store: Store, mortal: MortalStore | None = None, *, begins: str = "", to: str = "") -> bool:
    """One life, which may begin a move, and ends at a write; or at rest, and then the answer is True."""
    purses = Purses(store)
    async with purses.opened(mortal) as runtime:
        if begins:
            purses.give(runtime, begins, to)
        await purses.rest(runtime, mortal=mortal)
    return mortal is None or not mortal.is_dead


async def others(store: Store, number: int) -> None:
    """More happens at a purse than an actor remembers of its commands."""
    events = other_events(f"others {number}", WINDOW_EVENTS + 1)
    await store.append(purse.stream("bob"), events, expected_version=ANY_VERSION)


# ---- in processes


class Death(NamedTuple):
    """Where a process is to end."""

    at: int
    of: str

    def of_user_of(self, store: Store) -> MortalStore:
        return MortalStore(store, self.at, lambda: os.kill(os.getpid(), signal.SIGKILL), of=self.of)


def main(opener: str, url: str, stride: int, of: str = "") -> None:
    asyncio.run(_begun(opener, url))
    killed = 0
    while _in_child(opener, url, death := Death(1 + stride * killed, of), killed) != 0:
        if killed % 4 == 1:
            asyncio.run(_others(opener, url, killed))
        killed += 1
        _in_child(opener, url, death)
        assert _in_child(opener, url) == 0
    sys.stdout.write(f"{killed}\n")


async def _begun(opener: str, url: str) -> None:
    store: Store = await pkgutil.resolve_name(opener)(url)
    await Purses(store).shut("eve")
    await store.close()


async def _others(opener: str, url: str, number: int) -> None:
    store: Store = await pkgutil.resolve_name(opener)(url)
    await others(store, number)
    await store.close()


def _in_child(opener: str, url: str, death: Death | None = None, number: int | None = None) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            asyncio.run(_child(opener, url, death, number))
            code = 0
        except BaseException:  # noqa: BLE001 - this is the end of the process, and somebody reads what it says
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in {0, -signal.SIGKILL}, f"a process ended with {code}"
    return code


async def _child(opener: str, url: str, death: Death | None, number: int | None) -> None:
    store: Store = await pkgutil.resolve_name(opener)(url)
    mortal = None if death is None else death.of_user_of(store)
    if number is None:
        await live(store, mortal)
    else:
        # Where each process is to come to some moment, all moves go the same way, which has the most of them.
        is_taken = number % 2 and not (death and death.of)
        await live(store, mortal, begins=f"ada.{number}", to="bob" if is_taken else "eve")
    await store.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
