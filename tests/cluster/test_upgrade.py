"""Nodes with older and newer code side by side: what one of them does not know is said clearly, and harms nobody else."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from rehydrate import (
    Aggregate,
    App,
    OutcomeUnknownError,
    Rejection,
    Runtime,
    StreamQuarantinedError,
    UnknownAggregateError,
    UnknownCommandError,
    UnknownEventError,
)
from tests.cluster.cluster_nodes import balanced, ids_of, node, placement


@dataclass(frozen=True)
class Put:
    amount: int


@dataclass(frozen=True)
class Award:
    """Only the new code has it."""

    amount: int


@dataclass(frozen=True)
class OldRefusal:
    """Makes the code refuse."""


@dataclass(frozen=True)
class WasPut:
    amount: int


@dataclass(frozen=True)
class WasAwarded:
    """Only the new code has it."""

    amount: int


class NotAllowed(Rejection): ...


class NotAnyMore(NotAllowed): ...


def _old_decide(state: int, command: Put | OldRefusal) -> Iterable[WasPut]:
    if isinstance(command, OldRefusal):
        raise NotAllowed(state=state)
    return [WasPut(command.amount)]


def _old_evolve(state: int, event: WasPut) -> int:
    return state + event.amount


def _new_decide(state: int, command: Put | Award | OldRefusal) -> Iterable[WasPut | WasAwarded]:
    if isinstance(command, OldRefusal):
        raise NotAnyMore(state=state)
    if isinstance(command, Award) or command.amount > 100:
        return [WasAwarded(command.amount)]
    return [WasPut(command.amount)]


def _new_evolve(state: int, event: WasPut | WasAwarded) -> int:
    return state + event.amount


old = Aggregate(
    name="purse",
    initial=0,
    decide=_old_decide,
    evolve=_old_evolve,
    commands=Put | OldRefusal,
    events=WasPut,
    rejections=NotAllowed,
)
new = Aggregate(
    name="purse",
    initial=0,
    decide=_new_decide,
    evolve=_new_evolve,
    commands=Put | Award | OldRefusal,
    events=WasPut | WasAwarded,
)
only_new = Aggregate(
    name="voucher",
    initial=0,
    decide=_new_decide,
    evolve=_new_evolve,
    commands=Put | Award | OldRefusal,
    events=WasPut | WasAwarded,
)


@asynccontextmanager
async def both(store: str, cluster: str) -> AsyncGenerator[tuple[Runtime, Runtime]]:
    """A node with the old code and one with the new."""
    async with (
        node(store, cluster, of=App(aggregates=[old])) as older,
        node(store, cluster, of=App(aggregates=[new, only_new])) as newer,
    ):
        await balanced(older, newer)
        yield older, newer


async def test_what_both_know_runs_on_either(store: str, cluster: str) -> None:
    async with both(store, cluster) as (older, newer):
        for id in ids_of(older, 2, old) + ids_of(newer, 2, new):
            assert (await older.dispatch(old, id, Put(1))).version == 1
            assert (await newer.dispatch(new, id, Put(2))).version == 2
            assert await older.state(old, id) == await newer.state(new, id) == 3


async def test_a_command_that_the_owner_does_not_know_is_refused_with_its_name(
    store: str, cluster: str
) -> None:
    async with both(store, cluster) as (older, newer):
        (id,) = ids_of(older, 1, old)
        with pytest.raises(UnknownCommandError) as unknown:
            await newer.dispatch(new, id, Award(5))
        assert (unknown.value.aggregate, unknown.value.command) == ("purse", "Award")
        assert unknown.value.known == ("OldRefusal", "Put")
        assert placement(older).membership.label in str(unknown.value)
        assert (await newer.dispatch(new, id, Put(1))).version == 1


async def test_an_aggregate_that_the_owner_does_not_know_is_refused_with_its_name(
    store: str, cluster: str
) -> None:
    async with both(store, cluster) as (older, newer):
        id = next(
            f"v{n}"
            for n in range(1_000)
            if placement(older).shards.states[placement(older).shards.of(f"voucher-v{n}")]
        )
        with pytest.raises(UnknownAggregateError) as unknown:
            await newer.dispatch(only_new, id, Put(5))
        assert (unknown.value.name, unknown.value.known) == ("voucher", ("purse",))
        assert placement(older).membership.label in str(unknown.value)


async def test_an_event_that_one_node_cannot_read_quarantines_its_stream_there_and_nothing_else(
    store: str, cluster: str
) -> None:
    async with both(store, cluster) as (older, newer):
        theirs, ours = ids_of(newer, 1, new)[0], ids_of(older, 2, old)
        await newer.dispatch(new, theirs, Award(5))
        # On the new node that has it, the stream goes on, whoever asks.
        assert (await older.dispatch(old, theirs, Put(1))).version == 2
        assert await newer.state(new, theirs) == 6
        # A stream with the new event that the old node owns is quarantined there, and told to whoever asks.
        shards = placement(older).shards
        shard = shards.of(new.stream(ours[0]))
        membership = placement(newer).membership
        await membership.look()
        await shards.hand_over(shard, membership.node)
        await newer.dispatch(new, ours[0], Award(5))
        await placement(newer).shards.hand_over(shard, placement(older).membership.node)
        with pytest.raises(StreamQuarantinedError) as quarantined:
            await newer.dispatch(new, ours[0], Put(1))
        assert (quarantined.value.version, quarantined.value.type) == (1, "WasAwarded")
        assert (await newer.dispatch(new, ours[1], Put(1))).version == 1


async def test_a_result_that_the_asker_cannot_read_is_unknown_to_it_and_never_stored_twice(
    store: str, cluster: str
) -> None:
    async with both(store, cluster) as (older, newer):
        (id,) = ids_of(newer, 1, new)
        with pytest.raises(OutcomeUnknownError) as unknown:
            await older.dispatch(old, id, Put(500))
        assert isinstance(unknown.value.__cause__, UnknownEventError)
        with pytest.raises(OutcomeUnknownError):
            await older.dispatch(old, id, Put(500), command_id=unknown.value.command_id)
        assert await newer.state(new, id) == 500


async def test_a_refusal_that_only_the_new_code_has_is_the_nearest_that_the_old_knows(
    store: str, cluster: str
) -> None:
    async with both(store, cluster) as (older, newer):
        (id,) = ids_of(newer, 1, new)
        with pytest.raises(NotAllowed) as no:
            await older.dispatch(old, id, OldRefusal())
        assert (str(no.value), no.value.facts) == ("not any more: state 0", {"state": 0})
        with pytest.raises(NotAnyMore):
            await newer.dispatch(new, id, OldRefusal())


async def test_a_state_of_another_shape_is_folded_where_it_is_asked_for(store: str, cluster: str) -> None:
    wide = Aggregate[tuple[int], Put | OldRefusal, WasPut](
        name="purse",
        initial=(0,),
        decide=_wide_decide,
        evolve=_wide_evolve,
        commands=Put | OldRefusal,
        events=WasPut,
    )
    async with (
        node(store, cluster, of=App(aggregates=[old])) as older,
        node(store, cluster, of=App(aggregates=[wide])) as newer,
    ):
        await balanced(older, newer)
        (id,) = ids_of(newer, 1, wide)
        await older.dispatch(old, id, Put(5))
        assert await older.state(old, id) == 5
        assert await newer.state(wide, id) == (5,)


def _wide_decide(state: tuple[int], command: Put | OldRefusal) -> Iterable[WasPut]:
    return _old_decide(state[0], command)


def _wide_evolve(state: tuple[int], event: WasPut) -> tuple[int]:
    return (state[0] + event.amount,)
