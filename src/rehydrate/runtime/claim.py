"""Who may run a consumer: one holder per name, over all processes, without the time of anybody else's clock.

A claim is a checkpoint of its own whose epoch is a beat: the holder raises it now and then, by compare-and-set, and
whoever sees the same beat for `takeover_after` seconds of his own clock may take the claim. It says who may try, and
no more: what fences a holder that was taken for dead is the epoch in the consumer's checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import msgspec

from rehydrate.clock import Clock
from rehydrate.errors import CorruptStoreError, StoreUnavailableError
from rehydrate.store.port import Checkpoint, CheckpointStore

CLAIM: Final = "rehydrate.claim/"
"""What the names of the claims begin with, among those of the checkpoints."""

Standing = Literal["held", "released", "paused", "stopped"]


class Claim(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a claim says."""

    standing: Standing
    holder: str = ""
    """Whose it is, or was at last."""
    reason: str = ""
    """Why the consumer stopped."""
    beat_at: int = 0
    """When its holder showed last that he is alive, in microseconds since 1970, UTC: for people, by his clock."""
    takeover_after: float = 0.0
    """After how many seconds of silence he is taken for dead."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Claim).decode


def read_claim(record: Checkpoint | None) -> Claim:
    """What the record of a claim says; one that is not there was never held."""
    if record is None:
        return Claim(standing="released")
    try:
        return _decode(record.data)
    except msgspec.MsgspecError as error:
        raise CorruptStoreError(f"checkpoint {record.name!r} is no claim: {error}") from error


class ClaimRecord:
    """The claim of one consumer, as one process sees and changes it."""

    def __init__(
        self,
        store: CheckpointStore,
        consumer: str,
        holder: str,
        clock: Clock | None = None,
        takeover_after: float = 0.0,
    ) -> None:
        self.holder = holder
        self._clock = clock
        self._takeover_after = takeover_after
        self._store = store
        self._name = CLAIM + consumer
        self._seen: Checkpoint | None = None

    async def look(self) -> Claim:
        """What it says now."""
        self._seen = await self._store.load_checkpoint(self._name)
        return read_claim(self._seen)

    @property
    def beat(self) -> int:
        """What `look` found; 0 where nobody ever held it."""
        return 0 if self._seen is None else self._seen.epoch

    async def put(self, standing: Standing, reason: str = "") -> bool:
        """Change it, if it is still what was seen last; False if somebody else was faster."""
        claim = Claim(standing=standing, holder=self.holder, reason=reason)
        if standing == "held" and self._clock is not None:
            claim = msgspec.structs.replace(
                claim, beat_at=self._clock.wall(), takeover_after=self._takeover_after
            )
        record = Checkpoint(
            name=self._name, position=0, event_id="", epoch=self.beat + 1, data=_encode(claim)
        )
        try:
            done = await self._store.save_checkpoint(record, previous=self._seen)
        except StoreUnavailableError as error:
            if error.stored is False:
                raise
            # Whether it was saved shows: nobody else writes this holder's name.
            self._seen = await self._store.load_checkpoint(self._name)
            if self._seen != record and read_claim(self._seen).holder == self.holder:
                raise
            return self._seen == record
        if not done:
            # An earlier try, whose answer was lost, may have landed since.
            self._seen = await self._store.load_checkpoint(self._name)
            return self._seen == record
        self._seen = record
        return True

    async def put_whatever_is_there(
        self, standing: Standing, reason: str = "", *, unless: Callable[[Claim], bool] | None = None
    ) -> Claim:
        """Change it from whatever it says, which is returned; nothing is changed where `unless` says so."""
        while True:
            before = await self.look()
            if unless is not None and unless(before):
                return before
            if await self.put(standing, reason):
                return before
