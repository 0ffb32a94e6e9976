"""What belongs to one process: in a child that was forked from it, stores and runtimes are closed."""

from __future__ import annotations

import sys
from typing import Final, Protocol
from weakref import WeakSet

FORKED: Final = "it belongs to the process that this one was forked from: open one after the fork"


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


if sys.platform != "win32":
    import os

    os.register_at_fork(after_in_child=_tell_all)
