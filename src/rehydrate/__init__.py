"""Event-sourced actors: pure functions in, one live writer per aggregate, every fact kept.

domain/   what you write          codec/    how events become bytes      store/    where events live
runtime/  how it runs             app.py    what exists, and opens it    errors.py everything that goes wrong
"""

from rehydrate.app import App
from rehydrate.clock import Clock, NewId, SystemClock
from rehydrate.codec import JsonCodec
from rehydrate.domain.aggregate import Aggregate, Snapshot
from rehydrate.domain.envelope import CommandResult, EventEnvelope, Metadata
from rehydrate.domain.policy import Park, Retry, Skip, Stop
from rehydrate.domain.process import Cancel, ProcessManager, Rejected, Send, Undeliverable
from rehydrate.domain.projection import Projection
from rehydrate.domain.rejection import Rejection
from rehydrate.domain.server_made import ServerMade
from rehydrate.domain.subscription import NEWEST, Subscription
from rehydrate.domain.transactional import TransactionalHandler
from rehydrate.errors import (
    ActorCrashedError,
    AppendTooLargeError,
    CodecError,
    CommandTimeoutError,
    ConfigurationError,
    CorruptStoreError,
    DispatchError,
    DuplicateCommandError,
    InvalidIdError,
    MailboxFullError,
    OutcomeUnknownError,
    ProjectionBuildingError,
    ProjectionError,
    RehydrateError,
    StoreClosedError,
    StoreError,
    StoreSealedError,
    StoreUnavailableError,
    StreamQuarantinedError,
    UndecodableCommandError,
    UndecodableEventError,
    UnknownAggregateError,
    UnknownCommandError,
    UnknownEventError,
    VersionConflictError,
    ViewTimeoutError,
)
from rehydrate.runtime.consumers import Subscribed
from rehydrate.runtime.limits import Limits
from rehydrate.runtime.parking import Parked
from rehydrate.runtime.runtime import Runtime
from rehydrate.runtime.sync import SyncRuntime
from rehydrate.store.port import ANY_VERSION, STREAM_EXISTS
from rehydrate.store.url import open_store
from rehydrate.telemetry import ConsumerStatistics, Statistics

__all__ = [
    "ANY_VERSION",
    "ActorCrashedError",
    "Aggregate",
    "App",
    "AppendTooLargeError",
    "Cancel",
    "Clock",
    "CodecError",
    "CommandResult",
    "CommandTimeoutError",
    "ConfigurationError",
    "ConsumerStatistics",
    "CorruptStoreError",
    "DispatchError",
    "DuplicateCommandError",
    "EventEnvelope",
    "InvalidIdError",
    "JsonCodec",
    "Limits",
    "MailboxFullError",
    "Metadata",
    "NEWEST",
    "NewId",
    "OutcomeUnknownError",
    "Park",
    "Parked",
    "ProcessManager",
    "Projection",
    "ProjectionBuildingError",
    "ProjectionError",
    "RehydrateError",
    "Rejected",
    "Rejection",
    "Retry",
    "Runtime",
    "STREAM_EXISTS",
    "Send",
    "ServerMade",
    "Skip",
    "Snapshot",
    "Statistics",
    "Stop",
    "StoreClosedError",
    "StoreError",
    "StoreSealedError",
    "StoreUnavailableError",
    "StreamQuarantinedError",
    "Subscribed",
    "Subscription",
    "SyncRuntime",
    "SystemClock",
    "TransactionalHandler",
    "UndecodableCommandError",
    "UndecodableEventError",
    "Undeliverable",
    "UnknownAggregateError",
    "UnknownCommandError",
    "UnknownEventError",
    "VersionConflictError",
    "ViewTimeoutError",
    "open_store",
]
