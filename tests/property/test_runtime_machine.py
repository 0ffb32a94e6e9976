"""Runtimes on one store, and everything that can happen to them, in any order that Hypothesis thinks of.

After each step: every answer agrees with the log, versions have no gaps, no acknowledged command is lost or doubled,
and none that was refused or timed out is there. Whenever all is at rest, and at the end: every runtime shows the fold of
what is stored, and every command of unknown outcome is there exactly once after it was repeated with its id.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rehydrate import Limits, Snapshot
from rehydrate.store.port import Store
from rehydrate.testing.faults import ALL_THAT_PASS, Fault, Hang, HangAnswer, Late, RandomFaults, Refuse
from tests.property.history import Attempt, Fate, Sent
from tests.property.ledger import Batch, Break, Command, Draw, Nothing, Post
from tests.property.world import ACCOUNTS, Backup, FileBackup, MemoryBackup, Node, SnapshotsLeft, World

T = TypeVar("T")

# Mostly the same few, so that what happens happens to the same streams.
accounts = st.sampled_from([account for n, account in enumerate(ACCOUNTS) for _ in range(3 - n)])
amounts = st.integers(1, 9)
batches = st.lists(amounts, min_size=1, max_size=5).map(tuple).map(Batch)
commands: st.SearchStrategy[Command] = st.one_of(
    amounts.map(Post),
    st.integers(1, 40).map(Draw),
    batches,
    st.sampled_from([Nothing(), Break("decide"), Break("evolve")]),
)
timeouts = st.sampled_from([None, 0.04, 0.2, 1.0, 5.0])
waits = st.sampled_from([0.0, 0.0, 0.06, 0.3])
"""How much time passes after something was sent, before anything else happens."""
orders = st.tuples(accounts, commands, st.booleans(), timeouts)
"""A command for an account, whether it gets an id, and its deadline."""

methods = st.sampled_from(
    ["submit", "submit", "submit", "ends", "read_stream", "replay", "save_snapshot", "load_snapshot"]
)
faults = st.sampled_from([*ALL_THAT_PASS, Hang(), HangAnswer(), Late(3), Refuse(retryable=False)])
troubles = st.lists(st.tuples(methods, faults), max_size=4)
"""What becomes of the next calls of a runtime."""

limits = st.builds(
    Limits,
    mailbox=st.sampled_from([4_096] * 5 + [3]),
    max_live=st.sampled_from([100] * 5 + [2]),
    recoveries=st.sampled_from([64, 1]),
    max_redecide=st.sampled_from([10, 1]),
    recovery_timeout=st.sampled_from([60.0, 2.0]),
    shutdown_timeout=st.sampled_from([30.0, 0.5]),
)
snapshots = st.sampled_from([None, Snapshot(every=1), Snapshot(every=3, keep=2)])

Order: TypeAlias = tuple[str, Command, bool, float | None]
Troubles: TypeAlias = list[tuple[str, Fault]]


class RuntimeMachine(RuleBasedStateMachine):
    """On a store in memory that all runtimes share.

    No rule has a precondition: with threads behind a store it would not be the same in each run of an example, and
    Hypothesis could not shrink it. What cannot be done is left out.
    """

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.patches = pytest.MonkeyPatch()
        self.is_window_short = False
        self.has_failed = False

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return self.runner.run(work)
        except BaseException:
            self.has_failed = True
            raise

    def url(self) -> str:
        return "memory://shared"

    def backup(self, store: Store, *, with_snapshots: bool) -> Backup:
        return MemoryBackup(store) if with_snapshots else SnapshotsLeft(store)

    @initialize(
        limits=limits, snapshot=snapshots, with_snapshots=st.booleans(), window=st.sampled_from([1_024, 3])
    )
    def open(self, limits: Limits, snapshot: Snapshot | None, with_snapshots: bool, window: int) -> None:
        # With so short a window it is `caused_at` alone by which repeats are recognised.
        self.is_window_short = window != 1_024
        self.patches.setattr(logging.getLogger("rehydrate"), "disabled", True)
        for module in ("window", "repeats"):
            self.patches.setattr(f"rehydrate.runtime.{module}.WINDOW_EVENTS", window)
        self.world = World(
            self.url(), snapshot, limits, lambda store: self.backup(store, with_snapshots=with_snapshots)
        )
        self.run(self.world.open())

    # ---- what somebody draws from what there is

    def node(self, number: int) -> Node:
        return self.world.nodes[number % len(self.world.nodes)]

    @property
    def repeatable(self) -> list[Sent]:
        return [sent for sent in self.world.history.sent if sent.id is not None]

    @property
    def unknown(self) -> list[Sent]:
        return [sent for sent in self.repeatable if sent.is_open]

    # ---- commands

    @rule(
        number=st.integers(0, 1),
        orders=st.lists(orders, min_size=1, max_size=6),
        troubles=troubles,
        wait=waits,
    )
    def dispatch(self, number: int, orders: list[Order], troubles: Troubles, wait: float) -> None:
        self.run(self._dispatch(self.node(number), orders, troubles, wait))

    @rule(
        number=st.integers(0, 1),
        account=accounts,
        commands=st.lists(commands, min_size=2, max_size=8),
        is_given=st.booleans(),
        timeout=timeouts,
        troubles=troubles,
        wait=waits,
    )
    def dispatch_to_one(
        self,
        number: int,
        account: str,
        commands: list[Command],
        is_given: bool,
        timeout: float | None,
        troubles: Troubles,
        wait: float,
    ) -> None:
        orders = [(account, command, is_given, timeout) for command in commands]
        self.run(self._dispatch(self.node(number), orders, troubles, wait))

    async def _dispatch(self, node: Node, orders: list[Order], troubles: Troubles, wait: float) -> None:
        history = self.world.history
        node.expect(troubles)
        for account, command, is_given, timeout in orders:
            id = f"given{len(history.sent)}" if is_given else None
            caused_at = self.world.log.position if self.is_window_short else None
            self.world.dispatch(node, history.add(account, command, id, caused_at), timeout)
        await self.world.advance(wait)

    @rule(
        number=st.integers(0, 1),
        index=st.integers(0, 1_000),
        only_unknown=st.booleans(),
        timeout=timeouts,
        times=st.integers(1, 2),
        troubles=troubles,
        wait=waits,
    )
    def repeat(
        self,
        number: int,
        index: int,
        only_unknown: bool,
        timeout: float | None,
        times: int,
        troubles: Troubles,
        wait: float,
    ) -> None:
        choice = self.unknown if only_unknown else self.repeatable
        if choice:
            self.node(number).expect(troubles)
            self.run(self._repeat(choice[-1 - index % len(choice)], number, timeout, times))
            self.run(self.world.advance(wait))

    async def _repeat(self, sent: Sent, number: int, timeout: float | None, times: int = 1) -> None:
        for n in range(times):
            self.world.dispatch(self.node(number + n), sent, timeout)

    @rule(number=st.integers(0, 1), index=st.integers(0, 1_000), command=commands, timeout=timeouts)
    def use_an_id_twice(self, number: int, index: int, command: Command, timeout: float | None) -> None:
        given = [sent for sent in self.repeatable if is_given(sent)]
        first = given[-1 - index % len(given)] if given else None
        if first is not None and all(twin.command != command for twin in first.twins):
            twin = self.world.history.add(first.account, command, first.id, first.caused_at, of=first)
            self.run(self._repeat(twin, number, timeout))

    @rule(index=st.integers(0, 1_000))
    def cancel_a_caller(self, index: int) -> None:
        self.run(self._cancel(self.world.history.waiting, index))

    async def _cancel(self, waiting: list[Attempt], index: int) -> None:
        if waiting and (attempt := waiting[index % len(waiting)]).answer.cancel():
            self.world.history.cancelled(attempt)

    @rule(account=accounts, command=batches)
    def append_as_a_stranger(self, account: str, command: Batch) -> None:
        self.run(self.world.append_as_stranger(account, command))

    @rule(number=st.integers(0, 1), rivals=st.integers(0, 3))
    def let_others_be_faster(self, number: int, rivals: int) -> None:
        self.node(number).below.rivals = rivals

    # ---- time and trouble

    @rule(seconds=st.sampled_from([0.01, 0.05, 0.3, 1.0, 8.0, 31.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.run(self.world.advance(seconds))

    @rule(number=st.integers(0, 1), seed=st.integers(0, 1_000), rate=st.sampled_from([0.0, 0.1, 0.4]))
    def let_calls_fail_now_and_then(self, number: int, seed: int, rate: float) -> None:
        self.node(number).often = RandomFaults(seed, rate=rate)

    @rule(number=st.integers(0, 1), method=st.one_of(st.none(), methods))
    def let_calls_go_on(self, number: int, method: str | None) -> None:
        self.run(self._let_go_on(self.node(number), method))

    async def _let_go_on(self, node: Node, method: str | None) -> None:
        node.store.release(method)
        if method == "submit":
            await node.store.land()

    # ---- runtimes

    @rule()
    def open_another_runtime(self) -> None:
        if len(self.world.nodes) < 2:
            self.run(self.world.open_node())

    @rule(number=st.integers(0, 1), kill=st.booleans())
    def restart_a_runtime(self, number: int, kill: bool) -> None:
        self.run(self._restart(self.node(number), kill=kill))

    async def _restart(self, node: Node, *, kill: bool) -> None:
        if kill:
            self.world.kill_node(node)
        else:
            await self.world.close_node(node)
        await self.world.open_node()

    # ---- the log

    @rule()
    def copy_the_log(self) -> None:
        self.world.backup.copy()

    @rule(repeated=st.integers(0, 3))
    def bring_back_the_older_log(self, repeated: int) -> None:
        self.run(self.world.restore(self.repeatable[-repeated:] if repeated else []))

    @rule()
    def come_to_rest(self) -> None:
        self.run(self._come_to_rest())

    async def _come_to_rest(self) -> None:
        await self.world.settle()
        await self.world.check_states()

    # ---- what always holds

    @invariant()
    def every_answer_agrees_with_the_log(self) -> None:
        if hasattr(self, "world"):
            self.run(self._check())

    async def _check(self) -> None:
        world = self.world
        world.history.check(await world.look())
        for node in world.nodes:
            asked = {question.account for question in world.history.questions if question.node is node}
            for account in ACCOUNTS:
                if account not in asked:
                    world.ask(node, account)
        world.history.check(await world.look())

    def teardown(self) -> None:
        try:
            if hasattr(self, "world") and not self.has_failed:
                self.run(self._end())
        finally:
            if hasattr(self, "world"):
                self.run(self.world.clear_away())
            self.runner.close()
            self.patches.undo()

    async def _end(self) -> None:
        world = self.world
        await world.settle()
        await self._repeat_until_known()
        await self._check_that_life_goes_on()
        await world.check_states()
        await world.close()

    async def _repeat_until_known(self) -> None:
        """Repeat what may be there with its id: then it is there once, or was refused and is not there."""
        for sent in self.unknown:
            attempt = self.world.dispatch(self.world.nodes[0], sent, None)
            await self.world.settle()
            assert attempt.fate in {Fate.STORED, Fate.REFUSED}, f"{sent} is still not known: {attempt}"

    async def _check_that_life_goes_on(self) -> None:
        """Whatever has been, on a store that works everything works, at the latest after the longest pause."""
        world = self.world
        await world.advance(world.limits.hold_most)
        for node in world.nodes:
            for account in ACCOUNTS:
                attempt = world.dispatch(node, world.history.add(account, Post(1), None, None), None)
                await world.settle()
                assert attempt.fate is Fate.STORED, attempt


def is_given(sent: Sent) -> bool:
    """Whether the caller chose the id, and did not get it with an unknown outcome."""
    return sent.id is not None and sent.id.startswith("given")


class FileMachine(RuntimeMachine):
    """On one SQLite file that each runtime opens for itself."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "ledger.db"

    def url(self) -> str:
        return f"sqlite:///{self.path}"

    def backup(self, store: Store, *, with_snapshots: bool) -> Backup:
        return FileBackup(self.path)

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            self.folder.cleanup()


class LongRuntimeMachine(RuntimeMachine):
    """The same, for longer."""


class LongFileMachine(FileMachine):
    """The same, for longer."""


quick = settings(
    max_examples=120,
    stateful_step_count=40,
    deadline=None,
    print_blob=True,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=[phase for phase in Phase if phase is not Phase.explain],
)
thorough = settings(quick, max_examples=1_500, stateful_step_count=60)
# The threads of SQLite do not repeat themselves, so an example on a file is shown as it was found.
as_found = [Phase.explicit, Phase.reuse, Phase.generate]

TestInMemory = RuntimeMachine.TestCase
TestInMemory.settings = quick

TestOnFile = FileMachine.TestCase
TestOnFile.settings = settings(quick, max_examples=20, phases=as_found)

TestInMemoryForLong = pytest.mark.slow(LongRuntimeMachine.TestCase)
TestInMemoryForLong.settings = thorough

TestOnFileForLong = pytest.mark.slow(LongFileMachine.TestCase)
TestOnFileForLong.settings = settings(thorough, max_examples=250, phases=as_found)
