"""What runs a transactional handler: its writes and its place in the log are one transaction."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from rehydrate.domain.envelope import EventEnvelope
from rehydrate.domain.policy import Retry
from rehydrate.domain.transactional import TransactionalHandler
from rehydrate.errors import CodecError, CorruptStoreError
from rehydrate.runtime.decision import describe
from rehydrate.runtime.envelopes import Envelopes
from rehydrate.runtime.lanes import Item
from rehydrate.runtime.parking import Parked
from rehydrate.runtime.subscriber import Subscriber, cancelled_is_failed
from rehydrate.runtime.tenure import ClosingError, StoppedError, Tenure
from rehydrate.store.port import LogPage, ViewChange
from rehydrate.transaction import ChangeFailedError

_log = logging.getLogger(__name__)

SAVE_EVERY: Final = 1.0
"""Seconds after which a place is saved at which there was nothing to do."""
SAVE_EVENTS: Final = 10_000
"""Positions after which it is."""


class Transactor(Subscriber):
    """The work of one transactional handler."""

    kind = "transactional handler"

    def __init__(self, declared: TransactionalHandler, envelopes: Envelopes) -> None:
        super().__init__(declared.subscription, envelopes)
        self._declared = declared
        self._read_id = ""
        """The id of the event that was read last, at `_read_to`."""

    async def run(self, tenure: Tenure) -> None:
        if tenure.is_unclean or self._attempt is not None:
            await self._carefully(tenure)
        self._read_to, self._read_id = tenure.checkpoint.position, tenure.checkpoint.event_id
        try:
            while True:
                await tenure.attend()
                page = await tenure.read(after=self._read_to, where=self._where, limit=self._declared.batch)
                self._is_at_end = page.is_last
                await self._take_in(tenure, page)
                if page.is_last:
                    is_ahead = self._read_to > tenure.checkpoint.position
                    await tenure.more(after=self._read_to, within=SAVE_EVERY if is_ahead else None)
        except ClosingError:
            if self._read_to > tenure.checkpoint.position:
                await self._save(tenure, (self._read_to, self._read_id))
            raise

    async def _take_in(self, tenure: Tenure, page: LogPage) -> None:
        items = [item for item in map(self._item, page.events) if self._wants(item)]
        if any(item.key is None or item.error is not None or item.key in self._parked for item in items):
            await self._handle(tenure, items)
        elif items:
            await self._handle_as_one(tenure, items)
        if page.event_id:
            self._read_to, self._read_id = page.position, page.event_id
        behind = self._read_to - tenure.checkpoint.position
        if behind >= SAVE_EVENTS or (behind > 0 and tenure.clock.monotonic() - self._saved_at >= SAVE_EVERY):
            await self._save(tenure, (self._read_to, self._read_id))
        else:
            tenure.progress.move(max(self._read_to, tenure.checkpoint.position))

    async def _handle_as_one(self, tenure: Tenure, items: Sequence[Item]) -> None:
        try:
            await self._change(tenure, items)
        except ChangeFailedError as failed:
            _log.warning(
                "transactional handler %s: %s events up to position %s failed together, so they are handled one by one: %s",
                self.name,
                len(items),
                items[-1].event.position,
                describe(failed.__cause__ or failed),
            )
            await self._handle(tenure, list(items))

    async def _handle(self, tenure: Tenure, items: list[Item]) -> None:
        """One by one, each with its place."""
        for item in items:
            if not self._is_parked(tenure, item):
                try:
                    await self._handle_or_fail(tenure, item)
                except StoppedError:
                    await self._save_parked(tenure)
                    raise
            if item.event.position > tenure.checkpoint.position:
                # It was parked, or skipped.
                await self._save(tenure, (item.event.position, item.event.id))

    async def _handle_or_fail(self, tenure: Tenure, item: Item) -> None:
        tries = 0
        while True:
            try:
                if item.error is not None:
                    raise ChangeFailedError from item.error
                await self._change(tenure, [item])
            except ChangeFailedError as failed:
                error = failed.__cause__
                assert isinstance(error, Exception)
            else:
                return
            if not isinstance(self._policy, Retry) or tries >= self._policy.times:
                self._failed(tenure, item, error)
                return
            seconds = min(self._policy.most, self._policy.first * 2.0 ** min(tries, 60))
            tries += 1
            await tenure.pause(seconds * random.uniform(0.5, 1.0))

    async def _change(self, tenure: Tenure, items: Sequence[Item]) -> None:
        """Have the handler called for all of them, and the place saved behind the last, in one transaction."""
        await self._save_parked(tenure)
        envelopes = [item.envelope for item in items if item.envelope is not None]
        last = items[-1].event
        tenure.progress.handled += len(items)
        try:
            built = self._is_at_end or tenure.kept.built
            await tenure.save(last.position, last.id, built=built, change=self._call_for(envelopes))
        except ChangeFailedError:
            tenure.progress.handled -= len(items)
            raise
        self._saved_at = tenure.clock.monotonic()

    async def _save_parked(self, tenure: Tenure) -> None:
        if self._parked.unsaved:
            await self._save_beside(tenure)

    def _call_for(self, envelopes: Sequence[EventEnvelope[Any]]) -> Callable[[Any], Any]:
        """What the store calls with its transaction."""
        handler: Callable[[Any, Any], Any] = self._declared.handler

        def change(connection: Any) -> None:
            try:
                for envelope in envelopes:
                    handler(envelope, connection)
            except asyncio.CancelledError as error:
                # In the thread of a store there is no task that could have been cancelled.
                raise RuntimeError("what the handler waited for was cancelled") from error

        async def change_async(connection: Any) -> None:
            with cancelled_is_failed():
                for envelope in envelopes:
                    await handler(envelope, connection)

        return change_async if self._declared.is_async else change

    async def _replay_one(self, tenure: Tenure, parked: Parked) -> bool:
        event = await tenure.event_at(parked.position)
        try:
            if event is None or event.id != parked.event_id:
                raise LookupError(f"the log does not hold event {parked.event_id!r} at its position")
            change = self._call_for([self._envelopes.of(event)])
        except (LookupError, CodecError, CorruptStoreError) as error:
            self._parked.failed_again(parked, describe(error))
            return False
        place, removed = tenure.checkpoint, ViewChange(parked.record, None)
        try:
            await tenure.save(place.position, place.event_id, views=[removed], change=change)
        except ChangeFailedError as failed:
            self._parked.failed_again(parked, describe(failed.__cause__ or failed))
            return False
        self._parked.release(parked)
        return True
