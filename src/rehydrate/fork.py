"""What belongs to one process: in a child that was forked from it, stores and runtimes are closed.

And what a fork must not fall into. A library has locks of its own, which a thread holds while it is inside a call. In the
child that thread is not alive, so that they are held for ever. So a fork waits until all have come out, and nobody goes in
until it is over.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol
from weakref import WeakSet, ref

logger = logging.getLogger(__name__)

FORKED: Final = "it belongs to the process that this one was forked from: open one after the fork"

FORK_WAITS: Final = 1.0
"""Seconds that a fork waits for others. A call may last longer, where it waits for a disk or for another process's lock: then
it forks all the same, and the child may hang. That is rare, and better than a program that cannot fork at all."""
OTHERS_WAIT: Final = 5.0
"""Seconds that others wait for a fork. Longer than that it takes only where whatever else is done before it, a hook or what
the collector runs, waits for one of them."""


class ProcessBound(Protocol):
    """What must not be used in a forked child."""

    def forked(self) -> None:
        """Called in the child before anything else runs there: refuse every call from now on, touch nothing else."""
        ...


_bound: WeakSet[ProcessBound] = WeakSet()


def bind_to_process(bound: ProcessBound) -> None:
    """Have it told in every child that is forked from now on; this costs nothing until then."""
    _bound.add(bound)


def _tell_all() -> None:
    for bound in list(_bound):
        bound.forked()
    _bound.clear()


class NoFork:
    """Entered by a thread around its calls of such a library, as often as it likes."""

    __slots__ = ("__weakref__", "_depth", "acquire", "release")

    def __init__(self) -> None:
        self._depth = 0
        # A thread that is inside may be the one that forks.
        lock = threading.RLock()
        self.acquire: Callable[..., bool] = lock.acquire
        self.release: Callable[[], None] = lock.release

    def __enter__(self) -> None:
        if self._depth == 0 and (_forks.is_due or not self.acquire(False)):  # noqa: FBT003 - by name it is slower
            self._enter_after_fork()
        self._depth += 1

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            _let_go(self.release)

    def let_fork(self) -> None:
        """Come out for a moment, if a fork waits for it."""
        if self._depth and _forks.is_due:
            _let_go(self.release)
            self._enter_after_fork()

    def _enter_after_fork(self) -> None:
        _forks.wait()
        self.acquire(timeout=OTHERS_WAIT)


def _let_go(release: Callable[[], None]) -> None:
    try:
        release()
    except RuntimeError:
        pass  # It was never held: a fork, or who waited for one, went on without it.


class _Forks:
    """The forks of this process: one at a time, unless it takes too long."""

    def __init__(self) -> None:
        self.is_due = False
        """A fork waits, or is under way: whoever is not inside yet goes in after it."""
        self._turn = threading.RLock()
        self._all: set[ref[NoFork]] = set()

    def know(self, entered: NoFork) -> None:
        # Whoever is not among them when a fork looks has yet to see that it is due.
        self._all.add(ref(entered, self._all.discard))

    def wait(self) -> None:
        """Until a fork is over."""
        if self._turn.acquire(timeout=OTHERS_WAIT):
            self._turn.release()

    def before(self) -> None:
        give_up = time.monotonic() + FORK_WAITS
        fork = _Fork()
        _thread.forks.append(fork)
        # Noted before it is held: an interrupt must not leave behind what nobody releases.
        fork.releases.append(self._turn.release)
        if not self._turn.acquire(timeout=FORK_WAITS):
            return
        self.is_due = fork.is_due = True
        are_out = True
        for known in list(self._all):
            entered = known()
            if entered is not None:
                fork.releases.append(entered.release)
                are_out &= entered.acquire(timeout=max(give_up - time.monotonic(), 0))
        fork.is_safe = are_out

    def after(self) -> bool:
        """Let them go on; whether none of them was inside."""
        if not _thread.forks:
            return True  # This module was imported by what another does before a fork.
        fork = _thread.forks.pop()
        if fork.is_due:
            self.is_due = False
        for release in reversed(fork.releases):
            _let_go(release)
        return fork.is_safe

    def after_in_parent(self) -> None:
        if not self.after():
            logger.warning(
                "a fork waited for %s s, and somebody still was in a call that it should not fall into: the child may hang",
                FORK_WAITS,
            )

    def after_in_child(self) -> None:
        self.after()
        # The others are not alive here, and may have held anything.
        self.is_due = False
        self._turn = threading.RLock()
        self._all.clear()
        self.know(_thread.entered)
        _tell_all()


class _Fork:
    """What a thread holds for a fork of its own."""

    def __init__(self) -> None:
        self.releases: list[Callable[[], None]] = []
        self.is_due = False
        self.is_safe = False


class _OfThread(threading.local):
    def __init__(self) -> None:
        self.entered = NoFork()
        self.forks: list[_Fork] = []
        """More than one where something that is done before a fork forks, too."""
        _forks.know(self.entered)


_forks: Final = _Forks()
_thread: Final = _OfThread()


def no_fork() -> NoFork:
    """Of this thread: `with no_fork(): ...` is not under way when any thread forks, but its own.

    Whoever waits inside for another thread, which goes in too, holds up a fork that holds up the other.
    """
    return _thread.entered


if sys.platform != "win32":
    import os

    os.register_at_fork(
        before=_forks.before, after_in_parent=_forks.after_in_parent, after_in_child=_forks.after_in_child
    )
