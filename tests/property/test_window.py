"""The window of recent command ids against a model that forgets nothing."""

from __future__ import annotations

from typing import NamedTuple
from unittest import mock

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rehydrate import Metadata
from rehydrate.runtime.window import Seen, Window
from rehydrate.store.port import StoredEvent

WINDOW = 6
"""Instead of 1,024, so that a few commands go round it."""

sizes = st.lists(st.integers(1, 4), min_size=1, max_size=5)
"""How many events each of some commands stored."""


class Stored(NamedTuple):
    """A command in the stream."""

    id: str
    first: int
    last: int
    position: int


class WindowMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.shorter = mock.patch("rehydrate.runtime.window.WINDOW_EVENTS", WINDOW)
        self.shorter.start()
        self.commands: list[Stored] = []
        self.events: list[StoredEvent] = []
        self.is_loaded = True

    @initialize(before=st.lists(st.integers(1, 4), max_size=5))
    def begin(self, before: list[int]) -> None:
        self._store(before)
        self._new_window()

    @property
    def version(self) -> int:
        return len(self.events)

    @property
    def position(self) -> int:
        return self.events[-1].position if self.events else 0

    def _new_window(self) -> None:
        self.window = Window(self.version, self.position)
        self.is_loaded = self.version == 0

    def _store(self, sizes: list[int]) -> list[Stored]:
        new: list[Stored] = []
        for size in sizes:
            # Between two of its commands other streams got events.
            position = self.position + len(self.events) % 3
            id = f"c{len(self.commands)}"
            metadata = msgspec.json.encode(Metadata(command_id=id, fingerprint=f"digest of {id}"))
            for _ in range(size):
                position += 1
                stored = StoredEvent("s", self.version + 1, position, f"e{position}", "E", b"", metadata, 0)
                self.events.append(stored)
            new.append(Stored(id, self.version - size + 1, self.version, position))
            self.commands.append(new[-1])
        return new

    @rule(sizes=sizes)
    def store_commands(self, sizes: list[int]) -> None:
        for stored in self._store(sizes):
            seen = Seen(stored.first, stored.last, f"digest of {stored.id}")
            self.window.add(stored.id, seen, stored.position)

    @rule(sizes=sizes)
    def catch_up_with_commands_of_others(self, sizes: list[int]) -> None:
        before = self.version
        self._store(sizes)
        self.window.add_events(self.events[before:])

    @precondition(lambda self: not self.is_loaded)
    @rule()
    def load(self) -> None:
        start = max(0, self.version - WINDOW)
        if start < self.window.since:
            position = self.events[start - 1].position if start else 0
            self.window.extend_back(self.events[start : self.window.since], start, position)
        self.is_loaded = True

    @rule()
    def restart(self) -> None:
        self._new_window()

    @invariant()
    def every_command_after_since_is_found(self) -> None:
        for stored in self.commands:
            seen = self.window.find(stored.id)
            if stored.last > self.window.since:
                assert seen is not None, stored
            if seen is not None:
                first = stored.first if stored.first > self.window.since else max(stored.first, seen.first)
                assert seen == Seen(first, stored.last, f"digest of {stored.id}"), (stored, self.window.since)

    @invariant()
    def nothing_else_is_found(self) -> None:
        assert self.window.find("c") is None
        assert self.window.find(f"c{len(self.commands)}") is None

    @invariant()
    def a_loaded_window_goes_on_covering_the_newest_events(self) -> None:
        if self.is_loaded:
            assert self.window.covers(self.version, None)
            assert self.window.since <= max(0, self.version - WINDOW)

    @invariant()
    def what_is_covered_since_a_position_is_found(self) -> None:
        for caused_at in range(self.position + 1):
            if self.window.covers(self.version, caused_at):
                later = [stored for stored in self.commands if stored.position > caused_at]
                assert all(self.window.find(stored.id) for stored in later), (caused_at, self.window.since)

    @invariant()
    def it_stays_small(self) -> None:
        known = [stored for stored in self.commands if self.window.find(stored.id)]
        assert sum(stored.last - stored.first + 1 for stored in known) <= 3 * WINDOW + 8

    def teardown(self) -> None:
        self.shorter.stop()


TestWindow = WindowMachine.TestCase
TestWindow.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
