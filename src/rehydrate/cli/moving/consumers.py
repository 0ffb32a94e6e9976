"""Checkpoints on their way: each stands in the destination at the same event, and all its views go with it, or nothing.

A consumer may run on while it is copied. So its checkpoint is read before and after its views, and these twice, until
nothing has moved meanwhile; what never stands still is not copied, and said so.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Final, NamedTuple

import msgspec

from rehydrate.cli.asking import event_at, persistently
from rehydrate.cli.moving.copying import PROBE
from rehydrate.runtime.control import is_claim
from rehydrate.runtime.parking import PARKED
from rehydrate.store.port import Checkpoint, Store, StoredEvent, ViewChange

MAX_TRIES: Final = 5
"""How often a consumer is read that moves meanwhile."""

_GONE: Final = "it was removed while it was read"


class NotCopied(NamedTuple):
    """A checkpoint that stays behind, with its views, and why."""

    name: str
    why: str
    may_pass: bool
    """Whether the next call may do it."""


class _Consumer(NamedTuple):
    """A checkpoint and its views, as they were at one moment."""

    checkpoint: Checkpoint
    views: dict[str, bytes]


class _StaysBehindError(Exception):
    def __init__(self, why: str, *, may_pass: bool = False) -> None:
        super().__init__(why)
        self.may_pass = may_pass


class ConsumerCopy:
    """Copies the checkpoints of a store, once its events are in the destination."""

    def __init__(self, source: Store, destination: Store, reach: Callable[[int], Awaitable[None]]) -> None:
        self._source = source
        self._destination = destination
        self._reach = reach
        """Brings the events of the source over, at least up to a position at which a consumer stands."""
        self.seen: set[str] = set()
        self.copied: dict[str, int] = {}
        """Those that were copied, and how many views each has."""
        self.not_copied: list[NotCopied] = []
        """Those that the last execution left behind."""

    async def execute(self, advance: Callable[[int, int], object]) -> None:
        """Copy them one after the other. A consumer's views are in memory at once, for they are saved as one."""
        self.not_copied = []
        there = await persistently(self._source.list_checkpoints)
        names = [
            checkpoint.name
            for checkpoint in there
            if checkpoint.name != PROBE and not is_claim(checkpoint.name)
        ]
        self.seen.update(names)
        for number, name in enumerate(names):
            advance(number, len(names))
            try:
                views = await self._copy(name)
            except _StaysBehindError as reason:
                self.copied.pop(name, None)
                self.not_copied.append(NotCopied(name, str(reason), reason.may_pass))
            else:
                if views is not None:
                    self.copied[name] = views

    async def _copy(self, name: str) -> int | None:
        """How many views went with it; None if there was nothing to do."""
        consumer = await self._read(name)
        checkpoint = await self._mapped(consumer.checkpoint)
        if checkpoint != consumer.checkpoint and any(key.startswith(PARKED) for key in consumer.views):
            raise _StaysBehindError(
                "it has parked events, which are kept by their positions, and these are others in the destination: replay "
                "or drop them first"
            )
        there = await persistently(lambda: self._destination.load_checkpoint(name))
        _check_may_move(checkpoint, there)
        kept = await _digests(self._destination, name)
        changes = [
            ViewChange(key, data) for key, data in consumer.views.items() if kept.get(key) != _digest(data)
        ]
        changes += [ViewChange(key, None) for key in kept if key not in consumer.views]
        if there == checkpoint and not changes:
            return None
        most = self._destination.capabilities.max_view_changes
        if len(changes) > most:
            raise _StaysBehindError(
                f"{len(changes):,} of its views differ, and {self._destination.url} saves at most {most:,} with one checkpoint: "
                "let it begin anew there"
            )
        saved = await persistently(
            lambda: self._destination.save_checkpoint(checkpoint, previous=there, views=changes)
        )
        await self._check_saved(checkpoint, consumer.views, is_known=saved)
        return len(consumer.views)

    async def _read(self, name: str) -> _Consumer:
        """A checkpoint with the views that it had at one moment."""
        for _ in range(MAX_TRIES):
            before = await persistently(lambda: self._source.load_checkpoint(name))
            if before is None:
                raise _StaysBehindError(_GONE, may_pass=True)
            views = {key: data async for key, data in _views(self._source, name)}
            # A consumer may change views without moving its place: what reads the same twice was so in between.
            again = await _digests(self._source, name)
            after = await persistently(lambda: self._source.load_checkpoint(name))
            if before == after and again == {key: _digest(data) for key, data in views.items()}:
                return _Consumer(before, views)
        raise _StaysBehindError("it moved each time while its views were read", may_pass=True)

    async def _mapped(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint at the same event in the destination."""
        if checkpoint.position == 0:
            return checkpoint
        event = await self._event_at(checkpoint)
        await self._reach(event.position)
        page = await persistently(
            lambda: self._destination.read_stream(event.stream, after=event.version - 1, limit=1)
        )
        if not page.events or page.events[0].id != event.id:
            raise _StaysBehindError(
                f"version {event.version:,} of {event.stream}, its last event, is not in {self._destination.url}"
            )
        return msgspec.structs.replace(checkpoint, position=page.events[0].position)

    async def _event_at(self, checkpoint: Checkpoint) -> StoredEvent:
        event = await event_at(self._source, checkpoint)
        if event is None:
            raise _StaysBehindError(
                f"{self._source.url} does not hold its event {checkpoint.event_id!r} at position "
                f"{checkpoint.position:,}: it was saved on another log, or the log went back since"
            )
        return event

    async def _check_saved(self, checkpoint: Checkpoint, views: dict[str, bytes], *, is_known: bool) -> None:
        """Read back what was saved; an answer that was lost may have been the first one."""
        there = await persistently(lambda: self._destination.load_checkpoint(checkpoint.name))
        if there != checkpoint:
            raise _StaysBehindError(f"somebody else moved it in {self._destination.url}", may_pass=True)
        kept = await _digests(self._destination, checkpoint.name)
        if kept != {key: _digest(data) for key, data in views.items()}:
            raise _StaysBehindError(
                f"its views in {self._destination.url} are not those that were saved"
                if is_known
                else f"somebody else changed its views in {self._destination.url}",
                may_pass=not is_known,
            )


def _check_may_move(checkpoint: Checkpoint, there: Checkpoint | None) -> None:
    if there is None:
        return
    if there.epoch > checkpoint.epoch:
        raise _StaysBehindError(
            f"somebody runs it in the destination: its epoch there is {there.epoch:,}, and {checkpoint.epoch:,} in the "
            "source"
        )
    if there.position > checkpoint.position:
        raise _StaysBehindError(
            f"it is further in the destination, at position {there.position:,}, than its event there, "
            f"{checkpoint.position:,}; a checkpoint is not moved back"
        )


async def _views(store: Store, name: str) -> AsyncIterator[tuple[str, bytes]]:
    after = ""
    while page := await persistently(partial(store.list_views, name, after=after)):
        for view in page:
            yield view
        after = page[-1][0]


async def _digests(store: Store, name: str) -> dict[str, bytes]:
    return {key: _digest(data) async for key, data in _views(store, name)}


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
