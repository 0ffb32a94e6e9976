"""Laws of process managers and their timers, on a store: what follows is done once, whenever a process ends."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from itertools import count
from typing import ClassVar, Final

import pytest

from rehydrate.runtime.control import reset
from rehydrate.store.port import Store
from rehydrate.testing.conformance.law import law
from rehydrate.testing.conformance.lives import DUE, Purses, live, others
from rehydrate.testing.conformance.material import log_events
from rehydrate.testing.conformance.mortal import MortalStore
from rehydrate.testing.conformance.moves import check_moves, moves
from rehydrate.testing.conformance.under_test import Another, StoreUnderTest
from rehydrate.testing.conformance.writers import environment

_LIVES: Final = "rehydrate.testing.conformance.lives"
_LIMIT: Final = 60.0
"""Seconds: many processes, one after the other."""


class ProcessManagerLaws(StoreUnderTest):
    stride: ClassVar[int] = 1
    """How many writes later than the ones before processes are killed, in the laws that kill one after the other."""

    @law(lacks=("multi_process",), hang_limit=_LIMIT)
    async def test_each_send_arrives_once_though_its_process_ends_between_every_two_steps(
        self, store: Store
    ) -> None:
        """And though more happens at its target meanwhile than an actor remembers."""
        await Purses(store).shut("eve")
        for number, at in enumerate(count(1, self.stride)):
            if await live(
                store, MortalStore(store, at), begins=f"ada.{number}", to="bob" if number % 2 else "eve"
            ):
                break
            if number % 4 == 3:
                await others(store, number)
            await live(store, MortalStore(store, at))
            await live(store)
        await _all_went_right(store)

    @pytest.mark.processes
    @law(needs=("multi_process",), hang_limit=_LIMIT)
    async def test_each_send_arrives_once_though_processes_are_killed_between_every_two_steps(
        self, store: Store, url: str
    ) -> None:
        assert await killed_one_after_the_other(self.opener, url, str(self.stride)) > 2
        await _all_went_right(store)

    @law()
    async def test_a_send_that_is_refused_comes_back_once(self, store: Store) -> None:
        purses = Purses(store)
        await purses.shut("eve")
        for n in range(2):
            async with purses.opened() as runtime:
                for one in range(3):
                    purses.give(runtime, f"ada.{n}.{one}", "eve")
                await purses.rest(runtime)
        done = check_moves(await log_events(store))
        assert (done["Given"], done["rehydrate.Rejected"], done["TakenBack"]) == (6, 6, 6)

    @law()
    async def test_one_that_begins_again_at_the_first_event_does_nothing_twice(self, store: Store) -> None:
        """Also not what was refused then, or changed nothing, and would change something now."""
        purses = Purses(store)
        await purses.shut("eve")
        async with purses.opened() as runtime:
            purses.give(runtime, "ada.1", "eve")
            purses.give(runtime, "ada.2", "bob")
            await purses.rest(runtime)
        before = await store.head()
        done = check_moves(await log_events(store))
        assert (done["rehydrate.Unchanged"], done["rehydrate.Rejected"], done["Rung"]) == (2, 1, 1)
        for part in ("events", "sends", "timers"):
            await reset(store, f"{moves.name}:{part}")
        async with purses.opened() as runtime:
            await purses.rest(runtime)
        assert await store.head() == before

    @law()
    async def test_a_timer_fires_once_when_it_is_due_and_not_before(self, store: Store) -> None:
        purses = Purses(store)
        await purses.shut("eve")
        async with purses.opened() as runtime:
            purses.give(runtime, "ada.1", "eve")
            await purses.until_pending(runtime)
        # Another process has it from the store.
        async with purses.opened() as runtime:
            await purses.until_pending(runtime)
            assert Counter(event.type for event in await log_events(store))["rehydrate.Due"] == 0
            await purses.rest(runtime)
        assert check_moves(await log_events(store))["Rung"] == 1

    @law()
    async def test_a_timer_that_was_due_while_nothing_ran_fires_once(self, store: Store) -> None:
        purses = Purses(store)
        await purses.shut("eve")
        async with purses.opened() as runtime:
            purses.give(runtime, "ada.1", "eve")
            await purses.until_pending(runtime)
        await purses.clock.advance(DUE)
        for _ in range(2):
            async with purses.opened() as runtime:
                await purses.rest(runtime)
        assert check_moves(await log_events(store))["Rung"] == 1

    @law()
    async def test_a_timer_that_is_cancelled_does_not_fire(self, store: Store) -> None:
        purses = Purses(store)
        async with purses.opened() as runtime:
            purses.give(runtime, "ada.1", "bob")
            await purses.rest(runtime)
            await purses.let_pass(DUE)
            await purses.rest(runtime)
        done = check_moves(await log_events(store))
        assert (done["rehydrate.Cancelled"], done["rehydrate.Due"], done["Rung"]) == (1, 0, 0)

    @law(lacks=("single_writer",))
    async def test_of_two_processes_each_event_is_taken_in_by_one(
        self, store: Store, another: Another
    ) -> None:
        purses = Purses(store)
        async with purses.opened() as one, purses.opened(await another()) as other:
            for n in range(5):
                purses.give(one, f"ada.{n}", "bob")
                purses.give(other, f"zoe.{n}", "bob")
            await purses.rest(one, other)
        done = check_moves(await log_events(store))
        assert (done["Given"], done["Taken"]) == (10, 10)


async def killed_one_after_the_other(*arguments: str) -> int:
    """Processes as `lives` has them: how many that had begun a move were killed."""
    worker = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "ignore", "-m", _LIVES, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
    )
    try:
        told, failed = await worker.communicate()
    except asyncio.CancelledError:
        worker.kill()
        raise
    assert worker.returncode == 0, failed.decode()
    return int(told)


async def _all_went_right(store: Store) -> None:
    done = check_moves(await log_events(store))
    assert min(done["Taken"], done["TakenBack"], done["Rung"], done["rehydrate.Cancelled"]) > 0
