"""What an actor is doing at the moment. How it goes from one to the next is in `actor`."""

from __future__ import annotations

from typing import Final

IDLE: Final = 0
DECIDING: Final = 1
RECOVERING: Final = 2
"""Reading the store; commands wait in the mailbox."""
APPENDING: Final = 3
CHECKING: Final = 4
"""Asking the store whether an answer that appends nothing was decided on the newest state."""
PAUSING: Final = 5
"""Until a timer or the next turn of the loop."""
GONE: Final = 6
