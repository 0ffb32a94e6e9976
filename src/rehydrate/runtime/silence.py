"""Whether whoever holds a claim still shows that he is alive, for those who look from outside.

A claim has the time of its last beat, by the clock of its holder. Where that is recent nobody has to wait. Where it is not,
clocks may differ: then the beat itself is watched for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final

from rehydrate.clock import Clock
from rehydrate.runtime.claim import CLAIM, Claim, read_claim
from rehydrate.runtime.limits import Limits
from rehydrate.runtime.tenure import sleep
from rehydrate.store.port import Checkpoint, CheckpointStore

_UNSAID: Final = Limits().takeover_after
"""Seconds after which a holder is taken for dead whose claim does not say that."""
_LOOK: Final = 0.1
"""Seconds between two looks at a beat."""


async def silent_for(
    store: CheckpointStore,
    clock: Clock,
    consumers: Collection[str],
    claims: Mapping[str, Checkpoint],
    tell: Callable[[str], object],
) -> dict[str, float] | None:
    """Of the consumers whose holder is silent, for how many seconds he is; None where that was clear at once, of nobody.

    `tell` is given a sentence for whoever has to wait, which is not longer than until the holder would be taken for dead.
    """
    seen = {name: claims[CLAIM + name] for name in consumers if CLAIM + name in claims}
    doubtful = {name: record for name, record in seen.items() if _is_doubtful(read_claim(record), clock)}
    if not doubtful:
        return None
    seconds = max(_watched(read_claim(record)) for record in doubtful.values())
    tell(
        f"{', '.join(doubtful)}: whoever runs it gave no sign of life lately; watching for {seconds:g} s whether he does"
    )
    began = clock.monotonic()
    while doubtful:
        # Where a look takes long, one begins after that time all the same: a beat may have come meanwhile.
        is_last = clock.monotonic() - began >= seconds
        there = {record.name: record for record in await store.list_checkpoints()}
        doubtful = {name: record for name, record in doubtful.items() if there.get(record.name) == record}
        if is_last:
            break
        await sleep(clock, _LOOK)
    watched = clock.monotonic() - began
    return {name: _silence(read_claim(record), clock, watched) for name, record in doubtful.items()}


def _is_doubtful(claim: Claim, clock: Clock) -> bool:
    return claim.standing == "held" and (
        not claim.beat_at or abs(clock.wall() - claim.beat_at) / 1e6 > _taken_for_dead_after(claim)
    )


def _taken_for_dead_after(claim: Claim) -> float:
    return claim.takeover_after or _UNSAID


def _watched(claim: Claim) -> float:
    """How long a beat is watched: where its time says already that it is late, for two of them."""
    return _taken_for_dead_after(claim) / (2 if claim.beat_at else 1)


def _silence(claim: Claim, clock: Clock, watched: float) -> float:
    """By the clock of the holder, if he said it and it is believable."""
    return max(watched, (clock.wall() - claim.beat_at) / 1e6) if claim.beat_at else watched
