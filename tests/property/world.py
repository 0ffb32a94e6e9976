"""The runtimes of one example, the store that they share, and what can be done to all of them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, closing
from itertools import count
from pathlib import Path
from typing import Any, Protocol, cast

import msgspec

from rehydrate import (
    App,
    CommandResult,
    Limits,
    MailboxFullError,
    Metadata,
    Runtime,
    Snapshot,
    StoreError,
    StoreUnavailableError,
    open_store,
)
from rehydrate.store.memory import MemoryStore, Stream
from rehydrate.store.port import Appended, NewEvent, Store
from rehydrate.testing.clock import FakeClock, settle, until
from rehydrate.testing.faults import Fault, FaultyStore, RandomFaults, Script
from tests.property.history import Attempt, History, Log, Sent, read_log
from tests.property.ledger import Batch, Event, Ledger, codec, events_of, ledger_aggregate
from tests.property.wire import MortalClock, Wire

ACCOUNTS = ("a", "b", "c")
_DELAY = 0.5
"""Seconds after which every call that a fault has delayed has got there."""
_PATIENCE = 400.0
"""Seconds on the fake clock after which everything must have come to rest: more than all limits together."""


class Backup(Protocol):
    """How the store of an example is copied, and brought back under the hands of those who have it open."""

    def copy(self) -> None: ...
    def restore(self) -> None: ...


class MemoryBackup:
    def __init__(self, store: Store) -> None:
        assert isinstance(store, MemoryStore)
        self._memory = store._opened  # pyright: ignore[reportPrivateUsage]

    def copy(self) -> None:
        memory = self._memory
        self._log = list(memory.log)
        self._streams = {name: list(events) for name, events in memory.streams.items()}
        self._snapshots = {name: list(saved) for name, saved in memory.snapshots.items()}

    def restore(self) -> None:
        memory = self._memory
        memory.log[:] = self._log
        memory.streams.clear()
        memory.streams.update({name: Stream(events) for name, events in self._streams.items()})
        memory.snapshots.clear()
        memory.snapshots.update({name: list(saved) for name, saved in self._snapshots.items()})


class SnapshotsLeft(MemoryBackup):
    """Brings back the events alone: the snapshots, kept elsewhere, may be ahead of them."""

    def copy(self) -> None:
        super().copy()
        self._snapshots = self._memory.snapshots


class FileBackup:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._copy = path.with_suffix(".copy")

    def copy(self) -> None:
        self._transfer(self._path, self._copy)

    def restore(self) -> None:
        self._transfer(self._copy, self._path)

    @staticmethod
    def _transfer(source: Path, target: Path) -> None:
        with closing(sqlite3.connect(source)) as read, closing(sqlite3.connect(target)) as written:
            read.backup(written)


class Node:
    """One runtime, which a test can kill, on a store in which it can make things go wrong."""

    def __init__(self, name: str, clock: FakeClock, opened: Store) -> None:
        self.name = name
        self.script = Script()
        self.often = RandomFaults(0, rate=0.0)
        self.below = Wire(opened)
        self.store = FaultyStore(
            cast(Store, self.below), lambda method: self.script(method) or self.often(method), clock
        )
        self.above = Wire(cast(Store, self.store))
        self.clock = MortalClock(clock)
        self.runtime: Runtime
        self._stack = AsyncExitStack()

    async def open(self, app: App, limits: Limits) -> None:
        ids = count(1)
        self.runtime = await self._stack.enter_async_context(
            app.open(
                cast(Store, self.above),
                clock=self.clock,
                limits=limits,
                new_id=lambda: f"{self.name}.{next(ids)}",
            )
        )

    async def close(self) -> None:
        await self._stack.aclose()

    def expect(self, troubles: Sequence[tuple[str, Fault]]) -> None:
        for method, fault in troubles:
            self.script.add(method, fault)

    async def recover(self) -> None:
        """No more faults, and what was held up goes on."""
        self.script, self.often.rate = Script(), 0.0
        self.below.rivals = 0
        self.store.release()
        await self.store.land()

    def kill(self) -> None:
        self.above.is_cut = self.clock.is_dead = True

    def __repr__(self) -> str:
        return self.name


class Stranger:
    """Somebody who appends without a runtime."""

    def __init__(self, events: tuple[Event, ...]) -> None:
        self.answer: asyncio.Future[CommandResult[Event]] = asyncio.get_running_loop().create_future()
        self._events = events

    def append_done(self, outcome: Appended | StoreError) -> None:
        if isinstance(outcome, StoreError):
            self.answer.set_exception(outcome)
        else:
            self.answer.set_result(CommandResult(outcome.version, outcome.position, self._events))


class World:
    """A store, and the runtimes on it."""

    def __init__(
        self, url: str, snapshot: Snapshot | None, limits: Limits, backup: Callable[[Store], Backup]
    ) -> None:
        self.url = url
        self.limits = limits
        self.clock = FakeClock()
        self.ledger = ledger_aggregate(snapshot=snapshot)
        self.app = App(aggregates=[self.ledger])
        self.nodes: list[Node] = []
        """Those that live."""
        self.history = History()
        self.log = Log([])
        self._all: list[Node] = []
        self._make_backup = backup

    async def open(self) -> None:
        self.store = await open_store(self.url, clock=self.clock)
        self.backup = self._make_backup(self.store)
        self.backup.copy()
        await self.open_node()

    async def open_node(self) -> None:
        node = Node(f"node{len(self._all)}", self.clock, await open_store(self.url, clock=self.clock))
        self._all.append(node)
        node.below.be_faster = self._be_faster
        await node.open(self.app, self.limits)
        self.nodes.append(node)

    # ---- commands

    def dispatch(self, node: Node, sent: Sent, timeout: float | None) -> Attempt:
        answer = node.runtime.dispatch_nowait(
            self.ledger,
            sent.account,
            sent.command,
            command_id=sent.id,
            caused_at=sent.caused_at if sent.id is not None else None,
            timeout=timeout,
            metadata={"command": sent.number},
        )
        return self.history.attempt(sent, node, answer)

    def ask(self, node: Node, account: str) -> None:
        answer = asyncio.ensure_future(node.runtime.state(self.ledger, account))
        answer.add_done_callback(_look)
        self.history.ask(account, node, answer)

    async def append_as_stranger(self, account: str, command: Batch) -> None:
        """What a process without a runtime stores, where the stream is."""
        attempt = self._submit_as_stranger(self.store, account, command, self.log.version(account))
        await until(attempt.answer.done)

    def _be_faster(self, store: Store, stream: str, version: int) -> None:
        self._submit_as_stranger(store, stream.partition("-")[2], Batch((1,)), version)

    def _submit_as_stranger(self, store: Store, account: str, command: Batch, version: int) -> Attempt:
        sent = self.history.add(account, command, None, None)
        stored = Metadata(command_id=f"stranger.{sent.number}", user={"command": sent.number})
        metadata = msgspec.json.encode(stored)
        events = events_of(command)
        new = [
            NewEvent(f"stranger.{sent.number}.{n}", codec.names[type(event)], codec.encode(event), metadata)
            for n, event in enumerate(events)
        ]
        stranger = Stranger(events)
        outcome = store.submit(self.ledger.stream(account), new, version, stranger)
        if outcome is not None:
            stranger.append_done(outcome)
        return self.history.attempt(sent, stranger, stranger.answer)

    # ---- time

    async def rest(self) -> None:
        """Let everything happen that needs no time to pass."""
        await settle()
        while any(node.below.under_way for node in self._all):
            await until(lambda: not any(node.below.under_way for node in self._all))
            await settle()

    async def advance(self, seconds: float) -> None:
        """Let time pass, in steps so short that an answer of a thread is not late for all of it."""
        left = seconds
        while left > 0:
            await self.clock.advance(min(left, 0.25))
            await self.rest()
            left -= 0.25

    async def look(self) -> Log:
        await self.rest()
        self.log = await read_log(self.store)
        return self.log

    # ---- endings

    async def close_node(self, node: Node) -> None:
        """Close it, however long it takes on the fake clock; by then it has answered everybody."""
        self.nodes.remove(node)
        closing_it = asyncio.ensure_future(node.close())
        await self._advance_until(closing_it.done, "a runtime was not closed")
        await closing_it
        await self.look()
        for attempt in self.history.waiting:
            assert attempt.node is not node or attempt.answer.done(), (
                f"{node} was closed, and did not answer {attempt}"
            )

    def kill_node(self, node: Node) -> None:
        node.kill()
        self.nodes.remove(node)
        self.history.killed(node)

    async def settle(self) -> Log:
        """No more faults, and whatever is under way ends, wherever it is: then nobody waits any more."""
        for node in self._all:
            await node.recover()
        await self.advance(_DELAY)
        await self._advance_until(self._is_at_rest, "somebody waits for ever")
        log = await self.look()
        self.history.check(log)
        self.history.settled(log)
        return log

    def _is_at_rest(self) -> bool:
        counts = [node.runtime.statistics() for node in self.nodes]
        return (
            all(attempt.answer.done() for attempt in self.history.waiting)
            and all(question.answer.done() for question in self.history.questions)
            and not any(count.busy or count.mailbox_depth or count.recovering for count in counts)
        )

    async def _advance_until(self, condition: Callable[[], bool], otherwise: str) -> None:
        until_then = self.clock.monotonic() + _PATIENCE
        await self.rest()
        while not condition():
            assert self.clock.monotonic() < until_then, f"{otherwise}: {self.history.waiting}"
            await self.advance(0.25)

    async def restore(self, repeated: Sequence[Sent]) -> None:
        """Bring back the copy under one runtime that goes on, and which is asked to repeat commands at once.

        What other runtimes knew is gone with them. Two that go on could not tell: one may fill the versions up again
        that the other still believes in.
        """
        for node in self.nodes[1:]:
            self.kill_node(node)
        for node in self._all:
            await node.recover()
        await self.advance(_DELAY)
        self.history.check(await self.look())
        self.backup.restore()
        self.history.went_back(await self.look())
        for sent in repeated:
            self.dispatch(self.nodes[0], sent, None)
        await self.check_states()

    async def check_states(self) -> None:
        """Every runtime shows the fold of what is stored."""
        for node in self.nodes:
            for account in ACCOUNTS:
                state = await self._state(node, account)
                await self.look()
                assert state == self.log.states.get(account, [self.ledger.initial])[-1], self.log.show(
                    account
                )

    async def _state(self, node: Node, account: str) -> Ledger:
        while True:
            answer = asyncio.ensure_future(node.runtime.state(self.ledger, account))
            await self._advance_until(answer.done, "a state is never shown")
            try:
                return await answer
            except (MailboxFullError, StoreUnavailableError):
                # It shared the fate of a command before it.
                await self.advance(0.25)

    async def close(self) -> None:
        for node in [*self.nodes]:
            await self.close_node(node)

    async def clear_away(self) -> None:
        """Give back what is left, after a failure, too."""
        for node in self._all:
            node.above.is_cut, node.clock.is_dead = True, False
            closing_it = asyncio.ensure_future(node.close())
            while not closing_it.done():
                await self.clock.advance(1.0)
            await closing_it
            await node.store.close()
        await self.store.close()


def _look(answer: asyncio.Future[Any]) -> None:
    """Nobody need look at it in the end."""
    if not answer.cancelled():
        answer.exception()
