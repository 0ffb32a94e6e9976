"""Group commit with two groups under way: one is being committed, and behind it the next one waits for the thread.

Preparing rows needs the interpreter's lock, as the event loop does all the time; a commit does not. So the thread tells
what became of a group when the rows of the next one are in and nothing but its commit is left: the event loop then wakes
the callers of the one while the disk has the other. Told any earlier, the two would take the lock from each other.

On a disk that needs longer than the event loop does, one commit for all is better than two for a half each, by turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from rehydrate.store.group_commit import MAX_GROUP_APPENDS, MAX_TURN, Group, GroupCommit

HALVES_FROM: Final = 32
"""So many callers are worth two commits."""
CALLER_TIME: Final = 0.000_030
"""Seconds that the event loop is busy with a caller between its answer and the next append, and as much again: how long a
commit takes is known only together with how long the thread waits for the interpreter's lock after it."""


class TwoGroups(GroupCommit):
    """The appends of one opened store, half of them in a commit while the others' callers decide again.

    Where there are few, it is one group for all of them. Which of its appends cannot be stored is for the store to find
    out, and that what waits behind a group that could not be stored is not stored either.
    """

    def __init__(
        self,
        send: Callable[[Group], None],
        *,
        commit_time: Callable[[], float],
        halves_from: int = HALVES_FROM,
        max_appends: int = MAX_GROUP_APPENDS,
        max_turn: float = MAX_TURN,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(send, max_appends=max_appends, max_turn=max_turn, monotonic=monotonic)
        self._commit_time = commit_time
        self._halves_from = halves_from
        self._last = 0
        """How many appends were sent last."""
        self._is_due = True
        """`_go_on` is to be called, by the event loop or by the next who submits."""

    def _go_on(self) -> None:
        """Send what has collected: in halves, if nothing is under way. Each group that has ended brings it here once."""
        self._is_due = False
        everybody = self._everybody()
        if self._under_way > 1 or (self._under_way and not self._is_quick(everybody)):
            return
        if not self._under_way and self._are_worth_two(everybody):
            self._send_next()
        if self._send_next():
            return
        self._busy = False
        self._is_due = True
        if self._idle is not None and not self._under_way and not self._undelivered:
            self._idle.set_result(None)
            self._idle = None

    def _next_group(self) -> Group:
        group = super()._next_group()
        self._last = len(group)
        return group

    def _most(self) -> int:
        """Half of all who are here."""
        everybody = self._everybody()
        return (
            min(self._max_appends, (everybody + 1) // 2)
            if self._are_worth_two(everybody)
            else self._max_appends
        )

    def _everybody(self) -> int:
        return len(self._pending) + (self._last if self._under_way else 0)

    def _are_worth_two(self, everybody: int) -> bool:
        return everybody >= self._halves_from and self._is_quick(everybody)

    def _is_quick(self, everybody: int) -> bool:
        """Whether as much time is saved, by waking one half during the commit of the other, as a second commit takes."""
        return self._commit_time() < max(everybody, self._halves_from) * CALLER_TIME

    def _delivered(self) -> None:
        """What was woken has its turn first, so that it shares a group."""
        if not self._is_due or self._idle is not None:
            self._is_due = True
            self._loop.call_soon(self._go_on)
