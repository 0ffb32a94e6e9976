"""How long to wait for an acknowledgement until an append is sent again.

A leader that is cut off takes an append and never answers, and the next one knows nothing of it: the sooner it is sent
again, the shorter is the outage. Servers that are slow because they have much to do are not to be given more of it. So
it depends on how long acknowledgements have taken lately.
"""

from __future__ import annotations

from typing import Final

LEAST: Final = 0.25
MOST: Final = 1.0
_TIMES: Final = 5.0
_FORGOTTEN: Final = 0.98
"""What is left of a slow acknowledgement with each later one: after a hundred it is forgotten."""


class Patience:
    """Several times the slowest of the latest acknowledgements, within bounds."""

    __slots__ = ("_slowest", "seconds")

    def __init__(self) -> None:
        self.seconds = MOST
        self._slowest = MOST / _TIMES

    def heard_after(self, seconds: float) -> None:
        """An acknowledgement has come, so long after the append was sent."""
        self._slowest = max(seconds, self._slowest * _FORGOTTEN)
        self.seconds = min(MOST, max(LEAST, _TIMES * self._slowest))
