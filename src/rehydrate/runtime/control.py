"""What can be said to a consumer from outside, in whatever process it runs: pause, resume, reset, remove."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from rehydrate.clock import Clock
from rehydrate.codec.process import CANCELLED, DUE, SENT
from rehydrate.errors import ConfigurationError
from rehydrate.runtime.claim import CLAIM, Claim, ClaimRecord, read_claim
from rehydrate.runtime.silence import silent_for
from rehydrate.runtime.tenure import kept_in
from rehydrate.store.port import Checkpoint, Store, StoredEvent

_HOLDER: Final = "an operator"
_OWN: Final = "rehydrate."
"""What the names of checkpoints begin with that are of no consumer, and the types of the events of process managers."""
_OWN_EVENTS: Final = {"sends": frozenset({SENT, DUE}), "timers": frozenset({SENT, CANCELLED, DUE})}
"""What those consumers of process managers read that read no others."""
_LATELY: Final = 10.0
"""Seconds for which the rate counts that was saved last."""
_LAG_PAGE: Final = 1_000
"""How many events behind a consumer are counted; beyond that the positions tell."""


class ConsumerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What the store tells of a consumer."""

    name: str
    revision: int | None
    """Of a projection."""
    position: int
    behind: int
    """How many events are in the log after its place that one of its kind may want: those that process managers write for
    themselves are for their own consumers only."""
    seconds: float
    """How old the first of these is."""
    rate: float
    """Events a second, as it said last; 0 where it has not said anything for ten seconds."""
    state: str
    """`"running"`, `"building"`, `"idle"` while nobody runs it, `"silent"` where somebody does who seems to be dead,
    `"paused"`, `"stopped"`."""
    parked: int
    handled: int
    reason: str
    """Why it is stopped, or seems to be dead."""

    @property
    def checkpoint(self) -> str:
        """The name of its place."""
        return self.name if self.revision is None else f"{self.name}@{self.revision}"


async def consumers_of(
    store: Store,
    clock: Clock,
    *,
    only: Callable[[str], bool] = bool,
    tell: Callable[[str], object] = str,
) -> list[ConsumerStatus]:
    """Every consumer that has a place in the log, by name, of whose name `only` says so.

    Where it is in doubt whether whoever runs one is alive, he is watched for some seconds, of which `tell` is told.
    """
    checkpoints = await store.list_checkpoints()
    claims = {record.name: record for record in checkpoints if is_claim(record.name)}
    names = [record.name for record in checkpoints if not record.name.startswith(_OWN) and only(record.name)]
    silent = await silent_for(store, clock, names, claims, tell)
    if silent is not None:
        # They may have moved meanwhile.
        checkpoints = await store.list_checkpoints()
        claims = {record.name: record for record in checkpoints if is_claim(record.name)}
    head = (await store.head()).position
    return [
        await _status(
            store,
            checkpoint,
            read_claim(claims.get(CLAIM + checkpoint.name)),
            (silent or {}).get(checkpoint.name, 0.0),
            head,
            clock.wall(),
        )
        for checkpoint in checkpoints
        if checkpoint.name in names
    ]


def is_claim(name: str) -> bool:
    """Whether a checkpoint is no place of a consumer but says who runs one."""
    return name.startswith(CLAIM)


async def _status(
    store: Store, checkpoint: Checkpoint, claim: Claim, silent: float, head: int, now: int
) -> ConsumerStatus:
    kept = kept_in(checkpoint)
    name, _, revision = checkpoint.name.partition("@")
    state, reason = _state(claim, is_building=bool(revision) and not kept.built), claim.reason
    if silent and claim.standing == "held":
        state = "silent"
        reason = (
            f"whoever runs it gave no sign of life for {silent:,.0f} s, and nobody has taken over: is a process up that "
            "opens the App?"
        )
    is_recent = abs(now - kept.saved_at) <= _LATELY * 1e6
    page = await store.read_all(after=checkpoint.position, limit=_LAG_PAGE)
    behind, seconds = 0, 0.0
    if not page.is_last:
        behind = max(len(page.events), head - checkpoint.position)
        events: Sequence[StoredEvent] = page.events
    else:
        events = [event for event in page.events if _may_want(checkpoint.name, event)]
        behind = len(events)
    if events:
        seconds = max(0.0, (now - events[0].recorded_at) / 1e6)
    return ConsumerStatus(
        name=name,
        revision=int(revision) if revision.isdecimal() else None,
        position=checkpoint.position,
        behind=behind,
        seconds=seconds,
        rate=kept.rate if is_recent and state in {"running", "building"} else 0.0,
        state=state,
        parked=kept.parked,
        handled=kept.handled,
        reason=reason,
    )


def _may_want(consumer: str, event: StoredEvent) -> bool:
    """Whether a consumer of this name could have to do with an event."""
    name, _, part = consumer.partition(":")
    types = _OWN_EVENTS.get(part)
    if types is None:
        return not event.type.startswith(_OWN)
    return event.type in types and event.stream.startswith(f"{name}-")


def _state(claim: Claim, *, is_building: bool) -> str:
    match claim.standing:
        case "held":
            return "building" if is_building else "running"
        case "released":
            return "idle"
        case standing:
            return standing


async def pause(store: Store, consumer: str) -> None:
    """Have nobody run a consumer, in any process, until it is resumed; from when this returns it changes nothing."""
    await _known(store, consumer)
    await ClaimRecord(store, consumer, _HOLDER).put_whatever_is_there("paused")
    # Whoever runs it hears of that with the next beat; the epoch stops the saves before that.
    while (place := await store.load_checkpoint(consumer)) is not None:
        raised = msgspec.structs.replace(place, epoch=place.epoch + 1)
        if await store.save_checkpoint(raised, previous=place):
            return


async def resume(store: Store, consumer: str) -> None:
    """Let a consumer that is paused or stopped be run again, by whoever competes for it."""
    await _known(store, consumer)
    await ClaimRecord(store, consumer, _HOLDER).put_whatever_is_there(
        "released", unless=lambda claim: claim.standing in {"held", "released"}
    )


async def reset(store: Store, consumer: str) -> None:
    """Send a consumer back to the beginning of the log, without views; whoever runs it goes on from there."""
    await _known(store, consumer)
    await store.reset_checkpoint(consumer)
    # Whoever runs it may be waiting for events: without the claim it begins anew.
    await ClaimRecord(store, consumer, _HOLDER).put_whatever_is_there(
        "released", unless=lambda claim: claim.standing != "held"
    )


async def remove(store: Store, consumer: str) -> None:
    """Forget a consumer, with its place and its views. Raises `ConfigurationError` while somebody runs it."""
    await _known(store, consumer)
    claim = await ClaimRecord(store, consumer, _HOLDER).look()
    if claim.standing == "held":
        raise ConfigurationError(
            f"{consumer!r} is run by a process, which would build it again: end that process, or pause the consumer first"
        )
    await store.remove_checkpoint(consumer)
    await store.remove_checkpoint(CLAIM + consumer)


async def _known(store: Store, consumer: str) -> None:
    if consumer.startswith(_OWN) or (
        await store.load_checkpoint(consumer) is None
        and await store.load_checkpoint(CLAIM + consumer) is None
    ):
        raise ConfigurationError(f"{store.url} has no consumer {consumer!r}")
