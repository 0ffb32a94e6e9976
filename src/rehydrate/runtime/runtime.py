"""The running system: where commands come in and answers go out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from threading import get_ident
from typing import Any, TypeVar, cast

import msgspec

from rehydrate.clock import Clock, NewId, SystemClock
from rehydrate.codec.aggregate import AggregateCodecs
from rehydrate.domain.aggregate import Aggregate, HasState
from rehydrate.domain.envelope import CommandResult, EventEnvelope, Scalar
from rehydrate.domain.policy import STOP, ErrorPolicy
from rehydrate.domain.process import ProcessManager
from rehydrate.domain.projection import HasViews, Projection
from rehydrate.domain.quantities import check_range
from rehydrate.domain.streams import check_id, plain_id
from rehydrate.domain.subscription import After, Subscription
from rehydrate.errors import (
    ConfigurationError,
    StoreClosedError,
    UnknownAggregateError,
)
from rehydrate.fork import FORKED, bind_to_process
from rehydrate.runtime.answers import leave_frames, look
from rehydrate.runtime.blueprint import Blueprint, by_command
from rehydrate.runtime.consumers import Consumers, Projections, Subscribed
from rehydrate.runtime.envelopes import envelope, envelopes_of
from rehydrate.runtime.given import pending_of
from rehydrate.runtime.limits import Limits
from rehydrate.runtime.mailbox import STATE_QUERY, Pending
from rehydrate.runtime.manager import AggregateManager
from rehydrate.runtime.parking import Parked
from rehydrate.runtime.past import state_at
from rehydrate.runtime.phases import IDLE
from rehydrate.runtime.placement import Placement
from rehydrate.runtime.process import Instances
from rehydrate.store.port import PAGE_SIZE, SnapshotStore, Store, every_event
from rehydrate.telemetry import Statistics
from rehydrate.transaction import OPEN as OPEN_TRANSACTIONS
from rehydrate.transaction import check_outside

S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E")
V = TypeVar("V")

_CLOSED = "this runtime was closed: open the App again"


class Runtime:
    """An App on a store; made by `App.open`, and used on the event loop that it was opened on."""

    def __init__(
        self,
        codecs: Mapping[str, tuple[Aggregate[Any, Any, Any], AggregateCodecs]],
        store: Store,
        snapshots: SnapshotStore,
        *,
        clock: Clock | None = None,
        new_id: NewId | None = None,
        limits: Limits | None = None,
        owns_store: bool = False,
        projections: Projections | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._timeout = self._limits.timeout
        clock = clock or SystemClock()
        self._manager = AggregateManager(store, snapshots, clock=clock, new_id=new_id, limits=self._limits)
        self._blueprints = {
            name: Blueprint(aggregate, its_codecs, self._manager)
            for name, (aggregate, its_codecs) in codecs.items()
        }
        self._here = by_command(self._blueprints.values())
        """What runs a command of this class without asking anybody; empty once something has to be asked first."""
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()
        self._turns = self._manager.turns
        self._closed = ""
        """Why nothing is taken any more; empty while it is."""
        bind_to_process(self)
        self._store = store
        self._placement: Placement | None = None
        self._manager.is_single_writer = owns_store and store.capabilities.single_writer
        envelopes = envelopes_of(codecs)
        self.consumers = Consumers(
            store, clock, self._limits, self._manager.new_id, envelopes, projections or {}
        )

    @property
    def store(self) -> Store:
        """The store below, for tools that read or write it."""
        # Whoever has it can append, so from now on what the actors know may not be the newest.
        self._manager.is_single_writer = False
        return self._store

    async def dispatch(
        self,
        aggregate: Aggregate[S, C, E],
        id: str,
        command: C,
        *,
        command_id: str | None = None,
        caused_at: int | None = None,
        timeout: float | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        metadata: Mapping[str, Scalar] | None = None,
    ) -> CommandResult[E]:
        """Run a command and return what it stored, once that is durable.

        Args:
            command_id: Makes a retry safe: a command whose id the stream has seen, in its last 1,024 events, is
                answered with its first result.
            caused_at: A position before which this command cannot have run; with it a repeat is recognised however
                late it comes.
            timeout: Seconds until the caller no longer waits; 30 if not given.
            correlation_id: The conversation that the command belongs to.
            causation_id: The id of the event or command that caused it.
            metadata: Fields of your own, stored with the events.

        Raises:
            Rejection: the domain said no; nothing was stored.
            CommandTimeoutError, MailboxFullError, ActorCrashedError, UnknownCommandError, UnknownAggregateError,
                DuplicateCommandError, StreamQuarantinedError, VersionConflictError, AppendTooLargeError,
                InvalidIdError, StoreClosedError, CorruptStoreError: nothing of this command was stored.
            ConfigurationError: `timeout` or `metadata` cannot be used; nothing was stored.
            OutcomeUnknownError: nobody knows; retry with its `command_id`.
            StoreUnavailableError: the store cannot work now; nothing of this command was stored.

        Cancelling the caller cancels its wait, not the command.
        """
        turns = self._turns
        if turns.at_once >= turns.until:
            self._check_usable()
            await turns.wait()
        reply: Any
        try:
            # The short way, which comes to the same: where the aggregate is at rest, and nothing was given.
            blueprint = self._here.get(command.__class__)
            if (
                blueprint is not None
                and blueprint.aggregate is aggregate
                and id.__class__ is str
                and (actor := blueprint.actors.get(id)) is not None
                and actor.phase == IDLE
                and command_id is None
                and caused_at is None
                and timeout is None
                and correlation_id is None
                and causation_id is None
                and metadata is None
                and get_ident() == self._thread
                and self._loop.is_running()
                and not OPEN_TRANSACTIONS
                and self._manager.held is None
            ):
                reply = actor.decide_at_once(command)
            else:
                reply = self._deliver(
                    aggregate,
                    id,
                    command,
                    command_id,
                    caused_at,
                    timeout,
                    correlation_id,
                    causation_id,
                    metadata,
                )
        except Exception as error:
            turns.completed()
            leave_frames(error)
            actor = None  # An error that its caller keeps would keep it alive.
            raise
        # Of a future `isinstance` takes four times as long to say no.
        if reply.__class__ is CommandResult:
            result: CommandResult[E] = reply
            return result
        actor = None
        future: asyncio.Future[CommandResult[E]] = reply
        if future.done():
            # Awaiting it will not suspend.
            turns.completed()
        try:
            return await future
        finally:
            # It has its error, and the error has this frame: only a collector would find them.
            del future, reply

    def dispatch_nowait(
        self,
        aggregate: Aggregate[S, C, E],
        id: str,
        command: C,
        *,
        command_id: str | None = None,
        caused_at: int | None = None,
        timeout: float | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        metadata: Mapping[str, Scalar] | None = None,
    ) -> asyncio.Future[CommandResult[E]]:
        """Send a command and go on: the answer of `dispatch`, as a future that may also be dropped."""
        future: asyncio.Future[CommandResult[E]] = self._loop.create_future()
        try:
            reply: CommandResult[E] | asyncio.Future[CommandResult[E]] = self._deliver(
                aggregate, id, command, command_id, caused_at, timeout, correlation_id, causation_id, metadata
            )
        except Exception as error:  # noqa: BLE001 - it is the future's
            leave_frames(error)
            future.set_exception(error)
        else:
            if isinstance(reply, CommandResult):
                future.set_result(reply)
            else:
                future = reply
        # Whoever drops the future does not care: asyncio need not complain that nobody looked.
        future.add_done_callback(look)
        return future

    async def state(self, aggregate: HasState[S], id: str, *, at: int | None = None) -> S:
        """The state of an aggregate, exact and durable: through its actor, in turn with its commands.

        Of a process manager, the state of an instance.

        With `at`, the state as it was at that version, folded from the stored events.

        Raises `ValueError` if the stream has no version `at`, and what `dispatch` raises.
        """
        if isinstance(aggregate, ProcessManager):
            return await self._state_of_instance(cast("ProcessManager[S, Any]", aggregate), id, at)
        blueprint = self._blueprint(aggregate)
        if at is not None:
            return await state_at(self._store, blueprint, id, at)
        if self._turns.at_once >= self._turns.until:
            await self._turns.wait()
            self._check_usable()
        id = plain_id(id)
        query = Pending(STATE_QUERY, self._manager.new_id(), self._limits.timeout)
        try:
            reply = (self._placement or self._manager).deliver(blueprint, id, query)
        except Exception as error:
            self._turns.completed()
            leave_frames(error)
            raise
        if not isinstance(reply, asyncio.Future):
            state: S = reply
            return state
        future = cast("asyncio.Future[S]", reply)
        if future.done():
            self._turns.completed()
        try:
            return await future
        finally:
            del future, reply  # As in `dispatch`.

    async def events(
        self, aggregate: Aggregate[S, C, E], id: str, *, after: int = 0, limit: int | None = None
    ) -> AsyncIterator[EventEnvelope[E]]:
        """The stored events of an aggregate after version `after`, oldest first, read in pages.

        Raises `UnknownEventError` or `UndecodableEventError` at an event that the code does not know, and `ValueError`
        for an `after` or `limit` below 0.
        """
        blueprint = self._blueprint(aggregate)
        check_id(id)
        check_range(after, limit)
        async for event in every_event(self._store, aggregate.stream(id), after=after, limit=limit):
            yield envelope(blueprint.decoders, event)

    def subscribe(
        self,
        name: str,
        handler: Callable[[Any], object],
        *,
        aggregates: Sequence[Aggregate[Any, Any, Any]] = (),
        streams: Sequence[str] = (),
        types: Sequence[type] = (),
        partition_by: Callable[[Any], str] | None = None,
        workers: int = 1,
        batch: int | None = None,
        on_error: ErrorPolicy = STOP,
        after: After = 0,
    ) -> Subscribed:
        """Have a handler called for events, in order, at least once each, from where it was when it ran last.

        It competes for its name with other processes. See `Subscription`, whose fields these are, and with which a
        subscription is declared in the `App` instead.

        Raises `ConfigurationError` where a field cannot work, or a consumer of this runtime has that name.
        """
        subscription = Subscription(
            name=name,
            handler=handler,
            aggregates=aggregates,
            streams=streams,
            types=types,
            partition_by=partition_by,
            workers=workers,
            batch=batch,
            on_error=on_error,
            after=after,
        )
        self._check_usable()
        return Subscribed(self.consumers, self.consumers.subscribe(subscription))

    async def view(
        self,
        projection: HasViews[V],
        key: str,
        *,
        at_least: int | None = None,
        timeout: float | None = None,
    ) -> V:
        """The view of a key; for one that no event has changed, what views begin with.

        Args:
            at_least: Wait until every event up to this position is in the views: the `position` of a `CommandResult`
                reads your own write.
            timeout: Seconds to wait for that; `Limits.timeout` if not given.

        Raises:
            ProjectionBuildingError: the views of this revision are not complete yet.
            ViewTimeoutError: the projection did not come to `at_least` in time, or is stopped.
            StoreUnavailableError: the store cannot work now.
        """
        self._check_usable()
        return await self.consumers.views.one(
            cast("Projection[V, Any]", projection),
            key,
            at_least,
            self._timeout if timeout is None else timeout,
        )

    async def views(
        self,
        projection: Projection[V, Any],
        *,
        prefix: str = "",
        after: str = "",
        limit: int = PAGE_SIZE,
        at_least: int | None = None,
        timeout: float | None = None,
    ) -> list[tuple[str, V]]:
        """Keys and views in the code point order of the keys, behind the key `after`, at most `limit`.

        Raises what `view` raises, and `ValueError` for a `limit` below 0.
        """
        self._check_usable()
        return await self.consumers.views.page(
            projection, prefix, after, limit, at_least, self._timeout if timeout is None else timeout
        )

    async def parked(self, consumer: str) -> list[Parked]:
        """The events that a subscription or projection has set aside, in the order of the log."""
        self._check_usable()
        return await self.consumers.parked(consumer)

    async def replay(self, consumer: str, key: str | None = None) -> int:
        """Handle what is parked, of one key or of all, in order; returns how many events were handled.

        A key whose events were all handled is free again. At one that fails again its key stays as it is.
        """
        self._check_usable()
        return await self.consumers.replay(consumer, key)

    async def drop(self, consumer: str, key: str | None = None) -> int:
        """Forget what is parked, of one key or of all; returns how many events were dropped."""
        self._check_usable()
        return await self.consumers.drop(consumer, key)

    def statistics(self) -> Statistics:
        """Counts of what runs and of what has been done."""
        manager, counters = self._manager, self._manager.counters
        return Statistics(
            live=manager.live,
            busy=manager.busy,
            recovering=manager.recovering,
            mailbox_depth=manager.mailbox_depth,
            dispatched=manager.turns.at_once + counters.dispatched,
            rejected=counters.rejected,
            failed=counters.failed,
            conflicts=counters.conflicts,
            rehydrated=counters.rehydrated,
            passivated=counters.passivated,
            snapshots=counters.snapshots,
            consumers=self.consumers.statistics(),
            **({} if self._placement is None else msgspec.structs.asdict(self._placement.counts())),
        )

    def place(self, placement: Placement) -> None:
        """From now on the placement decides where commands run; for whoever makes one, before any command comes."""
        self._placement = self._manager.placement = placement
        self._here = {}

    @property
    def blueprints(self) -> Mapping[str, Blueprint[Any, Any, Any]]:
        """What runs, by name; for a placement."""
        return self._blueprints

    @property
    def manager(self) -> AggregateManager:
        """What runs it; for a placement."""
        return self._manager

    async def close(self) -> None:
        """Stop accepting, finish what was accepted, answer everybody; within `Limits.shutdown_timeout` seconds.

        Closing twice is fine. The store stays open: `App.open` closes it.
        """
        try:
            # First the consumers: what a handler has in hand may send commands.
            await self.consumers.close()
            self._take_nothing(_CLOSED)
            if self._placement is not None:
                await self._placement.finish()
            await self._manager.close()
        except BaseException:
            # Whoever is cancelled here waits for nothing more, and leaves nothing running.
            self._take_nothing(_CLOSED)
            self._manager.give_up()
            raise
        if self._placement is not None:
            await self._placement.leave()

    def forked(self) -> None:
        """This is a child that was forked from the process that opened it: whatever is asked here is refused."""
        self._take_nothing(FORKED)

    def _take_nothing(self, reason: str) -> None:
        self._closed = self._closed or reason
        self._here = {}

    def _deliver(
        self,
        aggregate: Aggregate[Any, Any, Any],
        id: str,
        command: object,
        command_id: str | None,
        caused_at: int | None,
        timeout: float | None,
        correlation_id: str | None,
        causation_id: str | None,
        metadata: Mapping[str, Scalar] | None,
    ) -> Any:
        blueprint = self._blueprint(aggregate)
        if type(command) not in blueprint.command_types:
            raise blueprint.refuse(command)
        pending = pending_of(
            blueprint,
            id := plain_id(id),
            command,
            self._timeout if timeout is None else timeout,
            command_id,
            caused_at,
            correlation_id,
            causation_id,
            metadata,
        )
        return (self._placement or self._manager).deliver(blueprint, id, pending)

    def _check_usable(self) -> None:
        check_outside()
        if self._closed:
            raise StoreClosedError(self._closed)
        self._check_loop()

    def _check_loop(self) -> None:
        # As `get_running_loop`, without its question to the system for the number of this process.
        if get_ident() != self._thread or not self._loop.is_running():
            raise StoreClosedError("this runtime belongs to another event loop: open the App in this one")

    def _blueprint(self, aggregate: HasState[Any]) -> Blueprint[Any, Any, Any]:
        self._check_usable()
        try:
            blueprint = self._blueprints.get(aggregate.name)
        except AttributeError:
            raise UnknownAggregateError(repr(aggregate), tuple(self._blueprints), is_value=True) from None
        if blueprint is None:
            raise UnknownAggregateError(aggregate.name, tuple(self._blueprints))
        if blueprint.aggregate is not aggregate:
            raise UnknownAggregateError(aggregate.name, tuple(self._blueprints), is_another=True)
        return blueprint

    async def _state_of_instance(self, process: ProcessManager[S, Any], id: str, at: int | None) -> S:
        self._check_usable()
        blueprint = self._blueprints.get(process.name)
        instances = None if blueprint is None else blueprint.aggregate
        if not isinstance(instances, Instances) or instances.declared is not process:
            raise ConfigurationError(
                f"process manager {process.name!r} is not one of this App's; add it to App(processes=[...])"
            )
        state: S = (await self.state(instances, id, at=at)).state
        return state
