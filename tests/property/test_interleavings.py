"""In whatever order the event loop runs what is ready, and whatever befalls the calls to the store: the same effects."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack

from hypothesis import given, settings
from hypothesis import strategies as st

from rehydrate import (
    App,
    CommandResult,
    CommandTimeoutError,
    OutcomeUnknownError,
    Runtime,
    StoreError,
    open_store,
)
from rehydrate.testing.clock import FakeClock, settle
from rehydrate.testing.faults import FaultyStore, RandomFaults
from tests.property.history import Log, read_log
from tests.property.ledger import (
    Batch,
    Command,
    Ledger,
    Nothing,
    Post,
    events_of,
    ledger_aggregate,
    states_of,
)

TRANSIENT = (OutcomeUnknownError, CommandTimeoutError, StoreError)
"""What a caller answers with a repeat."""


class ShufflingLoop(asyncio.SelectorEventLoop):
    """An event loop that keeps no order among the callbacks that are ready."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._order = random.Random(seed)

    def _run_once(self) -> None:
        ready: list[object] = [self._ready.popleft() for _ in range(len(self._ready))]  # type: ignore[attr-defined]
        self._order.shuffle(ready)
        self._ready.extend(ready)  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


amounts = st.integers(1, 9)
# Commands that are accepted in any order.
commands: st.SearchStrategy[Command] = st.one_of(
    amounts.map(Post), st.lists(amounts, min_size=1, max_size=4).map(tuple).map(Batch), st.just(Nothing())
)
orders = st.lists(st.tuples(st.sampled_from("ab"), commands, st.integers(1, 3)), min_size=1, max_size=20)
"""For which account, which command, and how often it is sent with the same id."""
rates = st.sampled_from([0.0, 0.1, 0.3])

Orders = list[tuple[str, Command, int]]


@settings(max_examples=100, deadline=None)
@given(orders=orders, seed=st.integers(0, 2**32), rate=rates)
def test_any_interleaving_of_deliveries_has_the_same_effects(orders: Orders, seed: int, rate: float) -> None:
    with asyncio.Runner(loop_factory=lambda: ShufflingLoop(seed)) as runner:
        log = runner.run(_deliver_all(orders, random.Random(seed), rate))
    stored = {number: len(events) for number, events in log.commands.items()}
    assert stored == {
        n: len(events_of(command)) for n, (_, command, _) in enumerate(orders) if events_of(command)
    }
    balances = Counter({account: states[-1].balance for account, states in log.states.items()})
    for account, command, _ in orders:
        balances[account] -= states_of(events_of(command))[-1].balance
    assert set(balances.values()) <= {0}


async def _deliver_all(orders: Orders, chance: random.Random, rate: float) -> Log:
    """Send all commands at the same time through two runtimes, each as often as asked for, and until it is answered."""
    clock = FakeClock()
    ledger = ledger_aggregate()
    app = App(aggregates=[ledger])
    async with AsyncExitStack() as stack:
        store = await open_store("memory://shared")
        stack.push_async_callback(store.close)
        plan = RandomFaults(chance, rate=rate)
        runtimes = [
            await stack.enter_async_context(app.open(FaultyStore(store, plan, clock), clock=clock))
            for _ in range(2)
        ]

        async def deliver(runtime: Runtime, number: int) -> CommandResult[object]:
            account, command, _ = orders[number]
            while True:
                try:
                    return await runtime.dispatch(
                        ledger, account, command, command_id=f"id{number}", metadata={"command": number}
                    )
                except TRANSIENT:
                    continue

        deliveries = [
            (number, asyncio.ensure_future(deliver(chance.choice(runtimes), number)))
            for number, (_, _, times) in enumerate(orders)
            for _ in range(times)
        ]
        while not all(delivery.done() for _, delivery in deliveries):
            await settle()
            await clock.advance(0.05)
        plan.rate = 0.0
        log = await read_log(store)
        for number, delivery in deliveries:
            _, command, _ = orders[number]
            result = delivery.result()
            assert result.events == events_of(command)
            if result.events:
                last = log.commands[number][-1]
                assert (result.version, result.position) == (last.version, last.position)
        for account in "ab":
            for runtime in runtimes:
                assert await runtime.state(ledger, account) == log.states.get(account, [Ledger()])[-1]
        return log
