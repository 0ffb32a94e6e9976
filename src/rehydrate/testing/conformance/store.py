"""All laws in one class."""

from __future__ import annotations

from rehydrate.testing.conformance.appends import AppendLaws
from rehydrate.testing.conformance.cancellation import CancellationLaws
from rehydrate.testing.conformance.checkpoints import CheckpointLaws
from rehydrate.testing.conformance.crashes import CrashLaws
from rehydrate.testing.conformance.idempotency import IdempotencyLaws
from rehydrate.testing.conformance.ids import IdLaws
from rehydrate.testing.conformance.lifecycle import LifecycleLaws
from rehydrate.testing.conformance.log import LogLaws
from rehydrate.testing.conformance.ordering import OrderingLaws
from rehydrate.testing.conformance.payloads import PayloadLaws
from rehydrate.testing.conformance.processes import ProcessLaws
from rehydrate.testing.conformance.restores import RestoreLaws
from rehydrate.testing.conformance.sealing import SealingLaws
from rehydrate.testing.conformance.snapshots import SnapshotLaws
from rehydrate.testing.conformance.streams import StreamLaws
from rehydrate.testing.conformance.views import ViewLaws


class StoreConformance(
    AppendLaws,
    IdempotencyLaws,
    OrderingLaws,
    StreamLaws,
    LogLaws,
    PayloadLaws,
    IdLaws,
    SnapshotLaws,
    CheckpointLaws,
    ViewLaws,
    SealingLaws,
    LifecycleLaws,
    CancellationLaws,
    ProcessLaws,
    CrashLaws,
    RestoreLaws,
):
    """Every law. A subclass says with the fixture `url` where a fresh store is."""
