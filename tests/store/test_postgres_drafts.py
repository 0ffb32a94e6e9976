"""The next group is made ready while the one before it is written, and counts only if that one was stored."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Self

import asyncpg
import pytest

from rehydrate.errors import StoreError, VersionConflictError
from rehydrate.store.group_commit import Group
from rehydrate.store.port import Appended, NewEvent
from rehydrate.store.postgres.draft import Draft
from rehydrate.store.postgres.store import PostgresStore
from rehydrate.store.postgres.writer import Writer
from rehydrate.store.url import open_store
from rehydrate.testing.clock import until
from rehydrate.testing.conformance.material import event, fill, ids, sound_log

MANY = 64
"""Half of them are a group, and the others wait for it."""
INSERT = "INSERT INTO rehydrate.events VALUES (4, $1, 1, 'x', 'T', '', '', 0, 4)"


class Waiter:
    def __init__(self) -> None:
        self.outcome: asyncio.Future[Appended | StoreError] = asyncio.get_running_loop().create_future()

    def append_done(self, outcome: Appended | StoreError) -> None:
        self.outcome.set_result(outcome)


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many appends were there to be made ready, each time."""
    counts: list[int] = []
    make_ready = Writer.make_ready

    def count(writer: Writer, appends: Group) -> None:
        make_ready(writer, appends)
        counts.append(len(appends))

    monkeypatch.setattr(Writer, "make_ready", count)
    return counts


@pytest.fixture
async def store(postgres_url: str, ready: list[int]) -> AsyncIterator[PostgresStore]:
    store = await open_store(postgres_url)
    assert isinstance(store, PostgresStore)
    await fill(store, "account-1", 3)
    ready.clear()
    yield store
    await store.close()


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Draft]:
    """Every draft that was begun."""
    drafts: list[Draft] = []

    def begin(*args: Any) -> Draft:
        drafts.append(Draft(*args))
        return drafts[-1]

    monkeypatch.setattr("rehydrate.store.postgres.writer.Draft", begin)
    return drafts


async def test_what_is_ready_is_sent_as_it_is(
    store: PostgresStore,
    stranger: "asyncpg.Connection[asyncpg.Record]",
    ready: list[int],
    begun: list[Draft],
) -> None:
    async with Held(store, stranger, "another-1", ready) as held:
        await held.transaction.rollback()
    assert held.outcomes[:MANY] == [Appended(1, 4 + n) for n in range(MANY)]
    assert held.outcomes[MANY] == Appended(2, 4 + MANY)
    assert ids(await sound_log(store))[3:] == ids(held.events)
    assert len(begun) == 2, "one for each half"
    assert ready == [MANY // 2 + 1]


async def test_where_somebody_else_was_first_nothing_of_what_is_ready_is_used(
    store: PostgresStore, stranger: "asyncpg.Connection[asyncpg.Record]", ready: list[int]
) -> None:
    async with Held(store, stranger, "another-1", ready) as held:
        await held.transaction.commit()
    assert held.outcomes == [*(Appended(1, 5 + n) for n in range(MANY)), Appended(2, 5 + MANY)]
    assert ids(await sound_log(store))[3:] == ["x", *ids(held.events)]


async def test_where_a_stream_does_not_end_as_was_thought_who_comes_behind_meets_a_conflict(
    store: PostgresStore, stranger: "asyncpg.Connection[asyncpg.Record]", ready: list[int]
) -> None:
    async with Held(store, stranger, "many-0", ready) as held:
        await held.transaction.commit()
    assert held.outcomes[1:MANY] == [Appended(1, 5 + n) for n in range(MANY - 1)]
    conflicts = [held.outcomes[0], held.outcomes[MANY]]
    assert [type(conflict) for conflict in conflicts] == [VersionConflictError, VersionConflictError]
    assert ids(await sound_log(store))[3:] == ["x", *ids(held.events[1:MANY])]


async def test_of_what_cannot_be_made_ready_its_owner_hears_and_no_other(
    store: PostgresStore, stranger: "asyncpg.Connection[asyncpg.Record]", ready: list[int]
) -> None:
    async with Held(store, stranger, "another-1", ready, last=NewEvent("\ud800", "T", b"")) as held:
        await held.transaction.rollback()
    *others, refused = held.outcomes
    assert others == [Appended(1, 4 + n) for n in range(MANY)]
    assert type(refused) is StoreError
    assert "cannot be stored" in str(refused)
    assert ids(await sound_log(store))[3:] == ids(held.events[:MANY])


async def test_what_comes_after_a_look_is_added_to_what_is_ready(
    store: PostgresStore,
    stranger: "asyncpg.Connection[asyncpg.Record]",
    ready: list[int],
    begun: list[Draft],
) -> None:
    async with Held(store, stranger, "another-1", ready) as held:
        late = [event() for _ in range(3)]
        for number, new in enumerate(late):
            held.submit(f"late-{number}", new, 0)
        await held.transaction.rollback()
    assert held.outcomes[MANY:] == [
        Appended(2, 4 + MANY),
        *(Appended(1, 5 + MANY + n) for n in range(3)),
    ]
    assert ids(await sound_log(store))[3:] == ids([*held.events, *late])
    assert len(begun) == 2


class Held:
    """One append to each of many streams, and one more to the first of them; a stranger's row is in the way of the first half.

    Within it, the second half has been made ready, if it could be; `outcomes` are there when it has ended.
    """

    def __init__(
        self,
        store: PostgresStore,
        stranger: "asyncpg.Connection[asyncpg.Record]",
        his_stream: str,
        ready: list[int],
        last: NewEvent | None = None,
    ) -> None:
        self._store = store
        self._stranger = stranger
        self._his_stream = his_stream
        self._ready = ready
        self._waiters: list[Waiter] = []
        self.transaction = stranger.transaction()
        self.events = [event() for _ in range(MANY)] + [last or event()]
        self.outcomes: list[Appended | StoreError] = []

    async def __aenter__(self) -> Self:
        await self.transaction.start()
        await self._stranger.execute(INSERT, self._his_stream)
        for number in range(MANY):
            self.submit(f"many-{number}", self.events[number], 0)
        self.submit("many-0", self.events[MANY], 1, self.events[0].id)
        await until(lambda: self._ready)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.outcomes = await asyncio.gather(*(waiter.outcome for waiter in self._waiters))

    def submit(self, stream: str, new: NewEvent, version: int, last_id: str = "") -> None:
        self._waiters.append(Waiter())
        assert self._store.submit(stream, (new,), version, self._waiters[-1], last_id) is None
