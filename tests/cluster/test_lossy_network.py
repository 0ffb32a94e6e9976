"""Messages between nodes are lost and late at random: what a caller is told is what the log says in the end."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest

from rehydrate import CommandResult, OutcomeUnknownError, Rejection, Runtime
from rehydrate.nats.connection import Connection
from rehydrate.store.port import every_event
from rehydrate.testing.clock import until
from tests.bank import Deposit, Withdraw, account
from tests.cluster.cluster_nodes import node, nodes, placement, quick

IDS = [f"account{number}" for number in range(6)]


class LossyNetwork:
    """Loses some messages of a connection, and delays others by up to a second."""

    def __init__(self, chance: random.Random, lost: float, late: float) -> None:
        self._chance = chance
        self._lost = lost
        self._late = late
        self.is_on = True
        self.late = 0
        """Messages that are under way."""

    def spoil(self, connection: Connection) -> None:
        call, tell = connection.call, connection.tell

        def spoiled_call(
            subject: str,
            payload: bytes,
            answered: Callable[[Any], bool],
            *,
            headers: Mapping[str, str] | None = None,
            timeout: float | None = None,
        ) -> None:
            def go(where: str = subject) -> None:
                call(where, payload, answered, headers=headers, timeout=timeout)

            self._pass(go, lose=lambda: go("rehydrate.nowhere.hangs"))

        def spoiled_tell(
            subject: str, payload: bytes = b"", *, headers: Mapping[str, str] | None = None
        ) -> None:
            self._pass(lambda: tell(subject, payload, headers=headers), lose=lambda: None)

        connection.call = spoiled_call  # type: ignore[method-assign]
        connection.tell = spoiled_tell  # type: ignore[method-assign]

    def _pass(self, go: Callable[[], None], lose: Callable[[], None]) -> None:
        drawn = self._chance.random() if self.is_on else 1.0
        if drawn < self._lost:
            lose()
        elif drawn < self._lost + self._late:
            self.late += 1
            asyncio.get_running_loop().call_later(self._chance.uniform(0, 1), self._arrive, go)
        else:
            go()

    def _arrive(self, go: Callable[[], None]) -> None:
        self.late -= 1
        go()


class Books:
    """What callers were told of their commands."""

    def __init__(self) -> None:
        self.told: dict[str, str] = {}
        self._count = 0

    async def use(self, runtime: Runtime, id: str, chance: random.Random, rounds: int) -> None:
        for _ in range(rounds):
            self._count += 1
            order = f"order{self._count}"
            command = Deposit(1) if chance.random() < 0.5 else Withdraw(chance.randint(1, 3))
            try:
                result = await runtime.dispatch(account, id, command, metadata={"order": order}, timeout=6)
            except Rejection:
                self.told[order] = "refused"
            except OutcomeUnknownError:
                self.told[order] = "unknown"
            else:
                assert isinstance(result, CommandResult)
                self.told[order] = "stored"


@pytest.mark.slow  # Deadlines and leases pass in real time.
@pytest.mark.parametrize("seed", range(4))
async def test_what_a_caller_was_told_is_true_whatever_the_network_loses_and_delays(
    store: str, nats_url: str, seed: int
) -> None:
    chance = random.Random(seed)
    cluster = quick(nats_url, ttl=3, patience=0.1, shards=8)
    books = Books()
    async with nodes(store, cluster, count=3) as runtimes:
        network = LossyNetwork(chance, lost=0.05, late=0.15)
        subscription = await placement(runtimes[0]).connection.client.subscribe(  # pyright: ignore[reportUnknownMemberType]
            "rehydrate.nowhere.hangs"
        )
        for runtime in runtimes:
            network.spoil(placement(runtime).connection)
        async with asyncio.TaskGroup() as callers:
            for runtime in runtimes:
                for id in IDS:
                    for _ in range(2):
                        callers.create_task(books.use(runtime, id, chance, 40))
            for _ in range(3):
                async with node(store, cluster) as guest:
                    network.spoil(placement(guest).connection)
                    await until(lambda: guest.statistics().shards)
                    await books.use(guest, IDS[0], chance, 5)
        network.is_on = False
        await subscription.unsubscribe()
        # What is late still comes, and must not change anything.
        await until(lambda: network.late == 0 and not any(runtime.manager.busy for runtime in runtimes))
        found: Counter[str] = Counter()
        for id in IDS:
            balance = 0
            async for event in every_event(runtimes[0].store, account.stream(id)):
                amount = msgspec.json.decode(event.data)["amount"]
                balance += amount if event.type == "Deposited" else -amount
                assert balance >= 0
                found[msgspec.json.decode(event.metadata)["user"]["order"]] += 1
    told = Counter(books.told.values())
    assert told["stored"] > 0
    assert told["refused"] > 0
    wrong = {
        order: (what, found[order])
        for order, what in books.told.items()
        if found[order] not in {"stored": (1,), "refused": (0,), "unknown": (0, 1)}[what]
    }
    assert wrong == {}, (wrong, told)
