"""This node among the others: its lease, which it renews, and the table, which it keeps up to date.

A lease is one key that expires. By this node's own monotonic clock it lasts from the moment at which the last successful
renewal was sent, and so never longer than the servers keep the key.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Final

import msgspec

from rehydrate.clock import Clock, NewId, Timer
from rehydrate.cluster.address import SHARDS, ClusterAddress
from rehydrate.cluster.bucket import Bucket, Change, WrongRevisionError
from rehydrate.cluster.same_store import tell_of_other_stores, who_has_another_store
from rehydrate.cluster.table import NODE, SETTINGS, SHARD, WIRE, NodeCard, Settings, Table
from rehydrate.errors import ConfigurationError, StoreUnavailableError
from rehydrate.nats.connection import Connection, NotAnsweredError
from rehydrate.store.port import Head, Store

_log = logging.getLogger(__name__)

_LOOK_EVERY: Final = 1.0
"""Seconds between two looks at the bucket where nobody has told of a change: that a key has expired nobody tells."""
_READ_ALL_EVERY: Final = 30
"""Looks between two that read everything."""
_AT_MOST_EVERY: Final = 0.05
_RETRY: Final = 0.2
_LEAVE_WITHIN: Final = 2.0


class Membership:
    """Joins, stays, and leaves; `changed` hears of nodes that are gone, `lapsed` that this node's own lease has ended."""

    def __init__(
        self,
        connection: Connection,
        address: ClusterAddress,
        store: Store,
        *,
        clock: Clock,
        new_id: NewId,
        listen: Callable[[str], Awaitable[None]],
        changed: Callable[[set[str], Iterable[int]], None],
        renewed: Callable[[float], None],
        lapsed: Callable[[], None],
    ) -> None:
        self.bucket = Bucket(connection, address.bucket)
        self.address = address
        self.label = f"{socket.gethostname()}/{os.getpid()}"
        self.node = ""
        """This node while it has a lease; after a lapse it is another one."""
        self.until = 0.0
        """On the monotonic clock."""
        self.position = 0
        """The newest position of the store that is known here."""
        self.table = Table(0)
        self._connection = connection
        self._store = store
        self._clock = clock
        self._new_id = new_id
        self._listen = listen
        self._changed = changed
        self._renewed = renewed
        self._lapsed = lapsed
        self._loop = asyncio.get_running_loop()
        self._head = Head(0, "")
        self._candidate = ""
        """The node that this one is to be: one name for all tries, or one that was done unheard would get shards."""
        self._first_tried = 0.0
        self._revision = 0
        self._is_leaving = False
        self._hint = asyncio.Event()
        self._must_read_all = False
        self._lapse: Timer | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.subject = f"rehydrate.cluster.{address.name}"

    # ------------------------------------------------------------------------------------------------------- join, leave

    async def find(self) -> None:
        """Find the others.

        Raises `ConfigurationError` where this node cannot be one of them, and `StoreUnavailableError`.
        """
        await self.bucket.open(self.address.replicas, within=self.address.nats.timeout)
        await self._insist(self._find)
        self._check_the_others()
        await self._check_their_store()

    async def _find(self) -> None:
        settings = await self._settle_settings()
        self.table = Table(settings.shards)
        await self.look(everything=True)

    async def join(self) -> None:
        """Become one of those that were found. Raises `StoreUnavailableError`."""
        await self._hear_of_changes()
        await self._insist(self._register)
        self.run(self._stay())
        self.run(self._keep_looking())
        self.run(
            tell_of_other_stores(
                self._store,
                lambda: {node: card for node, card in self.table.nodes.items() if node != self.node},
                lambda: pause(self._clock, self.address.ttl / 3),
                self.address.nats.shown,
            )
        )

    async def _insist(self, ask: Callable[[], Awaitable[None]]) -> None:
        """Ask until it succeeds: a bucket that was just made, or has just lost its leader, answers nobody for a moment."""
        until = self._loop.time() + self.address.nats.timeout
        while True:
            try:
                return await ask()
            except (NotAnsweredError, WrongRevisionError) as error:
                if self._loop.time() > until:
                    raise self._cannot(error) from None
            await asyncio.sleep(_AT_MOST_EVERY)

    def _cannot(self, error: Exception) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"{self.address.nats.shown}: the cluster {self.address.name} cannot be joined now: {error}"
        )

    async def _settle_settings(self) -> Settings:
        wanted = self.address.shards
        for _ in range(3):
            found = [change for change in await self.bucket.changes(0) if change.key == SETTINGS]
            if found:
                settings = msgspec.json.decode(found[0].value, type=Settings)
                if wanted not in (None, settings.shards):
                    raise ConfigurationError(
                        f"{self.address.nats.shown}: the cluster was started with shards={settings.shards}, and "
                        f"shards={wanted} cannot change that: leave it out, or choose another name"
                    )
                return settings
            settings = Settings(wanted or SHARDS)
            try:
                await self.bucket.put(SETTINGS, msgspec.json.encode(settings), revision=0)
            except WrongRevisionError:
                # Another node was first.
                await asyncio.sleep(_AT_MOST_EVERY)
        raise StoreUnavailableError(
            f"{self.address.nats.shown}: the settings of the cluster cannot be read now"
        )

    def _check_the_others(self) -> None:
        for card in self.table.nodes.values():
            if card.wire != WIRE:
                raise ConfigurationError(
                    f"{self.address.nats.shown}: {card.label} speaks version {card.wire} of the cluster's protocol and "
                    f"this process version {WIRE}: run the new version under another name of the cluster, and stop the "
                    "old one after"
                )

    async def listen_again(self) -> None:
        """The connection is another one: subscribe to what this node hears."""
        await self._hear_of_changes()
        if self.node:
            await self._listen(self.node)

    async def _check_their_store(self) -> None:
        # A replica may lag, and a store that was restored have lost what the others told of; that passes.
        deadline = self._loop.time() + self.address.nats.timeout
        while other := await who_has_another_store(self._store, self.table.nodes.values()):
            if self._loop.time() > deadline:
                raise ConfigurationError(
                    f"{self.address.nats.shown}: {other.label} has another store, which has an event at position "
                    f"{other.head_position:,} that is not in this one: give all nodes of a cluster the same store"
                )
            await asyncio.sleep(_RETRY)
            await self._insist(self._find)

    async def _hear_of_changes(self) -> None:
        async def told(_: object) -> None:
            self._hint.set()

        await self._connection.client.subscribe(  # pyright: ignore[reportUnknownMemberType]
            f"{self.subject}.changed", cb=told
        )

    async def _register(self) -> None:
        """Take a lease, as a node that never was before."""
        await self._ask_for_head()
        if not self._candidate:
            self._candidate, self._first_tried = self._new_id(), self._clock.monotonic()
        node, card, sent = self._candidate, self._card(), self._clock.monotonic()
        await self._listen(node)
        try:
            revision = await self.bucket.put(NODE + node, card, revision=0, ttl=self.address.ttl)
        except WrongRevisionError:
            # An earlier try was done and its answer lost; or it cannot be told.
            await self.look()
            if node not in self.table.nodes:
                self._candidate = ""
                raise
            revision, sent = self.table.node_revisions[node], self._first_tried
        self.node, self._revision, self._candidate = node, revision, ""
        self._applied([Change(NODE + node, card, revision)])
        self._extend(sent)
        self.tell_of_change()

    async def leave(self) -> None:
        """Take the key away, so that nobody waits for it to expire."""
        await self.stop_tasks()
        node, self.node = self.node, ""
        if self._lapse is not None:
            self._lapse.cancel()
        if not node:
            return
        try:
            async with asyncio.timeout(_LEAVE_WITHIN if self._connection.is_connected else 0):
                await self.bucket.delete(NODE + node, revision=self._revision)
                self.tell_of_change()
                await self._connection.client.flush()
        except Exception as error:  # noqa: BLE001 - the lease ends by itself
            _log.info("%s: the lease is left to expire: %r", self.address.nats.shown, error)

    async def announce_leaving(self) -> None:
        """From now on nobody gives anything to this node."""
        self._is_leaving = True
        try:
            if self.node and self._connection.is_connected and await self._renew():
                self.tell_of_change()
        except Exception as error:  # noqa: BLE001 - then nobody knows it before this node is gone
            _log.debug("%s: leaving was not announced: %s", self.address.nats.shown, error)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Keep something going until this node leaves."""
        task = self._loop.create_task(work)
        task.add_done_callback(self._task_ended)
        self._tasks.append(task)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if task in self._tasks:
            self._tasks.remove(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error(
                "%s: a task of this node failed; this is a bug in Rehydrate",
                self.address.nats.shown,
                exc_info=error,
            )

    async def stop_tasks(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    # -------------------------------------------------------------------------------------------------------- the lease

    def _card(self) -> bytes:
        return msgspec.json.encode(
            NodeCard(
                self.label,
                position=self.position,
                head_position=self._head.position,
                head_id=self._head.event_id,
                is_leaving=self._is_leaving,
            )
        )

    async def _stay(self) -> None:
        """Renew three times before the lease would end; after a lapse begin anew."""
        every = self.address.ttl / 3
        wait = every
        while True:
            await pause(self._clock, wait)
            try:
                if self.node:
                    is_done = await self._renew()
                else:
                    await self._register()
                    is_done = True
            except Exception as error:  # noqa: BLE001 - whatever went wrong, it is tried again
                _log.debug("%s: no lease now: %s", self.address.nats.shown, error)
                is_done = False
            wait = every if is_done else min(_RETRY, every)

    async def _renew(self) -> bool:
        await self._ask_for_head()
        node, sent = self.node, self._clock.monotonic()
        try:
            card = self._card()
            revision = await self.bucket.put(
                NODE + node,
                card,
                revision=self._revision,
                ttl=self.address.ttl,
                timeout=max(0.3, min(2.0, self.address.ttl / 5)),
            )
        except NotAnsweredError:
            return False
        except WrongRevisionError:
            # An earlier renewal was done and its answer lost; or the key has expired.
            await self.look()
            if self.node == node and node not in self.table.nodes:
                self._end()
            elif self.node == node:
                self._revision = self.table.node_revisions[node]
            return False
        if self.node == node:
            self._revision = revision
            self._applied([Change(NODE + node, card, revision)])
            self._extend(sent)
        return True

    async def _ask_for_head(self) -> None:
        try:
            async with asyncio.timeout(self.address.ttl / 6):
                self._head = await self._store.head()
        except Exception as error:  # noqa: BLE001 - without it some commands cost a read more
            _log.debug("%s: the store does not say where it ends: %s", self.address.nats.shown, error)
        self.position = max(self.position, self._head.position)

    def _extend(self, sent: float) -> None:
        self.until = sent + self.address.ttl
        if self._lapse is not None:
            self._lapse.cancel()
        self._lapse = self._clock.call_later(self.until - self._clock.monotonic(), self.end_if_over)
        self._renewed(self.until)

    @property
    def is_member(self) -> bool:
        """Whether the lease lasts at this moment."""
        return bool(self.node) and self._clock.monotonic() < self.until

    def end_if_over(self) -> None:
        """End the lease here if its time is over; what others may do from then on, they may."""
        if self.node and self._clock.monotonic() >= self.until:
            self._end()

    def _end(self) -> None:
        _log.warning(
            "%s: the lease of this node has lapsed; it gives up what it owned", self.address.nats.shown
        )
        node, self.node, self.until = self.node, "", 0.0
        self.table.nodes.pop(node, None)
        self._lapsed()
        self._changed({node}, ())

    # -------------------------------------------------------------------------------------------------------- the table

    def tell_of_change(self) -> None:
        """Have the others look."""
        self._connection.tell(f"{self.subject}.changed")

    def look_soon(self, *, everything: bool = False) -> None:
        self._must_read_all = self._must_read_all or everything
        self._hint.set()

    async def look(self, *, everything: bool = False) -> None:
        """Take over what has changed in the bucket. Raises `NotAnsweredError`."""
        changes = await self.bucket.changes(0 if everything else self.table.revision)
        self._applied(changes, are_all=everything)
        self.table.revision = max([self.table.revision, *(change.revision for change in changes)])

    def _applied(self, changes: list[Change], *, are_all: bool = False) -> None:
        gone, given = self.table.apply(changes)
        if are_all:
            gone |= self.table.retain(changes)
        for card in self.table.nodes.values():
            self.position = max(self.position, card.position)
        if changes:
            self._changed(gone - {self.node}, given)
        if self.node in gone:
            self._end()

    async def give(self, shard: int, node: str) -> bool:
        """Name the owner of a shard; whether it is so now. Where nobody can tell, it is false, and a look will show."""
        key = f"{SHARD}{shard}"
        try:
            revision = await self.bucket.put(key, node.encode(), revision=self.table.given[shard].revision)
        except (NotAnsweredError, WrongRevisionError):
            self.look_soon()
            return False
        self._applied([Change(key, node.encode(), revision)])
        return True

    async def _keep_looking(self) -> None:
        looks = 0
        while True:
            await self._wait_for_hint(min(_LOOK_EVERY, self.address.ttl / 5))
            looks += 1
            everything = self._must_read_all or looks % _READ_ALL_EVERY == 0
            self._must_read_all = False
            try:
                await self.look(everything=everything)
            except NotAnsweredError:
                self._must_read_all = self._must_read_all or everything
            except Exception:  # noqa: BLE001 - it is tried again
                _log.exception("a look at the cluster failed; this is a bug in Rehydrate")
            await pause(self._clock, _AT_MOST_EVERY)

    async def _wait_for_hint(self, seconds: float) -> None:
        timer = self._clock.call_later(seconds, self._hint.set)
        try:
            await self._hint.wait()
        finally:
            timer.cancel()
            self._hint.clear()


async def pause(clock: Clock, seconds: float) -> None:
    """Wait by that clock."""
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end() -> None:
        if not over.done():
            over.set_result(None)

    timer = clock.call_later(seconds, end)
    try:
        await over
    finally:
        timer.cancel()
