"""Saving states. A failure is a warning: it costs time at the next rehydration, and nothing else."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from rehydrate.codec.difference import difference
from rehydrate.runtime.budget import within
from rehydrate.runtime.decision import describe
from rehydrate.runtime.phases import IDLE
from rehydrate.store.port import StoredSnapshot

if TYPE_CHECKING:
    from rehydrate.runtime.actor import AggregateActor
    from rehydrate.runtime.manager import AggregateManager

_log = logging.getLogger(__name__)


class Snapshotter:
    """Encodes the state of an actor at once, when it is due, and saves it in the background."""

    __slots__ = ("_manager", "_under_way")

    def __init__(self, manager: AggregateManager) -> None:
        self._manager = manager
        self._under_way = 0

    def is_due(self, actor: AggregateActor[Any, Any, Any]) -> bool:
        """Whether there are as many new events as the aggregate says."""
        policy = actor.blueprint.snapshot
        return (
            policy is not None and not actor.saving and actor.version - actor.snapshot_version >= policy.every
        )

    def take_when_idle(self, actor: AggregateActor[Any, Any, Any]) -> None:
        """Have it taken, if it is due, after the caller has its result."""
        if self.is_due(actor):
            actor.saving = True
            self._manager.loop.call_soon(self._take_if_idle, actor)

    def _take_if_idle(self, actor: AggregateActor[Any, Any, Any]) -> None:
        actor.saving = False
        # If it is busy again, the end of that append sees to it.
        if actor.phase == IDLE:
            self.take_if_due(actor)

    def take_if_due(self, actor: AggregateActor[Any, Any, Any]) -> None:
        """Save the state that is durable now, if it is due; `actor.saving` is taken back when that is over."""
        if not self.is_due(actor):
            return
        actor.saving = True
        actor.snapshot_version = actor.version
        # A store that is slow to save costs later rehydrations time; it must not pile up states in memory.
        has_room = self._under_way < self._manager.limits.recoveries
        snapshot = self._encode(actor) if has_room else None
        if snapshot is None:
            actor.saving = False
        else:
            self._under_way += 1
            self._manager.spawn(self._save(actor, snapshot), partial(self._ended, actor))

    def _encode(self, actor: AggregateActor[Any, Any, Any]) -> StoredSnapshot | None:
        policy, codec = actor.blueprint.snapshot, actor.blueprint.codecs.state
        assert policy is not None
        assert codec is not None
        try:
            data = codec.encode(actor.state)
            why = difference(actor.state, codec.decode(data))
        except Exception as error:  # noqa: BLE001 - whatever a codec raises, the command has its result
            _log.warning("%s: no snapshot, its state cannot be encoded: %s", actor.stream, describe(error))
            return None
        if why is not None:
            _log.warning(
                "%s: no snapshot, its state at version %s does not come back as it was: %s",
                actor.stream,
                actor.version,
                why,
            )
            return None
        return StoredSnapshot(
            stream=actor.stream,
            version=actor.version,
            position=actor.position,
            event_id=actor.last_id,
            schema=policy.schema,
            fingerprint=codec.fingerprint,
            data=data,
            recorded_at=self._manager.clock.wall(),
        )

    async def _save(self, actor: AggregateActor[Any, Any, Any], snapshot: StoredSnapshot) -> None:
        policy = actor.blueprint.snapshot
        assert policy is not None
        try:
            manager = self._manager
            saving = manager.snapshots.save_snapshot(snapshot, keep=policy.keep)
            await within(
                manager.clock, manager.limits.recovery_timeout, saving, "the snapshot store did not answer"
            )
        except Exception as error:  # noqa: BLE001 - a snapshot store may fail as it likes
            _log.warning(
                "%s: its snapshot at version %s was not saved: %s", snapshot.stream, snapshot.version, error
            )
        else:
            self._manager.counters.snapshots += 1
        self._ended(actor)

    def _ended(self, actor: AggregateActor[Any, Any, Any]) -> None:
        self._under_way -= 1
        actor.saving = False
