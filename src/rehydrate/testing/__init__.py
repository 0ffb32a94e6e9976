"""For tests: of a domain, of a store, of a system under faults.

given.py        a domain, without an event loop        faults.py    a store that fails when it is told to
given_views.py  a projection, in the same way          given_process.py  a process manager, in the same way
happened.py     the events that these two are given
clock.py        time that a test moves by hand         conformance/ the laws that every store must pass
servers/        real databases, started for tests      proxy.py     a network that fails when it is told to
"""

from rehydrate.testing.clock import FakeClock, settle, until
from rehydrate.testing.faults import (
    Delay,
    DelayAnswer,
    FaultyStore,
    Hang,
    HangAnswer,
    Late,
    Lose,
    LoseAnswer,
    RandomFaults,
    Refuse,
    Script,
)
from rehydrate.testing.given import given
from rehydrate.testing.happened import Happened

__all__ = [
    "Delay",
    "DelayAnswer",
    "FakeClock",
    "FaultyStore",
    "Hang",
    "HangAnswer",
    "Happened",
    "Late",
    "Lose",
    "LoseAnswer",
    "RandomFaults",
    "Refuse",
    "Script",
    "given",
    "settle",
    "until",
]
