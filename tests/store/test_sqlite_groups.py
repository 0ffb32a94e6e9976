"""SQLite's two groups under way: who shares one, who hears when, and what becomes of the second if the first fails."""

import asyncio
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rehydrate.errors import StoreError, StoreUnavailableError
from rehydrate.store.group_commit import Group
from rehydrate.store.port import Appended, NewEvent, Store
from rehydrate.store.sqlite.groups import HALVES_FROM, TwoGroups
from rehydrate.store.url import open_store
from rehydrate.testing.clock import until
from tests.store.groups_by_hand import Waiter, turn


class Thread:
    """What the groups are sent to; a test completes them by hand, one after the other."""

    def __init__(self, *, halves_from: int = 4, max_appends: int = 1_000, max_turn: float = 1) -> None:
        self.sent: list[Group] = []
        self.ended = 0
        self.now = 0.0
        self.commit_time = 0.0
        self.groups = TwoGroups(
            self.sent.append,
            commit_time=lambda: self.commit_time,
            halves_from=halves_from,
            max_appends=max_appends,
            max_turn=max_turn,
            monotonic=lambda: self.now,
        )

    def submit(self, *streams: str) -> None:
        for stream in streams:
            self.submit_for(stream, Waiter())

    def submit_for(self, stream: str, waiter: Waiter) -> None:
        assert self.groups.submit(stream, (NewEvent("id", "T", b"", b""),), 0, waiter) is None

    def streams(self) -> list[str]:
        return ["".join(append.stream for append in group) for group in self.sent]

    def complete(self) -> None:
        group = self.sent[self.ended]
        self.ended += 1
        self.groups.completed(group, [Appended(1, n + 1) for n in range(len(group))])


async def test_many_that_wait_for_an_idle_store_are_two_groups_and_take_turns() -> None:
    thread = Thread()
    thread.submit(*"abcd")
    await turn()
    assert thread.streams() == ["ab", "cd"]
    thread.complete()
    thread.submit(*"ab")
    await turn()
    assert thread.streams() == ["ab", "cd", "ab"]
    thread.submit(*"e")
    await turn()
    assert thread.streams() == ["ab", "cd", "ab"], "two are under way"
    thread.complete()
    thread.submit(*"cd")
    await turn()
    assert thread.streams() == ["ab", "cd", "ab", "ecd"]


async def test_few_are_one_group_and_who_comes_while_it_is_under_way_waits() -> None:
    thread = Thread()
    thread.submit(*"abc")
    await turn()
    thread.submit(*"d")
    await turn()
    assert thread.streams() == ["abc"]
    thread.complete()
    thread.submit(*"a")
    await turn()
    assert thread.streams() == ["abc", "da"], "who was woken shares the group of who waited"


async def test_a_group_has_no_more_than_half_of_all_who_are_here() -> None:
    """Else one group would grow, and nothing be left to do during the commit of the other."""
    thread = Thread()
    thread.submit(*"abcdef")
    await turn()
    assert thread.streams() == ["abc", "def"]
    thread.complete()
    thread.submit(*"abcghijkl")
    await turn()
    assert thread.streams()[2:] == ["abcghi"]


async def test_where_a_commit_takes_long_it_is_one_for_all() -> None:
    """It would take as long for one half: two of them by turns would be slower than one for all."""
    thread = Thread()
    thread.commit_time = 0.005
    thread.submit(*"abcdef")
    await turn()
    thread.submit(*"gh")
    await turn()
    assert thread.streams() == ["abcdef"]
    thread.complete()
    thread.submit(*"abcdef")
    await turn()
    assert thread.streams() == ["abcdef", "ghabcdef"]


async def test_when_commits_begin_to_take_long_it_is_one_for_all_from_then_on_and_back() -> None:
    thread = Thread()
    thread.submit(*"abcd")
    await turn()
    assert thread.streams() == ["ab", "cd"]
    thread.commit_time = 0.005
    thread.complete()
    thread.submit(*"ab")
    await turn()
    assert thread.streams() == ["ab", "cd"], "no second one"
    thread.complete()
    thread.submit(*"cd")
    await turn()
    assert thread.streams() == ["ab", "cd", "abcd"]
    thread.commit_time = 0.0
    thread.complete()
    thread.submit(*"abcd")
    await turn()
    assert thread.streams() == ["ab", "cd", "abcd", "ab", "cd"]


async def test_a_close_waits_for_both() -> None:
    thread = Thread()
    thread.submit(*"abcd")
    await turn()
    closing = asyncio.create_task(thread.groups.close())
    await turn()
    thread.complete()
    await turn()
    assert not closing.done()
    thread.complete()
    await closing


@pytest.mark.parametrize("seed", range(20))
async def test_everybody_hears_once_and_a_stream_keeps_its_order(seed: int) -> None:
    """Groups end while the outcomes of others are being delivered over several turns."""
    chance = random.Random(seed)
    thread = Thread(halves_from=chance.choice((2, 5, 50)), max_appends=chance.choice((3, 1_000)))
    heard: list[tuple[str, int]] = []
    sent: dict[str, int] = {}

    def submit(again: int) -> None:
        stream = chance.choice("abcdefgh")
        sent[stream] = number = sent.get(stream, 0) + 1

        def then() -> None:
            heard.append((stream, number))
            thread.now += chance.choice((0, 2))  # Sometimes this is all that fits into a turn.
            if again and chance.random() < 0.7:
                submit(again - 1)
            elif again:
                asyncio.get_running_loop().call_soon(submit, again - 1)
            else:
                finished.append(stream)

        thread.submit_for(stream, Waiter(then))

    finished: list[str] = []
    for _ in range(30):
        submit(3)
    while len(finished) < 30:
        for _ in range(chance.randrange(4)):
            await turn()
        assert len(thread.sent) - thread.ended <= 2, "two groups are under way at most"
        if len(thread.sent) > thread.ended:
            group = thread.sent[thread.ended]
            assert len({append.stream for append in group}) == len(group)
            thread.complete()
    await thread.groups.close()
    assert sorted(heard) == sorted((stream, n + 1) for stream, count in sent.items() for n in range(count))
    for stream, count in sent.items():
        assert [number for name, number in heard if name == stream] == list(range(1, count + 1))


# ---- on a file


def submit_many(store: Store, waiters: list[Waiter], *, data: dict[int, Any] | None = None) -> None:
    for n, waiter in enumerate(waiters):
        event = NewEvent(f"{n}", "Deposited", (data or {}).get(n, b"{}"))
        assert store.submit(f"account-{n}", (event,), 0, waiter) is None


async def test_who_waits_for_the_second_group_ends_like_the_first_if_that_could_not_be_stored(
    tmp_path: Path,
) -> None:
    """Else who copies a log would have stored later events in the place of earlier ones."""
    path = tmp_path / "bank.db"
    store = await open_store(f"sqlite:///{path}?busy_timeout=0.05")
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            waiters = [Waiter() for _ in range(HALVES_FROM)]
            # The lock is free as soon as the first has heard: the second group could be stored.
            waiters[0] = Waiter(lambda: other.execute("ROLLBACK"))
            submit_many(store, waiters)
            await until(lambda: all(waiter.outcomes for waiter in waiters))
        for waiter in waiters:
            (outcome,) = waiter.outcomes
            assert isinstance(outcome, StoreUnavailableError)
            assert outcome.stored is False
        assert (await store.head()).position == 0
        again = [Waiter() for _ in waiters]
        submit_many(store, again)
        await until(lambda: all(waiter.outcomes for waiter in again))
        assert [waiter.outcomes for waiter in again] == [[Appended(1, n + 1)] for n in range(len(again))]
    finally:
        await store.close()


async def test_what_cannot_be_stored_meets_its_owner_and_the_others_keep_their_order(tmp_path: Path) -> None:
    store = await open_store(f"sqlite:///{tmp_path}/bank.db")
    try:
        waiters = [Waiter() for _ in range(HALVES_FROM)]
        submit_many(store, waiters, data={3: Strange()})
        await until(lambda: all(waiter.outcomes for waiter in waiters))
        outcomes = [waiter.outcomes[0] for waiter in waiters]
        assert type(outcomes.pop(3)) is StoreError
        assert outcomes == [Appended(1, n + 1) for n in range(len(outcomes))]
    finally:
        await store.close()


class Strange:
    """Data that SQLite does not know."""

    def __len__(self) -> int:
        return 0


async def test_who_is_committed_hears_so_while_the_next_group_waits_for_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "bank.db"
    store = await open_store(f"sqlite:///{path}")
    try:
        with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
            writer, groups = vars(store)["_writer"], vars(store)["_groups"]

            def send(group: Group) -> None:
                writer.send(group)
                if group[0].stream == "account-0":
                    # Between the two groups somebody else takes the lock.
                    writer._jobs.put(lambda: other.execute("BEGIN IMMEDIATE"))

            vars(groups)["_send"] = send
            waiters = [Waiter() for _ in range(HALVES_FROM)]
            submit_many(store, waiters)
            await until(lambda: bool(waiters[HALVES_FROM // 2 - 1].outcomes))
            assert waiters[-1].outcomes == []
            other.execute("ROLLBACK")
            await until(lambda: bool(waiters[-1].outcomes))
        assert waiters[-1].outcomes == [Appended(1, HALVES_FROM)]
    finally:
        await store.close()
