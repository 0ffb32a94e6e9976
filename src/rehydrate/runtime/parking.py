"""Events that a consumer has set aside, as references that lie beside its checkpoint and are saved with it as one.

A parked event holds back the later ones of its key, which are parked behind it, and no other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec

from rehydrate.domain.projection import RESERVED
from rehydrate.errors import CorruptStoreError
from rehydrate.store.port import PAGE_SIZE, CheckpointStore, StoredEvent, ViewChange

PARKED: Final = f"{RESERVED}parked/"


class Parked(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was set aside: where it is, not what it says."""

    key: str
    """The later events of the same key are parked behind it."""
    stream: str
    version: int
    position: int
    event_id: str
    type: str
    reason: str
    """What it failed with, in the handler or before; empty for one that is only behind another."""
    parked_at: int
    """Microseconds since 1970, UTC."""

    @property
    def record(self) -> str:
        """The key that it lies under, so that all are listed in the order of the log."""
        digest = hashlib.blake2b(self.key.encode(), digest_size=8).hexdigest()
        return f"{PARKED}{self.position:020d}/{digest}"


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Parked).decode


async def list_parked(store: CheckpointStore, consumer: str) -> list[Parked]:
    """What a consumer has parked, in the order of the log."""
    parked: list[Parked] = []
    after = ""
    while True:
        page = await store.list_views(consumer, prefix=PARKED, after=after, limit=PAGE_SIZE)
        for key, data in page:
            try:
                parked.append(_decode(data))
            except msgspec.MsgspecError as error:
                raise CorruptStoreError(
                    f"{consumer}: what is parked at {key!r} cannot be read: {error}"
                ) from error
        if len(page) < PAGE_SIZE:
            return parked
        after = page[-1][0]


class ParkedEvents:
    """What a consumer has parked, as its holder knows it, and what of that is still to be saved."""

    def __init__(self, parked: Iterable[Parked] = ()) -> None:
        self._of_key: dict[str, dict[int, Parked]] = {}
        self._count = 0
        self._changes: dict[str, ViewChange] = {}
        for one in parked:
            self._put(one)

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: str) -> bool:
        """Whether events of this key have to wait."""
        return key in self._of_key

    def holds(self, key: str, position: int) -> bool:
        """Whether this very event is parked already: it was saved ahead of the checkpoint."""
        return position in self._of_key.get(key, ())

    def keys(self) -> list[str]:
        """The keys that have parked events, the one with the oldest first."""
        return list(self._of_key)

    def of(self, key: str) -> list[Parked]:
        """The parked events of a key, in the order of the log."""
        parked = self._of_key.get(key, {})
        return [parked[position] for position in sorted(parked)]

    def add(self, key: str, event: StoredEvent, reason: str, now: int) -> None:
        """Park an event. What is parked already stays as it is."""
        if self.holds(key, event.position):
            return
        parked = Parked(
            key=key,
            stream=event.stream,
            version=event.version,
            position=event.position,
            event_id=event.id,
            type=event.type,
            reason=reason,
            parked_at=now,
        )
        self._put(parked)
        self._changes[parked.record] = ViewChange(parked.record, _encode(parked))

    def failed_again(self, parked: Parked, reason: str) -> None:
        """It was replayed, and stays."""
        again = msgspec.structs.replace(parked, reason=reason)
        self._of_key[parked.key][parked.position] = again
        self._changes[again.record] = ViewChange(again.record, _encode(again))

    def release(self, parked: Parked) -> None:
        """It was replayed, or is dropped."""
        of_key = self._of_key[parked.key]
        del of_key[parked.position]
        if not of_key:
            del self._of_key[parked.key]
        self._count -= 1
        self._changes[parked.record] = ViewChange(parked.record, None)

    @property
    def unsaved(self) -> int:
        """How many changes wait to be saved."""
        return len(self._changes)

    def take_changes(self, most: int | None = None) -> list[ViewChange]:
        """What has to be saved with the next save, or so much of it."""
        records = list(self._changes)[:most]
        return [self._changes.pop(record) for record in records]

    def _put(self, parked: Parked) -> None:
        self._of_key.setdefault(parked.key, {})[parked.position] = parked
        self._count += 1
