"""Every bound and default of a runtime, in one table. `docs/runtime.md` shows it to people."""

from __future__ import annotations

import msgspec

from rehydrate.errors import ConfigurationError


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds that a runtime keeps; seconds where a time is meant. Nothing in it is unbounded."""

    timeout: float = 30.0
    """A command's deadline where `dispatch` names none, from the moment it was dispatched."""
    mailbox: int = 4_096
    """Commands that wait for one actor; one more is `MailboxFullError`."""
    max_live: int = 100_000
    """Actors in memory; one more evicts an idle one, and without an idle one it is `MailboxFullError`."""
    recoveries: int = 64
    """Actors that are rehydrated at the same time; others wait for a permit."""
    recovery_timeout: float = 60.0
    """For one rehydration, apart from the deadlines of the commands that wait for it."""
    max_redecide: int = 10
    """How often one command is decided again after conflicts; then `VersionConflictError`."""
    retry_first: float = 0.01
    """The first pause before an append of unknown outcome is sent again, and after a conflict; it doubles."""
    retry_most: float = 2.0
    """The longest such pause."""
    hold_first: float = 1.0
    """The first pause after a stream could not be read, or a store said that waiting does not help; it doubles."""
    hold_most: float = 60.0
    """The longest such pause."""
    routed: int = 10_000
    """In a cluster, commands that this process has sent to others and not heard of yet, and as many that it runs for
    others; one more is `MailboxFullError`."""
    shutdown_timeout: float = 30.0
    """How long closing waits for what was accepted."""
    takeover_after: float = 10.0
    """How long the holder of a consumer's name may show no life until another process takes over."""

    def __post_init__(self) -> None:
        for field in self.__struct_fields__:
            value = getattr(self, field)
            try:
                if not value > 0:
                    raise ConfigurationError(f"Limits({field}={value!r}): it must be more than 0")
            except TypeError:
                raise ConfigurationError(
                    f"Limits({field}={value!r}): it must be a number, of seconds where a time is meant"
                ) from None


DRAIN_COMMANDS = 256
DRAIN_EVENTS = 256
WORK_SLICE = 0.001
"""Seconds of work in one callback of the event loop; the rest goes on in the next turn."""
SWEEP_EVERY = 0.05
"""Seconds between two looks at deadlines and idle actors."""
WINDOW_EVENTS = 1_024
"""How far back, in events of its own stream, an actor recognises the id of a command."""
TRAIL_IDS = 1_048_576
"""How many ids that were read back beyond that are kept, in eight bytes each; the oldest beyond them are read again."""
TURN_DISPATCHES = 64
"""Dispatches that complete without suspending between two turns of the event loop."""
