"""What group commit is tried on: a disk and waiters, both in the hands of a test."""

import asyncio
from collections.abc import Callable

from rehydrate.store.group_commit import Group, GroupCommit, Outcome
from rehydrate.store.port import Appended, NewEvent


class Waiter:
    def __init__(self, then: Callable[[], object] | None = None) -> None:
        self.outcomes: list[Outcome] = []
        self._then = then

    def append_done(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        if self._then is not None:
            self._then()


class Disk:
    """What the groups are sent to; a test completes them by hand."""

    def __init__(
        self,
        *,
        gathers: bool = False,
        begin: Callable[[Callable[[], None]], object] | None = None,
        make_ready: Callable[[Group], object] | None = None,
        **options: int,
    ) -> None:
        self.sent: list[Group] = []
        self.now = 0.0
        self.groups = GroupCommit(
            self.sent.append,
            monotonic=lambda: self.now,
            gathers=gathers,
            begin=begin,
            make_ready=make_ready,
            **options,
        )
        self.position = 0

    def submit(self, stream: str, waiter: Waiter | None = None, *, size: int = 1) -> Waiter:
        waiter = waiter or Waiter()
        event = NewEvent("id", "T", b"x" * size, b"")
        assert self.groups.submit(stream, (event,), 0, waiter) is None
        return waiter

    def streams(self) -> list[list[str]]:
        return [[append.stream for append in group] for group in self.sent]

    def complete(self) -> None:
        group = self.sent[-1]
        outcomes: list[Outcome] = []
        for _ in group:
            self.position += 1
            outcomes.append(Appended(1, self.position))
        self.groups.completed(group, outcomes)


async def turn() -> None:
    await asyncio.sleep(0)
