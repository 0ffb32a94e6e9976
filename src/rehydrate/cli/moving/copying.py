"""The events of one store copied into another: compare what is there, append what is missing, compare that.

The destination is the beginning of the source at each moment, so how far a call came needs no note: the next one finds
it by comparing.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Final

from rehydrate.cli.asking import persistently
from rehydrate.cli.moving.appending import Appender
from rehydrate.cli.moving.comparison import Compared, NotACopyError, compare
from rehydrate.cli.moving.logs import Reader, StoreOrigin, read_log
from rehydrate.cli.moving.packing import Packer
from rehydrate.errors import ConfigurationError, StoreSealedError, VersionConflictError
from rehydrate.store.port import Checkpoint, NewEvent, Store

PROBE: Final = "rehydrate.copy"
"""A checkpoint that stands in the destination for a moment: the source must not see it."""

FEW: Final = 1_000
"""So many events are copied in no time."""

Advance = Callable[[str, int, int], object]
"""Told what is being done, how much of it is done, and of how much."""


class EventCopy:
    """The events of `source` on their way into `destination`."""

    def __init__(self, source: Store, destination: Store) -> None:
        self.source = source
        self.destination = destination
        self.compared = Compared()
        """How far the destination is known to be the same."""
        self.before = 0
        """Events that the destination held when this call began."""
        self._origin = StoreOrigin(source)
        self._target = StoreOrigin(destination)
        self._appender = Appender(self._origin, destination)
        self.advance: Advance = _nobody_looks
        self._copied_to = 0

    async def begin(self) -> None:
        """Compare what the destination holds already.

        Raises `NotACopyError` if that is not the beginning of the source; nothing was written.
        """
        try:
            await self._compare("comparing")
        except NotACopyError as error:
            raise NotACopyError(
                f"{self.destination.url} is neither empty nor the beginning of a copy: {error}; nothing was written"
            ) from None
        self.before = self.compared.events
        self._copied_to = self.compared.source_position

    async def keep_up(self) -> None:
        """Catch up with a source that is written to, until little is left to copy, or no less than before."""
        before = math.inf
        while FEW < (copied := await self.catch_up()) < before / 2:
            before = copied

    async def reach(self, position: int) -> None:
        """Catch up, unless the event at that position of the source has been copied."""
        if position > self._copied_to:
            await self.catch_up()

    async def catch_up(self) -> int:
        """Copy up to what is now the newest event of the source, and compare what was copied. By how much it got on.

        Raises `NotACopyError` with the first difference, `OutOfPlaceError`, or what a store raises.
        """
        # An append is visible as a whole, so the head never lies inside one.
        until = await persistently(self.source.head)
        if until.position <= self._copied_to:
            return 0
        packer = Packer(self.destination.capabilities)
        begun, total = self._copied_to, until.position - self._copied_to
        async for page in read_log(self.source, after=begun, until=until.position):
            for batch in packer.add(page):
                await self._appender.send(batch)
            self.advance("copying", page[-1].position - begun, total)
        for batch in packer.finish():
            await self._appender.send(batch)
        self._copied_to = until.position
        await self._compare("verifying", at_least=until.position)
        return total

    async def refuse_itself(self) -> None:
        """Raise `ConfigurationError` if both stores are one, under two names."""
        source, destination = self.source, self.destination
        there = await persistently(lambda: destination.load_checkpoint(PROBE))
        mark = os.urandom(16)
        probe = Checkpoint(
            name=PROBE, position=0, event_id="", epoch=1 + (there.epoch if there else 0), data=mark
        )
        await persistently(lambda: destination.save_checkpoint(probe, previous=there))
        try:
            seen = await persistently(lambda: source.load_checkpoint(PROBE))
        finally:
            await persistently(lambda: destination.remove_checkpoint(PROBE))
        if seen is not None and seen.data == mark:
            raise ConfigurationError(
                f"{self.source.url} and {self.destination.url} are the same store: a copy needs another one"
            )

    async def refuse_sealed(self) -> None:
        """Raise `ConfigurationError` if the destination takes no more appends: another one was moved out of it."""
        probe = NewEvent(id=os.urandom(16).hex(), type="rehydrate.probe", data=b"{}")
        try:
            # At a version at which no stream is: what is not sealed refuses it for that, and stores nothing.
            await self.destination.append("rehydrate.copy-probe", [probe], expected_version=2**40)
        except VersionConflictError:
            return
        except StoreSealedError:
            raise ConfigurationError(
                f"{self.destination.url} is sealed itself, and takes no events: name another store to copy to"
            ) from None

    async def _compare(self, doing: str, *, at_least: int = 0) -> None:
        compared = self.compared
        copied = await persistently(self.destination.head)
        # After the other: whatever was copied by then, also by another call like this, is not beyond this.
        head = await persistently(self.source.head)
        begun, total = compared.destination_position, copied.position - compared.destination_position
        events = Reader(read_log(self.source, after=compared.source_position, until=head.position))
        copies = Reader(
            read_log(self.destination, after=compared.destination_position, until=copied.position)
        )
        try:
            await compare(
                self._origin,
                self._target,
                events,
                copies,
                so_far=compared,
                at_least=at_least,
                advance=lambda now: self.advance(doing, now.destination_position - begun, total),
            )
        finally:
            await events.close()
            await copies.close()


def _nobody_looks(doing: str, done: int, total: int) -> None:
    pass
