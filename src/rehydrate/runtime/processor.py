"""What reads the events of the sources for a process manager, and has each taken in by its instance once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from rehydrate.domain.envelope import EventEnvelope
from rehydrate.domain.subscription import Subscription
from rehydrate.errors import (
    CommandTimeoutError,
    DuplicateCommandError,
    MailboxFullError,
    OutcomeUnknownError,
    StoreUnavailableError,
    VersionConflictError,
)
from rehydrate.runtime.envelopes import Envelopes
from rehydrate.runtime.lanes import Item
from rehydrate.runtime.process import Process
from rehydrate.runtime.runtime import Runtime
from rehydrate.runtime.subscriber import Subscriber
from rehydrate.runtime.tenure import Tenure, backoff

WORKERS: Final = 64
"""How many instances take in events at the same time."""
PASSING: Final = (
    CommandTimeoutError,
    MailboxFullError,
    OutcomeUnknownError,
    StoreUnavailableError,
    VersionConflictError,
)
"""What a later try mends, and no user's code is the cause of."""


class Processor(Subscriber):
    """A subscription whose handler is the instance that an event belongs to."""

    kind = "process manager"

    def __init__(self, process: Process, runtime: Runtime) -> None:
        declared = process.declared
        sources = process.codecs.sources
        subscription = Subscription(
            name=declared.name,
            handler=self._take_in,
            aggregates=[process.codecs.targets[name].aggregate for name in sources],
            partition_by=self._key,
            workers=WORKERS,
            on_error=declared.on_error,
            after=declared.after,
        )
        super().__init__(subscription, Envelopes({name: codecs.events for name, codecs in sources.items()}))
        self.name = f"{declared.name}:events"
        self._process = process
        self._runtime = runtime

    async def _try(self, tenure: Tenure, items: Sequence[Item]) -> None:
        tries = 0
        while True:
            try:
                await super()._try(tenure, items)
            except PASSING:
                tries += 1
            else:
                return
            await tenure.pause(backoff(tenure.limits, tries))

    async def _carefully(self, tenure: Tenure) -> None:
        """Nothing to fear: what is called here is pure, and no handler that may have been the end of the process."""

    def _key(self, envelope: EventEnvelope[Any]) -> str:
        id = self._process.instance_of(envelope)
        return envelope.stream if id is None else id

    async def _take_in(self, envelope: EventEnvelope[Any]) -> None:
        id = self._process.instance_of(envelope)
        if id is None:
            return
        try:
            await self._runtime.dispatch(
                self._process.instances,
                id,
                self._process.react_to(envelope),
                command_id=envelope.id,
                caused_at=envelope.position,
                correlation_id=envelope.metadata.correlation_id or envelope.id,
                causation_id=envelope.id,
            )
        except DuplicateCommandError:
            # It was taken in, by code that writes the same event in other bytes.
            pass
