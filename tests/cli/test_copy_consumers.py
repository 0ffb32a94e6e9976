"""Checkpoints and views on their way: at the same event, all or nothing, and never over somebody who runs there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from rehydrate.cli.moving.consumers import MAX_TRIES, ConsumerCopy, NotCopied
from rehydrate.cli.moving.copy import copy_store
from rehydrate.cli.moving.copying import PROBE, EventCopy
from rehydrate.store.port import (
    PAGE_SIZE,
    Checkpoint,
    Head,
    LogFilter,
    LogPage,
    Store,
    StoredEvent,
    StreamPage,
    ViewChange,
)
from rehydrate.testing.conformance.material import log_events
from tests.cli.conftest import NewUrl
from tests.cli.moving import by_command, event_of, fill, opened, place, views_of
from tests.cli.terminal import BANK, as_input, deposit, process, withdraw
from tests.stand_ins import Exchangeable

P = TypeVar("P", LogPage, StreamPage)


@pytest.fixture
async def stores(new_url: NewUrl) -> AsyncIterator[tuple[Store, Store]]:
    """A store in memory with events, and an empty one."""
    async with opened(new_url("memory"), new_url("memory")) as (source, destination):
        await fill(source, 30)
        yield source, destination


async def copied(source: Store, destination: Store) -> ConsumerCopy:
    """Copy the events, and then the consumers."""
    events = EventCopy(source, destination)
    await events.begin()
    await events.catch_up()
    consumers = ConsumerCopy(source, destination, events.reach)
    await consumers.execute(lambda done, total: None)
    return consumers


async def at(store: Store, number: int) -> StoredEvent:
    return (await log_events(store))[number - 1]


# ---- where it stands


async def test_a_consumer_that_has_read_nothing_stands_at_the_beginning(stores: tuple[Store, Store]) -> None:
    source, destination = stores
    begun = Checkpoint(name="begun", position=0, event_id="", epoch=4, data=b"x")
    await source.save_checkpoint(begun, previous=None, views=[ViewChange("k", b"v")])
    result = await copied(source, destination)
    assert result.copied == {"begun": 1}
    assert await destination.load_checkpoint("begun") == begun
    assert await views_of(destination, "begun") == {"k": b"v"}


async def test_a_consumer_stands_at_the_same_event_where_positions_differ(
    stores: tuple[Store, Store],
) -> None:
    behind, destination = stores
    source = Stretched(behind).as_store
    event = await at(source, 17)
    assert event.position == 170
    await place(source, "balances", event)
    result = await copied(source, destination)
    assert result.not_copied == []
    there = await destination.load_checkpoint("balances")
    assert there is not None
    assert (there.position, there.event_id) == (17, event.id)


class Stretched(Exchangeable):
    """A store whose positions have gaps, as those of a store may have that stores events in envelopes."""

    async def read_all(
        self, *, after: int = 0, limit: int = PAGE_SIZE, where: LogFilter | None = None
    ) -> LogPage:
        page = await self.behind.read_all(after=after // 10, limit=limit, where=where)
        return msgspec.structs.replace(_stretched(page), position=page.position * 10)

    async def read_stream(self, stream: str, **asked: Any) -> StreamPage:
        return _stretched(await self.behind.read_stream(stream, **asked))

    async def head(self) -> Head:
        head = await self.behind.head()
        return Head(head.position * 10, head.event_id)


def _stretched(page: P) -> P:
    events = [msgspec.structs.replace(event, position=event.position * 10) for event in page.events]
    return msgspec.structs.replace(page, events=events)


async def test_a_consumer_that_stands_beyond_what_was_copied_takes_the_events_along(
    stores: tuple[Store, Store],
) -> None:
    source, destination = stores
    events = EventCopy(source, destination)
    await events.begin()
    await events.catch_up()
    await source.append("late-1", by_command("late", 3), expected_version=0)
    log = await log_events(source)
    await place(source, "ahead", log[-2])
    consumers = ConsumerCopy(source, destination, events.reach)
    await consumers.execute(lambda done, total: None)
    there = await destination.load_checkpoint("ahead")
    assert there is not None
    assert there.event_id == "late.1"
    assert [event.id for event in await log_events(destination)] == [event.id for event in log]
    assert events.compared.events == len(log), "these were compared as well"


async def test_a_checkpoint_of_another_log_is_reported_and_the_others_are_copied(
    stores: tuple[Store, Store],
) -> None:
    source, destination = stores
    event = await at(source, 5)
    await place(source, "fine", event)
    await place(source, "lost", msgspec.structs.replace(event, id="gone"), views=[("k", b"v")])
    await place(source, "beyond", msgspec.structs.replace(event, position=1_000))
    result = await copied(source, destination)
    assert result.copied == {"fine": 0}
    assert [each.name for each in result.not_copied] == ["beyond", "lost"]
    assert all("does not hold its event" in each.why and not each.may_pass for each in result.not_copied)
    assert [each.name for each in await destination.list_checkpoints()] == ["fine"]
    assert await views_of(destination, "lost") == {}


# ---- again, and when somebody runs it in the destination


async def test_a_consumer_that_went_on_goes_on_in_the_copy_with_its_views_as_they_are_now(
    stores: tuple[Store, Store],
) -> None:
    source, destination = stores
    many = [(f"k{n:04}", b"%d" % n) for n in range(2_500)]
    await place(source, "balances", await at(source, 3), views=many)
    await copied(source, destination)
    await place(source, "balances", await at(source, 9), epoch=2, views=[("k0001", None), ("k0002", b"new")])
    result = await copied(source, destination)
    assert result.copied == {"balances": 2_499}
    there = await destination.load_checkpoint("balances")
    assert there is not None
    assert (there.epoch, await event_of(destination, there)) == (
        2,
        await event_of(source, await loaded(source, "balances")),
    )
    views = await views_of(destination, "balances")
    assert views == await views_of(source, "balances")
    assert "k0001" not in views
    assert views["k0002"] == b"new"


async def loaded(store: Store, name: str) -> Checkpoint:
    there = await store.load_checkpoint(name)
    assert there is not None
    return there


async def test_views_that_changed_without_a_move_are_copied_too(stores: tuple[Store, Store]) -> None:
    source, destination = stores
    event = await at(source, 3)
    await place(source, "run:import", event, views=[("progress", b"1")])
    await copied(source, destination)
    await place(source, "run:import", event, views=[("progress", b"2")])
    assert (await copied(source, destination)).copied == {"run:import": 1}
    assert await views_of(destination, "run:import") == {"progress": b"2"}
    assert (await copied(source, destination)).copied == {}


async def test_a_consumer_that_somebody_runs_in_the_destination_is_left_alone(
    stores: tuple[Store, Store],
) -> None:
    source, destination = stores
    await place(source, "balances", await at(source, 3), views=[("k", b"old")])
    await copied(source, destination)
    theirs = await place(destination, "balances", await at(destination, 5), epoch=2, views=[("k", b"theirs")])
    await place(source, "balances", await at(source, 9), views=[("k", b"mine")])
    result = await copied(source, destination)
    ((name, why, may_pass),) = result.not_copied
    assert (name, may_pass) == ("balances", False)
    assert why.startswith("somebody runs it in the destination: its epoch there is 2, and 1 in the source")
    assert await destination.load_checkpoint("balances") == theirs
    assert await views_of(destination, "balances") == {"k": b"theirs"}


async def test_a_consumer_with_more_views_than_the_destination_saves_as_one_stays_behind(
    new_url: NewUrl,
) -> None:
    async with opened(new_url("memory"), new_url("nats")) as (source, destination):
        await fill(source, 5)
        most = destination.capabilities.max_view_changes
        views = [(f"view {n}", b"") for n in range(most + 1)]
        await place(source, "balances", await at(source, 3), views=views)
        await place(source, "others", await at(source, 3), views=views[:most])
        result = await copied(source, destination)
        assert result.copied == {"others": most}
        ((name, why, may_pass),) = result.not_copied
        assert (name, may_pass) == ("balances", False)
        assert why.startswith("1,000 of its views differ, and nats://")
        assert await destination.load_checkpoint("balances") is None


async def test_a_consumer_that_was_reset_in_the_source_is_not_moved_back(
    stores: tuple[Store, Store],
) -> None:
    source, destination = stores
    await place(source, "balances", await at(source, 9), views=[("k", b"old")])
    await copied(source, destination)
    there = await destination.load_checkpoint("balances")
    await source.reset_checkpoint("balances")
    result = await copied(source, destination)
    ((_, why, may_pass),) = result.not_copied
    assert not may_pass
    assert "further in the destination, at position 9" in why
    assert await destination.load_checkpoint("balances") == there
    assert await views_of(destination, "balances") == {"k": b"old"}


async def test_what_must_be_put_right_first_keeps_the_source_from_being_sealed(
    new_url: NewUrl, capsys: pytest.CaptureFixture[str]
) -> None:
    urls = new_url("memory"), new_url("memory")
    async with opened(*urls) as (source, destination):
        await fill(source, 5)
        await place(source, "lo\x1bst", msgspec.structs.replace(await at(source, 2), id="gone"))
        assert await copy_store(*urls, seal=True) == 1
        said = capsys.readouterr().err
        assert "checkpoint 'lo\\x1bst' was not copied" in said
        assert "is not sealed" in said
        await source.append("late-1", by_command("late", 1), expected_version=0)
        await source.remove_checkpoint("lo\x1bst")
        assert await copy_store(*urls, seal=True) == 0
        assert (await destination.head()).event_id == "late.0"


# ---- a consumer that runs on


class Moving(Exchangeable):
    """A store in which a consumer moves between two looks, so many times."""

    def __init__(self, behind: Store, times: int, *, moves_place: bool = True) -> None:
        super().__init__(behind)
        self.times = times
        self._moves_place = moves_place
        self._moved = 0

    async def list_views(self, name: str, **asked: Any) -> list[tuple[str, bytes]]:
        found = await self.behind.list_views(name, **asked)
        if self.times > 0:
            self.times -= 1
            self._moved += 1
            there = await loaded(self.behind, name)
            event = await at(self.behind, there.position + self._moves_place)
            await place(
                self.behind,
                name,
                event,
                views=[("a", b"%d" % self._moved), ("b", b"%d" % self._moved)],
            )
        return found


@pytest.mark.parametrize("moves_place", [True, False])
async def test_a_consumer_that_moves_while_it_is_read_is_read_again(
    stores: tuple[Store, Store], moves_place: bool
) -> None:
    source, destination = stores
    await place(source, "busy", await at(source, 1), views=[("a", b"0"), ("b", b"0")])
    moving = Moving(source, 3, moves_place=moves_place)
    result = await copied(moving.as_store, destination)
    assert result.copied == {"busy": 2}
    assert await views_of(destination, "busy") == {"a": b"3", "b": b"3"}
    assert (await loaded(destination, "busy")).position == 1 + 3 * moves_place


async def test_a_consumer_that_never_stands_still_is_reported_and_copied_by_the_next_call(
    stores: tuple[Store, Store],
) -> None:
    source, destination = stores
    await place(source, "busy", await at(source, 1), views=[("a", b"0"), ("b", b"0")])
    result = await copied(Moving(source, 10 * MAX_TRIES, moves_place=False).as_store, destination)
    assert result.not_copied == [
        NotCopied("busy", "it moved each time while its views were read", may_pass=True)
    ]
    assert await destination.list_checkpoints() == []
    assert (await copied(source, destination)).copied == {"busy": 2}


class TakenOver(Exchangeable):
    """A store in which somebody takes a consumer over before it can be saved."""

    async def save_checkpoint(self, checkpoint: Checkpoint, **asked: Any) -> bool:
        theirs = msgspec.structs.replace(checkpoint, epoch=checkpoint.epoch + 7)
        await self.behind.save_checkpoint(theirs, previous=await self.behind.load_checkpoint(checkpoint.name))
        return await self.behind.save_checkpoint(checkpoint, **asked)


async def test_a_consumer_that_is_taken_over_in_the_destination_meanwhile_is_left_to_whoever_did(
    stores: tuple[Store, Store],
) -> None:
    source, destination = stores
    await place(source, "balances", await at(source, 3), views=[("k", b"v")])
    result = await copied(source, TakenOver(destination).as_store)
    ((_, why, _),) = result.not_copied
    assert why.startswith("somebody else moved it in memory://")
    assert (await loaded(destination, "balances")).epoch == 8
    assert await views_of(destination, "balances") == {}


async def test_the_mark_of_a_call_that_was_killed_is_not_copied(stores: tuple[Store, Store]) -> None:
    source, destination = stores
    await source.save_checkpoint(Checkpoint(name=PROBE, position=0, event_id="", epoch=1), previous=None)
    assert (await copied(source, destination)).seen == set()
    assert await destination.list_checkpoints() == []


# ---- runs from the command line


def test_a_named_run_goes_on_in_the_destination(tmp_path: Path) -> None:
    source, destination = f"sqlite:///{tmp_path}/a.db", f"sqlite:///{tmp_path}/b.db"
    lines = [withdraw(f"a{n % 3}", 200) if n % 5 == 0 else deposit(f"a{n % 3}", n) for n in range(1, 101)]
    first = process("run", BANK, "--store", source, "--run", "import", stdin=as_input(lines[:60]))
    assert first.code == 0
    moved = process("copy", source, destination, "--seal")
    assert moved.code == 0
    assert "1 checkpoint copied" in moved.stderr
    rest = process("run", BANK, "--store", destination, "--run", "import", stdin=as_input(lines))
    assert rest.code == 0
    assert [answer["line"] for answer in rest.answers] == list(range(61, 101))
    whole = f"sqlite:///{tmp_path}/whole.db"
    process("run", BANK, "--store", whole, "--run", "import", stdin=as_input(lines))
    for id in ("a0", "a1", "a2"):
        moved_on, in_one_go = [
            [
                (event["type"], event["data"], event["metadata"]["command_id"])
                for event in process("events", f"bank_account-{id}", "--store", store).answers
            ]
            for store in (destination, whole)
        ]
        assert moved_on == in_one_go
    refused = process("run", BANK, "--store", source, stdin=as_input([deposit("late", 1)] * 200))
    assert refused.code == 1
    assert "is sealed and takes no more events: use the store that it was moved to" in refused.stderr
    assert len(refused.answers) == 1, "the next line would fare no better"
