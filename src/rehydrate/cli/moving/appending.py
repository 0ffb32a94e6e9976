"""Batches on their way into the destination: each is stored before the next one is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from rehydrate.cli.asking import persistently
from rehydrate.cli.moving.logs import Origin
from rehydrate.cli.moving.packing import Parcel
from rehydrate.cli.run.sending import PAUSES
from rehydrate.cli.table import visible
from rehydrate.errors import RehydrateError, StoreError, StoreUnavailableError
from rehydrate.store.port import Appended, Store, check_append

MAX_KNOWN: Final = 65_536
"""Streams whose versions are kept in mind."""


class OutOfPlaceError(RehydrateError):
    """An event does not continue its stream, or the log, in the destination. A retry says the same.

    Nothing behind it was stored.
    """


class Appender:
    """Appends batches so that the destination holds nothing behind an event that it lacks."""

    def __init__(self, source: Origin, destination: Store) -> None:
        self._source = source
        self._store = destination
        self._known: dict[str, int] = {}

    async def send(self, batch: Sequence[Parcel]) -> None:
        """Store a batch. One whose outcome is unknown is sent again: what is stored then is the same.

        Raises `OutOfPlaceError`, or what the store raises.
        """
        for parcel in batch:
            check_append(self._store.capabilities, parcel.stream, parcel.events)
        # Before anything of the batch is sent: behind an append that is refused, later ones would be stored.
        await self._check_places(batch)
        stored = await self._store_all(batch)
        for (parcel, appended), (later, behind) in pairwise(zip(batch, stored, strict=True)):
            if appended.position >= behind.position:
                raise OutOfPlaceError(
                    f"{self._store.url} stored an append to {visible(later.stream)} before one to {visible(parcel.stream)}, which comes first "
                    f"in {self._source.name}: begin again with an empty store"
                )
        for parcel in batch:
            self._known[parcel.stream] = parcel.expected_version + len(parcel.events)

    async def _check_places(self, batch: Sequence[Parcel]) -> None:
        known = self._known
        if len(known) > MAX_KNOWN:
            known.clear()
        unknown = [parcel.stream for parcel in batch if parcel.stream not in known]
        if unknown:
            versions = await persistently(lambda: self._store.versions(unknown))
            known.update(zip(unknown, versions, strict=True))
        for parcel in batch:
            if (version := known[parcel.stream]) != parcel.expected_version:
                raise OutOfPlaceError(_why(self._source, self._store, parcel, version))

    async def _store_all(self, batch: Sequence[Parcel]) -> list[Appended]:
        for pause in PAUSES:
            outcomes = await self._submit_all(batch)
            error = _first_error(outcomes)
            if not isinstance(error, StoreUnavailableError) or not error.retryable:
                break
            await asyncio.sleep(pause)
        else:
            outcomes = await self._submit_all(batch)
        if (error := _first_error(outcomes)) is not None:
            raise error
        return [outcome for outcome in outcomes if isinstance(outcome, Appended)]

    async def _submit_all(self, batch: Sequence[Parcel]) -> list[Appended | StoreError]:
        """Submit all in one go, and wait for all."""
        waiters = [_Waiter() for _ in batch]
        for parcel, waiter in zip(batch, waiters, strict=True):
            outcome = self._store.submit(parcel.stream, parcel.events, parcel.expected_version, waiter)
            if outcome is not None:
                waiter.append_done(outcome)
        return [await waiter.outcome for waiter in waiters]


def _first_error(outcomes: Sequence[Appended | StoreError]) -> StoreError | None:
    return next((outcome for outcome in outcomes if isinstance(outcome, StoreError)), None)


class _Waiter:
    __slots__ = ("outcome",)

    def __init__(self) -> None:
        self.outcome: asyncio.Future[Appended | StoreError] = asyncio.get_running_loop().create_future()

    def append_done(self, outcome: Appended | StoreError) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)


def _why(source: Origin, store: Store, parcel: Parcel, version: int) -> str:
    there = f"{store.url} has {visible(parcel.stream)} at version {version:,}"
    next_one = (
        f"{source.name} goes on with version {parcel.expected_version + 1:,} at {source.place(parcel.place)}"
    )
    if version < parcel.expected_version:
        return f"{there}, and {next_one}: versions between them are missing in {source.name}"
    return f"{there}, and {next_one}: if that is not its mistake, something else writes to the destination"
