"""What an instance was told of is known as the log has it, in whatever order it is asked for."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from unittest import mock

import pytest

from rehydrate import EventEnvelope, Metadata, open_store
from rehydrate.runtime.answered import Answered
from rehydrate.store.port import ANY_VERSION, NewEvent, Store, StreamPage
from tests.stand_ins import Exchangeable, copy_of

STREAM = "porter-b"


class Asked:
    """A tenure of which nothing but the store is asked."""

    def __init__(self, store: Any) -> None:
        self.store = store

    async def persist(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        return await ask()


class Short:
    """A store whose pages are shorter than they are asked for, down to one event."""

    def __init__(self, store: Store, most: Callable[[], int]) -> None:
        self.events = 0
        self._store = store
        self._most = most

    async def read_stream(self, stream: str, *, after: int, limit: int) -> StreamPage:
        page = await self._store.read_stream(stream, after=after, limit=limit)
        events = page.events[: self._most()]
        self.events += len(events)
        return StreamPage(events, page.is_last and len(events) == len(page.events))


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = await open_store("memory://")
    yield store
    await store.close()


async def tell(store: Store, kind: str, id: str) -> int:
    """Store that a command was asked for, or was answered: the version of that."""
    data = {
        "Sent": b'{"number":1,"aggregate":"door","id":"d","type":"Shut","command":{}}',
        "Unchanged": f'{{"sent_id":"{id}"}}'.encode(),
        "Rejected": (
            f'{{"sent_id":"{id}","aggregate":"door","id":"d","type":"Kick","command":{{}},'
            '"rejection":"IsShut","facts":{}}'
        ).encode(),
    }[kind]
    event = NewEvent(id if kind == "Sent" else f"{kind} {id}", f"rehydrate.{kind}", data)
    return (await store.append(STREAM, [event], expected_version=ANY_VERSION)).version


def sent(id: str, version: int, stream: str = STREAM) -> EventEnvelope[Any]:
    return EventEnvelope(
        event=None,
        id=id,
        type="rehydrate.Sent",
        stream=stream,
        version=version,
        position=version,
        recorded_at=datetime.now(UTC),
        metadata=Metadata(),
    )


@pytest.mark.parametrize("seed", range(30))
async def test_it_is_known_in_whatever_order_is_asked_while_more_is_told(store: Store, seed: int) -> None:
    draw = random.Random(seed)
    asked: list[tuple[str, int]] = []
    told: set[str] = set()
    answered: Any = Answered()
    tenure = Asked(Short(store, lambda: draw.choice([1, 2, 1_000])))
    with (
        mock.patch("rehydrate.runtime.trail.TRAIL_IDS", draw.choice([5, 20, 1_000])),
        mock.patch("rehydrate.runtime.trail._HASHES", draw.choice([1, 2**40 - 1])),
    ):
        for number in range(200):
            if draw.random() < 0.6:
                asked.append((f"{number}", await tell(store, "Sent", f"{number}")))
            open_still = [id for id, _ in asked if id not in told]
            if open_still and draw.random() < 0.5:
                id = draw.choice([open_still[0], draw.choice(open_still)])
                await tell(store, draw.choice(["Unchanged", "Rejected"]), id)
                told.add(id)
            if asked and draw.random() < 0.5:
                id, version = draw.choice(asked)
                assert await answered.holds(tenure, sent(id, version)) == (id in told)
        for id, version in asked:
            assert await answered.holds(tenure, sent(id, version)) == (id in told)


async def test_one_that_was_asked_for_by_a_log_that_went_back_is_known_as_the_log_has_it_now(
    store: Store,
) -> None:
    first = await tell(store, "Sent", "first")
    second = await tell(store, "Sent", "second")
    behind = Exchangeable(store)
    answered: Any = Answered()
    tenure = Asked(behind)
    await tell(store, "Unchanged", "first")
    for n in range(5):
        await tell(store, "Sent", f"{n}")
    assert await answered.holds(tenure, sent("first", first))
    assert not await answered.holds(tenure, sent("second", second))
    behind.behind = restored = await copy_of(store, until=second)
    assert not await answered.holds(tenure, sent("first", first))
    await tell(restored, "Unchanged", "second")
    for n in range(9):
        await tell(restored, "Sent", f"other {n}")
    assert await answered.holds(tenure, sent("second", second))
    assert not await answered.holds(tenure, sent("first", first))
    await restored.close()


async def test_a_log_that_went_back_before_anything_was_read_behind_a_command_is_known_as_it_is(
    store: Store,
) -> None:
    asked = [(id, await tell(store, "Sent", id)) for id in ("first", "second", "third")]
    behind = Exchangeable(store)
    answered: Any = Answered()
    tenure = Asked(behind)
    for id, version in reversed(asked):
        assert not await answered.holds(tenure, sent(id, version))
    behind.behind = restored = await copy_of(store, until=1)
    await tell(restored, "Unchanged", "first")
    for n in range(3):
        await tell(restored, "Sent", f"other {n}")
    assert await answered.holds(tenure, sent("first", 1))
    await restored.close()


async def test_what_was_read_of_those_that_were_not_asked_of_for_the_longest_time_is_forgotten(
    store: Store,
) -> None:
    answered: Any = Answered()
    short = Short(store, lambda: 1_000)
    versions: dict[str, int] = {}
    for stream in ("a", "b", "c"):
        told = [
            NewEvent(f"{stream}{n}", "rehydrate.Unchanged", f'{{"sent_id":"{stream}{n}"}}'.encode())
            for n in range(50)
        ]
        await store.append(f"porter-{stream}", told, expected_version=0)
        versions[stream] = 0

    async def read_for(stream: str) -> int:
        short.events = 0
        assert await answered.holds(Asked(short), sent(f"{stream}49", 0, f"porter-{stream}"))
        return short.events

    with mock.patch("rehydrate.runtime.answered._INSTANCES", 2):
        assert [await read_for(stream) for stream in "aabab"] == [50, 1, 50, 1, 1]
        assert [await read_for(stream) for stream in "cbca"] == [50, 1, 1, 50]
    with mock.patch("rehydrate.runtime.answered.TRAIL_IDS", 100):
        # Of a, b and c two are as many ids as are kept.
        assert [await read_for(stream) for stream in "acbbc"] == [1, 1, 50, 1, 1]
        assert [await read_for(stream) for stream in "abc"] == [50, 50, 50]


async def test_it_is_looked_for_from_where_the_command_was_asked_for_and_no_further_than_its_answer(
    store: Store,
) -> None:
    for n in range(100):
        await tell(store, "Sent", f"{n}")
        await tell(store, "Unchanged", f"{n}")
    answered: Any = Answered()
    short = Short(store, lambda: 10)

    async def read_for(n: int) -> int:
        short.events = 0
        assert await answered.holds(Asked(short), sent(f"{n}", 2 * n + 1))
        return short.events

    assert await read_for(10) == 10
    assert [await read_for(n) for n in range(11, 15)] == [1] * 4
    # Far behind that, and far before it: what lies between is not read.
    assert await read_for(80) == 10
    assert await read_for(20) == 10
    assert await read_for(81) == 1
