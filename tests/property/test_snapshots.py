"""A snapshot, taken at any point, and the rest of the events are the same state as all the events."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from rehydrate import App, CommandResult, Rejection, Snapshot, open_store
from rehydrate.codec.json import JsonValueCodec
from rehydrate.testing.clock import settle
from tests.property.ledger import Batch, Command, Draw, Ledger, Post, decoded, ledger_aggregate, states_of

amounts = st.integers(1, 9)
commands: st.SearchStrategy[Command] = st.one_of(
    amounts.map(Post), amounts.map(Draw), st.lists(amounts, min_size=1, max_size=7).map(tuple).map(Batch)
)
lives = st.lists(st.lists(commands, max_size=8), min_size=1, max_size=4)
"""The commands of each runtime, one after the other on the same store."""
policies = st.builds(Snapshot, every=st.integers(1, 9), keep=st.integers(1, 3))


@settings(max_examples=150, deadline=None)
@given(lives=lives, policy=policies, separate=st.booleans())
def test_a_snapshot_and_the_events_after_it_make_the_same_state_as_all_events(
    lives: list[list[Command]], policy: Snapshot, separate: bool
) -> None:
    asyncio.run(_live(lives, policy, separate=separate))


async def _live(lives: list[list[Command]], policy: Snapshot, *, separate: bool) -> None:
    ledger = ledger_aggregate(snapshot=policy)
    app = App(aggregates=[ledger])
    stream = ledger.stream("one")
    codec = JsonValueCodec(Ledger)
    store = await open_store("memory://events")
    snapshots = await open_store("memory://snapshots") if separate else store
    states = [Ledger()]
    for its_commands in lives:
        async with app.open(store, snapshots=snapshots) as runtime:
            assert await runtime.state(ledger, "one") == states[-1]
            for command in its_commands:
                outcome = runtime.dispatch_nowait(ledger, "one", command)
                await settle()
                page = await store.read_stream(stream)
                states = states_of(decoded(page.events))
                result = outcome.exception() or outcome.result()
                assert isinstance(result, CommandResult | Rejection)
                assert await runtime.state(ledger, "one") == states[-1]
                saved = await snapshots.load_snapshot(stream)
                assert len(page.events) - (saved.version if saved else 0) < policy.every
                if saved is not None:
                    assert codec.decode(saved.data) == states[saved.version]
                    assert saved.event_id == page.events[saved.version - 1].id
                    assert saved.position == page.events[saved.version - 1].position
            for version, state in enumerate(states):
                assert await runtime.state(ledger, "one", at=version) == state
    if separate:
        await snapshots.close()
    await store.close()
