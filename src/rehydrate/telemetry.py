"""What a running system says about itself."""

from __future__ import annotations

import msgspec


class ConsumerStatistics(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One consumer, as this process sees it."""

    name: str
    """Of its checkpoint; that of a projection ends with its revision, as in `balances@1`."""
    kind: str
    """`"projection"`, `"subscription"`, `"transactional handler"`; `"process manager"` and `"timers"`."""
    state: str
    """`"running"`; `"waiting"` while another process runs it; `"paused"`, `"stopped"`, `"failing"`, `"closed"`."""
    reason: str
    """Why it is stopped or failing."""
    position: int
    """Up to where it has handled the log, while it runs here."""
    lag: int
    """How many positions it is behind the newest that it has seen."""
    parked: int
    """Events that are set aside."""
    handled: int
    """Events that it was given, since it exists."""


class Statistics(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Counts of one runtime: `live` to `mailbox_depth` as of now, the others since it was opened."""

    live: int
    """Actors in memory."""
    busy: int
    """Actors that have a command under way or waiting."""
    recovering: int
    """Actors that are being rehydrated or wait for a permit to be."""
    mailbox_depth: int
    """Commands that wait in mailboxes."""
    dispatched: int
    """Commands that got a result, a rejection included."""
    rejected: int
    """Commands that the domain refused."""
    failed: int
    """Commands that an actor took and that ended in a `RehydrateError`."""
    conflicts: int
    """Appends and checks that met a stranger's events and were decided again."""
    rehydrated: int
    """Actors that were rebuilt from the store."""
    passivated: int
    """Actors that were unloaded."""
    snapshots: int
    """Snapshots that were saved."""
    nodes: int = 0
    """Processes in the cluster, as of now, this one included; 0 without a cluster."""
    shards: int = 0
    """Shards that this process owns, as of now."""
    routed: int = 0
    """Commands that were sent to other processes."""
    served: int = 0
    """Commands that came from other processes."""
    consumers: tuple[ConsumerStatistics, ...] = ()
    """Everything of this runtime that reads the log: projections, subscriptions, process managers and others."""
