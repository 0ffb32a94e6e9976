"""A command of which several copies are under way is stored once, in whatever order they come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from rehydrate import Runtime
from rehydrate.cluster import wire
from rehydrate.cluster.table import WIRE
from rehydrate.nats.connection import NotAnswered
from rehydrate.runtime.mailbox import Pending
from rehydrate.testing.clock import settle, until
from tests.bank import Account, Command, Deposit, Deposited, InsufficientFunds, Split, Withdraw, account
from tests.cluster.cluster_nodes import ids_of, nodes, placement


def copy_for(owner: Runtime, id: str, command: Command, command_id: str, **fields: Any) -> wire.Request:
    """A copy as another node would send it."""
    shards, table = placement(owner).shards, placement(owner).membership.table
    shard = shards.of(account.stream(id))
    request = wire.Request(
        WIRE,
        wire.COMMAND,
        shard,
        table.given[shard].revision,
        account.name,
        id,
        command_id,
        type(command).__name__,
        msgspec.json.encode(command),
        5.0,
        caused_at=0,
    )
    return msgspec.structs.replace(request, **fields)


async def send(asker: Runtime, owner: Runtime, request: wire.Request) -> Any:
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def answered(message: Any) -> bool:
        answer.set_result(message)
        return False

    membership = placement(owner).membership
    connection = placement(asker).connection
    connection.call(f"{membership.subject}.node.{membership.node}", wire.encode(request), answered, timeout=5)
    message = await answer
    assert not isinstance(message, NotAnswered), message
    return wire.read_reply(message.data)


async def test_copies_that_come_together_share_one_answer(store: str, cluster: str) -> None:
    async with nodes(store, cluster) as (here, there):
        (id,) = ids_of(there)
        first = copy_for(there, id, Deposit(1), "x")
        repeat = msgspec.structs.replace(first, copy=2)
        answers = await asyncio.gather(*(send(here, there, each) for each in (first, repeat, repeat)))
        assert [answer.version for answer in answers] == [1, 1, 1]
        assert await there.state(account, id) == Account(1, 1)


async def test_a_repeat_of_what_was_stored_is_answered_with_the_first_result(
    store: str, cluster: str
) -> None:
    async with nodes(store, cluster) as (here, there):
        (id,) = ids_of(there)
        first = copy_for(there, id, Deposit(1), "x")
        assert (await send(here, there, first)).version == 1
        await there.dispatch(account, id, Deposit(5))
        again = await send(here, there, msgspec.structs.replace(first, copy=2))
        assert (again.version, again.events) == (1, [("Deposited", b'{"amount":1}')])


async def test_a_first_copy_that_comes_after_its_repeat_is_not_run(store: str, cluster: str) -> None:
    async with nodes(store, cluster) as (here, there):
        (id,) = ids_of(there)
        late = copy_for(there, id, Withdraw(5), "x")
        refused = await send(here, there, msgspec.structs.replace(late, copy=2))
        assert isinstance(refused, wire.Refused)
        await there.dispatch(account, id, Deposit(9))
        assert isinstance(await send(here, there, late), wire.NotHere)
        assert await there.state(account, id) == Account(9, 1)


async def test_a_copy_that_is_meant_for_another_owner_is_not_run(store: str, cluster: str) -> None:
    async with nodes(store, cluster) as (here, there):
        (id,) = ids_of(there)
        request = copy_for(there, id, Deposit(1), "x")
        for revision in (0, request.revision - 1, request.revision + 10_000):
            stray = msgspec.structs.replace(request, revision=revision)
            assert isinstance(await send(here, there, stray), wire.NotHere)
        assert await there.state(account, id) == Account()


async def test_a_copy_finds_what_another_process_has_stored_of_it_however_much_came_after(
    store: str, cluster: str
) -> None:
    async with nodes(store, cluster) as (here, there):
        (id,) = ids_of(there)
        first = await send(here, there, copy_for(there, id, Deposit(1), "x"))
        await here.dispatch(account, id, Split(3_000, 3_000))
        late = await send(here, there, copy_for(there, id, Deposit(1), "x", copy=2))
        assert (late.version, late.position) == (first.version, first.position)
        assert await there.state(account, id) == Account(3_001, 3_001)


async def test_a_first_copy_that_a_clock_has_kept_too_long_finds_what_its_repeat_stored(
    store: str, cluster: str
) -> None:
    """An owner that does not know that its time is over decides on what it has in memory: the fence tells it."""
    async with nodes(store, cluster) as (here, there):
        (id,) = ids_of(there)
        await there.dispatch(account, id, Deposit(1))
        # The repeat is run elsewhere, while the owner's actor is alive and knows nothing of it.
        result = await _run_at(here, id, Deposit(2), "x")
        assert result.version == 2
        late = await send(here, there, copy_for(there, id, Deposit(2), "x"))
        assert late.version == 2
        assert await there.state(account, id) == Account(3, 2)


async def _run_at(runtime: Runtime, id: str, command: Command, command_id: str) -> Any:
    """Have an actor of this node run it, whoever owns it."""
    pending = Pending(command, command_id, 5.0, is_given=True, caused_at=0)
    return await runtime.manager.deliver(runtime.blueprints[account.name], id, pending)


async def test_a_node_that_speaks_another_version_is_told_so(store: str, cluster: str) -> None:
    async with nodes(store, cluster) as (here, there):
        (id,) = ids_of(there)
        answer = await send(here, there, copy_for(there, id, Deposit(1), "x", wire=99))
        assert isinstance(answer, wire.Failed)
        assert answer.names[0] == "ConfigurationError"
        assert b"version 1 of the cluster's protocol, and was asked in version 99" in answer.content
        await settle()
        assert await there.state(account, id) == Account()


async def test_metadata_of_routed_commands_holds_their_ids(store: str, cluster: str) -> None:
    async with nodes(store, cluster) as (here, there):
        (id,) = ids_of(there)
        result = await here.dispatch(account, id, Deposit(1))
        assert result.events == (Deposited(1),)
        (event,) = [event async for event in here.events(account, id)]
        assert len(event.metadata.command_id) == 32


async def test_a_caller_who_repeats_a_refused_command_under_its_id_is_answered_anew(
    store: str, cluster: str
) -> None:
    async with nodes(store, cluster) as (here, there):
        (id,) = ids_of(there)
        for _ in range(2):
            with pytest.raises(InsufficientFunds):
                await here.dispatch(account, id, Withdraw(5), command_id="mine")
        await here.dispatch(account, id, Deposit(9))
        assert (await here.dispatch(account, id, Withdraw(5), command_id="mine")).version == 2
        assert await here.state(account, id) == Account(4, 2)


async def test_a_refusal_is_not_told_where_a_copy_was_stored_after_it_and_never_answered(
    store: str, cluster: str
) -> None:
    """The owner seems silent, so the command is run here and refused; the owner runs it later, stores it, and is gone."""
    async with nodes(store, cluster) as (here, there):
        (id,) = ids_of(there)
        owner = placement(there).membership.node
        held: list[Callable[[], None]] = []
        call, tell = placement(here).connection.call, placement(there).connection.tell

        def late_call(*arguments: Any, **named: Any) -> None:
            held.append(lambda: call(*arguments, **named))

        placement(here).connection.call = late_call  # type: ignore[method-assign]
        withdrawal = here.dispatch_nowait(account, id, Withdraw(1))
        placement(here).connection.call = call  # type: ignore[method-assign]
        asking = placement(here).asking
        asking._fell_silent(owner)  # pyright: ignore[reportPrivateUsage]
        (ask,) = asking._asks  # pyright: ignore[reportPrivateUsage]
        await until(lambda: ask.held is not None)
        await there.dispatch(account, id, Deposit(5))
        placement(there).connection.tell = lambda *_, **__: None  # type: ignore[method-assign]
        held[0]()
        await until(lambda: there.statistics().dispatched == 2)
        assert not withdrawal.done()
        asking.gone({owner})
        assert (await withdrawal).version == 2
        placement(there).connection.tell = tell  # type: ignore[method-assign]
        assert await here.state(account, id) == Account(4, 2)
