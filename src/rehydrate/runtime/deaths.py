"""An event that ends the process that handles it: found by what earlier holders of the name counted before they ended."""

from __future__ import annotations

from typing import Final

CAREFUL: Final = 1_000
"""How many events are handled one by one, each attempt counted first, after holders that did not end in order."""
DEATHS: Final = 3
"""How often an attempt at an event may be the end of the process before the event is taken for the cause."""


def took_the_process(count: int) -> RuntimeError:
    """What an event failed with whose attempts were the end of so many processes."""
    return RuntimeError(f"{count} processes ended while they handled it, and not in order")
