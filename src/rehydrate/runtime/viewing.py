"""Reading views: those of the revision that this process declares, and not before its own write is in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from rehydrate.clock import Clock
from rehydrate.codec.beginning import Beginning
from rehydrate.codec.json import JsonValueCodec
from rehydrate.domain.projection import RESERVED, Projection
from rehydrate.domain.quantities import check_int, check_place, no_seconds
from rehydrate.domain.streams import plain_id
from rehydrate.errors import ConfigurationError, CorruptStoreError, ProjectionBuildingError, ViewTimeoutError
from rehydrate.runtime.claim import CLAIM, read_claim
from rehydrate.runtime.consumer import Consumer
from rehydrate.runtime.decision import describe
from rehydrate.runtime.tenure import kept_in, sleep
from rehydrate.runtime.view_type import check_view_type
from rehydrate.store.port import Checkpoint, Store

V = TypeVar("V")

_FIRST: Final = f"{RESERVED}\U0010ffff"
"""All keys of views come behind this, and all that is kept beside them before."""
_POLL: Final = 0.02
"""Seconds between two looks at the checkpoint of a projector in another process."""
_POLL_BESIDE: Final = 0.25
"""The same where the projector runs here and says itself how far it is."""


class Views:
    """The views of the projections of one App."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        projections: Mapping[str, tuple[Projection[Any, Any], JsonValueCodec]],
        consumers: Mapping[str, Consumer],
    ) -> None:
        self._store = store
        self._clock = clock
        self._projections = projections
        self._consumers = consumers
        self._beginnings = {
            name: Beginning(name, projection.initial) for name, (projection, _) in projections.items()
        }

    async def one(self, projection: Projection[V, Any], key: str, at_least: int | None, timeout: float) -> V:
        """The view of a key, or what views begin with."""
        codec = self._codec(projection)
        key = plain_id(key, "key of a view")
        if at_least is not None:
            await self._reach(projection, codec, at_least, timeout)
        # The view first: where the checkpoint says afterwards that it is built, it was when the view was read.
        data = None if key.startswith(RESERVED) else await self._store.load_view(projection.consumer, key)
        if data is None or not self._consumers[projection.consumer].is_built:
            await self._check_built(projection, codec)
        if data is None:
            initial: V = self._beginnings[projection.name].copy()
            return initial
        return _decoded(projection, codec, key, data)

    async def page(
        self,
        projection: Projection[V, Any],
        prefix: str,
        after: str,
        limit: int,
        at_least: int | None,
        timeout: float,
    ) -> list[tuple[str, V]]:
        """Keys and views, by key."""
        codec = self._codec(projection)
        prefix, after = plain_id(prefix, "prefix of keys"), plain_id(after, "key of a view")
        check_int("limit", limit)
        if limit < 0:
            raise ValueError(f"limit={limit!r} cannot be below 0")
        if at_least is not None:
            await self._reach(projection, codec, at_least, timeout)
        found = await self._store.list_views(
            projection.consumer, prefix=prefix, after=max(after, _FIRST), limit=limit
        )
        await self._check_built(projection, codec)
        return [(key, _decoded(projection, codec, key, data)) for key, data in found]

    def _codec(self, projection: Projection[Any, Any]) -> JsonValueCodec:
        if not isinstance(projection, Projection):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"{projection!r} is no Projection: give the Projection value itself")
        known = self._projections.get(projection.name)
        if known is None or known[0] is not projection:
            listed = ", ".join(self._projections) or "none"
            raise ConfigurationError(
                f"projection {projection.name!r} is not one of this App's (it has: {listed}); add it to "
                "App(projections=[...])"
            )
        return known[1]

    async def _check_built(self, projection: Projection[Any, Any], codec: JsonValueCodec) -> None:
        checkpoint = await self._store.load_checkpoint(projection.consumer)
        check_view_type(projection, codec, checkpoint)
        position, built = _where(checkpoint)
        if not built:
            head = await self._store.head()
            if head.position:
                raise await self._building(projection, position, head.position)

    async def _reach(
        self, projection: Projection[Any, Any], codec: JsonValueCodec, at_least: int, timeout: float
    ) -> None:
        """Return when every event up to that position is in the views."""
        check_place("at_least", at_least, "position")
        # Not every caller is type-checked.
        if not isinstance(timeout, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise no_seconds("timeout", timeout)
        due = self._clock.monotonic() + timeout
        ask_again = self._clock.monotonic() + _POLL_BESIDE
        consumer = self._consumers[projection.consumer]
        while True:
            if _is_there(consumer, at_least):
                return
            left = due - self._clock.monotonic()
            if consumer.is_built and left > 0:
                # It runs here, and says itself how far it is: nobody asks the store.
                await self._either(consumer, at_least, min(_POLL_BESIDE, left))
                continue
            is_stopped = False
            if consumer.state == "stopped" or self._clock.monotonic() >= ask_again:
                ask_again = self._clock.monotonic() + _POLL_BESIDE
                # Before the place: one that stopped then has saved how far it came.
                is_stopped = await self._is_stopped(projection)
            checkpoint = await self._store.load_checkpoint(projection.consumer)
            check_view_type(projection, codec, checkpoint)
            position, built = _where(checkpoint)
            if position >= at_least and built:
                return
            left = due - self._clock.monotonic()
            if left <= 0 or is_stopped:
                if not built:
                    head = await self._store.head()
                    raise await self._building(projection, position, head.position)
                standing_still = await self._why_standing_still(projection)
                raise ViewTimeoutError(projection.name, at_least, position, timeout, standing_still)
            if consumer.progress.position < at_least:
                await self._either(consumer, at_least, min(left, _POLL))
            elif not consumer.is_built:
                await sleep(self._clock, min(left, _POLL))

    async def _building(
        self, projection: Projection[Any, Any], position: int, head: int
    ) -> ProjectionBuildingError:
        standing_still = await self._why_standing_still(projection)
        return ProjectionBuildingError(projection.name, projection.revision, position, head, standing_still)

    async def _is_stopped(self, projection: Projection[Any, Any]) -> bool:
        """Whether waiting is in vain: it is stopped, and none that begins in this process is about to try again."""
        consumer = self._consumers[projection.consumer]
        if consumer.is_started and consumer.state == "starting":
            return False
        claim = read_claim(await self._store.load_checkpoint(CLAIM + projection.consumer))
        return claim.standing == "stopped"

    async def _why_standing_still(self, projection: Projection[Any, Any]) -> str:
        """What to do about a projection that no waiting brings further; empty for one that may be run."""
        claim = read_claim(await self._store.load_checkpoint(CLAIM + projection.consumer))
        if claim.standing == "stopped":
            return f"it is stopped: {claim.reason}; mend that and resume it"
        return "it is paused: resume it" if claim.standing == "paused" else ""

    async def _either(self, consumer: Consumer, position: int, seconds: float) -> None:
        """Return when the projector in this process is there, or after some time."""
        reached = consumer.progress.reach(position)
        timer = self._clock.call_later(max(seconds, 0), reached.give_up)
        try:
            await reached.done.wait()
        finally:
            timer.cancel()
            consumer.progress.forget(reached)


def _is_there(consumer: Consumer, position: int) -> bool:
    return consumer.is_built and consumer.progress.position >= position


def _where(checkpoint: Checkpoint | None) -> tuple[int, bool]:
    return (0, False) if checkpoint is None else (checkpoint.position, kept_in(checkpoint).built)


def _decoded(projection: Projection[V, Any], codec: JsonValueCodec, key: str, data: bytes) -> V:
    try:
        view: V = codec.decode(data)
    except Exception as error:
        raise CorruptStoreError(
            f"projection {projection.name!r}: the view of {key!r} cannot be read: {describe(error)}; reset it"
        ) from error
    return view
