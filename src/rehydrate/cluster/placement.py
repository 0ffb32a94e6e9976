"""The placement of a cluster: what this node owns runs here, everything else goes to its owner."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

from rehydrate.clock import Clock, NewId, SystemClock, unique_ids
from rehydrate.cluster.address import ClusterAddress, read_cluster_address
from rehydrate.cluster.asking import Asking
from rehydrate.cluster.membership import Membership
from rehydrate.cluster.serving import Serving
from rehydrate.cluster.shards import OWNED, Shards
from rehydrate.errors import ConfigurationError
from rehydrate.nats.connection import Connection
from rehydrate.runtime.blueprint import Blueprint
from rehydrate.runtime.mailbox import Pending
from rehydrate.runtime.manager import Actor
from rehydrate.runtime.placement import PlacementCounts
from rehydrate.runtime.runtime import Runtime

_log = logging.getLogger(__name__)

_LEAVE_WITHIN: Final = 5.0
_NEVER: Final = float("inf")


class RoutedPlacement:
    """One node: its connection, its membership, its shards, what it asks others and what it does for them."""

    def __init__(self, runtime: Runtime, address: ClusterAddress, clock: Clock, new_id: NewId) -> None:
        self._runtime = runtime
        self._manager = manager = runtime.manager
        self._clock = clock
        self.connection = Connection(
            address.nats, name=f"rehydrate cluster {address.name}", lost=self._lost, regained=self._regained
        )
        self._client: object = None
        self._limits = manager.limits
        self.shards = Shards(manager, clock)
        self.membership = Membership(
            self.connection,
            address,
            manager.store,
            clock=clock,
            new_id=new_id,
            listen=self._listen,
            changed=self._changed,
            renewed=self._renewed,
            lapsed=self._lapsed,
        )
        routed = self._limits.routed
        self.serving = Serving(runtime, self.connection, self.membership, self.shards, routed)
        self.asking = Asking(runtime, self.connection, self.membership, self.shards, clock, routed)
        self._is_placed = False
        self._is_finished = False
        self._has_left = False

    async def join(self) -> None:
        """Be a node among the others. Raises `ConfigurationError` and `StoreUnavailableError`."""
        await self.connection.open()
        self._client = self.connection.client
        try:
            await self.membership.find()
            self.shards.use(self.membership)
            self._is_placed = True
            self._runtime.place(self)
            await self.membership.join()
            await self.shards.step()
        except BaseException:
            await self.membership.leave()
            await self.connection.close()
            raise
        self.membership.run(self.shards.balance())

    # --------------------------------------------------------------------------------------------------- as a placement

    def deliver(self, blueprint: Blueprint[Any, Any, Any], id: str, pending: Pending) -> Any:
        shard = self.shards.of(f"{blueprint.name}-{id}")
        if self.shards.states[shard] == OWNED and self._clock.monotonic() < self._manager.owned_until:
            return self._manager.deliver(blueprint, id, pending)
        return self.asking.route(shard, blueprint, id, pending)

    def given_back(self, blueprint: Blueprint[Any, Any, Any], id: str, pending: Pending) -> None:
        self.asking.route(self.shards.of(f"{blueprint.name}-{id}"), blueprint, id, pending)

    def started(self, actor: Actor) -> None:
        self.shards.started(actor)

    def ended(self, actor: Actor) -> None:
        self.shards.ended(actor)

    def lapsed(self) -> None:
        self.membership.end_if_over()

    def counts(self) -> PlacementCounts:
        return PlacementCounts(
            nodes=len(self.membership.table.nodes),
            shards=self.shards.owned,
            routed=self.asking.routed,
            served=self.serving.served,
        )

    async def finish(self) -> None:
        if self._is_finished:
            return
        self._is_finished = True
        self.serving.is_closing = True
        self.shards.stop_moving()
        await self.membership.announce_leaving()
        await self.asking.finish(self._limits.shutdown_timeout)

    async def leave(self) -> None:
        if self._has_left:
            return
        self._has_left = True
        try:
            async with asyncio.timeout(_LEAVE_WITHIN if self.connection.is_connected else 0):
                await self.shards.leave()
        except Exception as error:  # noqa: BLE001 - the others take over what they are not given
            _log.info("the shards of this node are left to the others: %r", error)
        self._manager.owned_until = _NEVER
        self.asking.abandon()
        await self.membership.leave()
        await self.connection.close()

    # ------------------------------------------------------------------------------------------------- what happens to it

    async def _listen(self, node: str) -> None:
        await self.serving.listen(node)

    def _changed(self, gone: set[str], given: Iterable[int]) -> None:
        if self._is_placed:
            self.shards.refresh(given)
            self.asking.gone(gone)

    def _renewed(self, until: float) -> None:
        if self._is_placed:
            self._manager.owned_until = until

    def _lapsed(self) -> None:
        self._manager.owned_until = _NEVER
        if self._is_placed:
            self.shards.lose_all()

    def _lost(self) -> None:
        """Nothing yet: a lease outlives a short loss of the connection."""

    def _regained(self) -> None:
        self.membership.look_soon(everything=True)
        if self.connection.client is not self._client:
            # The servers had closed the connection for good, and with it its subscriptions.
            self._client = self.connection.client
            self.membership.run(self.membership.listen_again())
        self.serving.regained()
        self.asking.regained()


@asynccontextmanager
async def joined(
    runtime: Runtime, url: str, *, clock: Clock | None = None, new_id: NewId | None = None
) -> AsyncGenerator[None]:
    """Have a runtime be a node of a cluster; closing the runtime takes it out again.

    Raises `ConfigurationError` for a URL or a store that cannot be used, and `StoreUnavailableError`.
    """
    address = read_cluster_address(url)
    capabilities = runtime.manager.store.capabilities
    if not capabilities.multi_process:
        raise ConfigurationError(
            "cluster= needs a store that several processes can open, such as postgresql://, mongodb:// or nats://"
        )
    placement = RoutedPlacement(runtime, address, clock or SystemClock(), new_id or unique_ids())
    await placement.join()
    try:
        yield
    finally:
        await runtime.close()
