"""All consumers of one runtime: made from what the App declares, started together, closed before anything else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final, Self

from rehydrate.clock import Clock
from rehydrate.codec.json import JsonValueCodec
from rehydrate.domain.projection import Projection
from rehydrate.domain.subscription import Subscription
from rehydrate.domain.transactional import TransactionalHandler
from rehydrate.errors import ConfigurationError
from rehydrate.runtime.consumer import Consumer, Work
from rehydrate.runtime.envelopes import Envelopes
from rehydrate.runtime.limits import Limits
from rehydrate.runtime.parking import Parked, list_parked
from rehydrate.runtime.projector import Projector
from rehydrate.runtime.subscriber import Subscriber
from rehydrate.runtime.transactor import Transactor
from rehydrate.runtime.viewing import Views
from rehydrate.store.port import Store
from rehydrate.telemetry import ConsumerStatistics

_log = logging.getLogger(__name__)

_LAST_MOMENT: Final = 1.0
"""Seconds that handlers have to end which were cancelled because the time for closing is over."""

Projections = Mapping[str, tuple[Projection[Any, Any], JsonValueCodec]]


class Consumers:
    """The consumers of one runtime, by the names of their checkpoints."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        limits: Limits,
        new_id: Callable[[], str],
        envelopes: Envelopes,
        projections: Projections,
    ) -> None:
        self._store = store
        self._clock = clock
        self._limits = limits
        self._new_id = new_id
        self._envelopes = envelopes
        self._all: dict[str, Consumer] = {}
        self._are_started = False
        for projection, codec in projections.values():
            self.add(Projector(projection, codec, envelopes))
        self.views = Views(store, clock, projections, self._all)

    def add(self, work: Work) -> Consumer:
        """Have a consumer for this work; it runs from when the others do."""
        if work.name in self._all:
            raise _named_twice(work.name)
        consumer = Consumer(work, self._store, clock=self._clock, limits=self._limits, holder=self._new_id())
        self._all[work.name] = consumer
        if self._are_started:
            consumer.start()
        return consumer

    def subscribe(self, subscription: Subscription) -> Consumer:
        """Have a consumer for a subscription."""
        for aggregate in subscription.aggregates:
            if aggregate.name not in self._envelopes.codecs:
                raise ConfigurationError(
                    f"subscription {subscription.name!r}: {aggregate.name!r} is not one of this App's aggregates"
                )
        # That of a projection is named with its revision, and each of a process manager with its part.
        if subscription.name in {name.partition("@")[0].partition(":")[0] for name in self._all}:
            raise _named_twice(subscription.name)
        return self.add(Subscriber(subscription, self._envelopes))

    def have_transactional(self, handlers: Iterable[TransactionalHandler]) -> None:
        """Have a consumer for each."""
        for handler in handlers:
            self.add(Transactor(handler, self._envelopes))

    def start(self, *, only: Collection[str] | None = None) -> None:
        """Let all of them compete for their names, and those that are added later; or only some, by their names."""
        self._are_started = only is None
        for name, consumer in self._all.items():
            if only is None or name in only:
                consumer.start()

    def all(self) -> list[Consumer]:
        """Each of them, started or not."""
        return list(self._all.values())

    def is_built(self, name: str) -> bool:
        """Whether a projection runs here and has been at the end of the log."""
        return self._all[name].is_built

    async def remove(self, consumer: Consumer) -> None:
        """Close one and forget it; its place in the log stays."""
        if isinstance(consumer.work, Subscriber) and consumer.work.is_called_in(asyncio.current_task()):
            raise ConfigurationError(
                f"subscription {consumer.work.name!r}: its handler waits for its end, which waits for the handler; close it in "
                "a task of its own"
            )
        await consumer.close()
        if self._all.get(consumer.work.name) is consumer:
            del self._all[consumer.work.name]

    async def close(self) -> None:
        """Let them finish what is in hand and hand over their names, within the limit."""
        running = [consumer for consumer in self._all.values() if consumer.is_started]
        if not running:
            return

        closing = [asyncio.ensure_future(consumer.close()) for consumer in running]

        def give_up() -> None:
            for consumer in running:
                consumer.give_up()

        def leave() -> None:
            for end in closing:
                end.cancel()

        timeout = self._limits.shutdown_timeout
        timers = [
            self._clock.call_later(timeout, give_up),
            self._clock.call_later(timeout + _LAST_MOMENT, leave),
        ]
        try:
            await asyncio.wait(closing)
        finally:
            for timer in timers:
                timer.cancel()
            give_up()
        if stuck := [one.work.name for one, end in zip(running, closing, strict=True) if end.cancelled()]:
            _log.warning("%s: a handler does not end although it was cancelled", ", ".join(stuck))

    def statistics(self) -> tuple[ConsumerStatistics, ...]:
        return tuple(consumer.statistics() for consumer in self._all.values())

    # ---- what is parked

    async def parked(self, name: str) -> list[Parked]:
        """What a consumer has parked, in the order of the log."""
        return await list_parked(self._store, self._named(name).work.name)

    async def replay(self, name: str, key: str | None) -> int:
        """Handle again what is parked, of one key or of all."""
        consumer = self._named(name)
        return await consumer.do(lambda tenure: consumer.work.replay(tenure, key))

    async def drop(self, name: str, key: str | None) -> int:
        """Forget what is parked, of one key or of all."""
        consumer = self._named(name)
        return await consumer.do(lambda tenure: consumer.work.drop(tenure, key))

    def _named(self, name: str) -> Consumer:
        known = {consumer.work.name: consumer for consumer in self._all.values()}
        # A projection is called what it is declared as: this process has one revision of it.
        known |= {its.partition("@")[0]: consumer for its, consumer in known.items() if "@" in its}
        if name not in known:
            raise ConfigurationError(
                f"no consumer {name!r} in this App (it has: {', '.join(self._all) or 'none'})"
            )
        return known[name]


def _named_twice(name: str) -> ConfigurationError:
    return ConfigurationError(f"two consumers are named {name!r}: a name is the key to a place in the log")


class Subscribed:
    """A subscription that runs, made by `Runtime.subscribe`; it ends with the runtime, or when it is closed."""

    def __init__(self, consumers: Consumers, consumer: Consumer) -> None:
        self._consumers = consumers
        self._consumer = consumer

    def statistics(self) -> ConsumerStatistics:
        """Where it is, and what it is doing."""
        return self._consumer.statistics()

    async def close(self) -> None:
        """Finish what is in hand, save the place, and hand the name over."""
        await self._consumers.remove(self._consumer)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
