"""Nodes of a cluster in the process of a test."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

from rehydrate import Aggregate, App, Clock, Limits, Runtime
from rehydrate.cluster.placement import RoutedPlacement
from rehydrate.cluster.shards import OWNED
from rehydrate.testing.clock import until
from tests.bank import account, app

SHARDS = 32


def with_parameters(cluster: str, **parameters: object) -> str:
    return f"{cluster}?" + "&".join(f"{name}={value}" for name, value in parameters.items())


def quick(cluster: str, **parameters: object) -> str:
    """Few shards, which move fast, and a lease that outlives what a slow machine does to a test."""
    return with_parameters(cluster, **{"shards": SHARDS, "moves": 1_000, "ttl": 20} | parameters)


@asynccontextmanager
async def nodes(
    store: str, cluster: str, *, count: int = 2, of: App = app, limits: Limits | None = None
) -> AsyncGenerator[list[Runtime]]:
    """So many nodes, each with its fair share."""
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(of.open(store, cluster=cluster, limits=limits))
            for _ in range(count)
        ]
        await balanced(*opened)
        yield opened


@asynccontextmanager
async def node(
    store: str, cluster: str, *, of: App = app, clock: Clock | None = None
) -> AsyncGenerator[Runtime]:
    async with of.open(store, cluster=cluster, clock=clock) as runtime:
        yield runtime


def placement(runtime: Runtime) -> RoutedPlacement:
    return cast(RoutedPlacement, runtime.manager.placement)


async def balanced(*runtimes: Runtime) -> None:
    """Wait until everybody knows all the others and has a fair share."""

    def is_fair() -> bool:
        shares = [runtime.statistics().shards for runtime in runtimes]
        total = len(placement(runtimes[0]).shards.states)
        return (
            sum(shares) == total
            and max(shares) - min(shares) <= 1
            and all(runtime.statistics().nodes == len(runtimes) for runtime in runtimes)
        )

    await until(is_fair)


def owns(runtime: Runtime, id: str, aggregate: Aggregate[Any, Any, Any] = account) -> bool:
    shards = placement(runtime).shards
    return shards.states[shards.of(aggregate.stream(id))] == OWNED


def ids_of(runtime: Runtime, count: int = 1, aggregate: Aggregate[Any, Any, Any] = account) -> list[str]:
    """Ids of aggregates that this node owns."""
    found: list[str] = []
    number = 0
    while len(found) < count:
        number += 1
        if owns(runtime, f"a{number}", aggregate):
            found.append(f"a{number}")
    return found
