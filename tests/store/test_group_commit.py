"""Appends are coalesced into groups, and every waiter hears its outcome once."""

import asyncio
import logging
import random
from functools import partial

import pytest

from rehydrate.errors import StoreClosedError, StoreError, StoreUnavailableError
from rehydrate.store.group_commit import MAX_TURN_APPENDS, Group
from rehydrate.store.port import Appended
from tests.store.groups_by_hand import Disk, Waiter, turn


async def test_appends_of_one_turn_share_a_group() -> None:
    disk = Disk()
    a, b = disk.submit("a"), disk.submit("b")
    assert disk.sent == []
    await turn()
    assert disk.streams() == [["a", "b"]]
    assert a.outcomes == b.outcomes == []
    disk.complete()
    assert a.outcomes == [Appended(1, 1)]
    assert b.outcomes == [Appended(1, 2)]


async def test_one_group_is_under_way_at_a_time_and_the_next_one_collects() -> None:
    disk = Disk()
    disk.submit("a")
    await turn()
    disk.submit("b")
    disk.submit("c")
    await turn()
    assert disk.streams() == [["a"]]
    disk.complete()
    assert disk.streams() == [["a"], ["b", "c"]]


async def test_what_a_completion_submits_goes_out_before_anybody_else_has_a_turn() -> None:
    disk = Disk()
    disk.submit("a", Waiter(lambda: disk.submit("a")))
    disk.submit("b", Waiter(lambda: disk.submit("b")))
    await turn()
    disk.complete()
    assert disk.streams() == [["a", "b"], ["a", "b"]]


async def test_a_group_holds_one_append_of_a_stream_and_the_next_ones_keep_their_order() -> None:
    disk = Disk()
    first, second, third = disk.submit("a"), disk.submit("a"), disk.submit("a")
    disk.submit("b")
    await turn()
    assert disk.streams() == [["a", "b"]]
    disk.complete()
    fourth = disk.submit("a")
    disk.complete()
    disk.complete()
    disk.complete()
    assert disk.streams() == [["a", "b"], ["a"], ["a"], ["a"]]
    assert [waiter.outcomes[0] for waiter in (first, second, third, fourth)] == [
        Appended(1, 1),
        Appended(1, 3),
        Appended(1, 4),
        Appended(1, 5),
    ]


async def test_a_group_is_bounded_in_appends() -> None:
    disk = Disk(max_appends=2)
    for stream in "abcde":
        disk.submit(stream)
    await turn()
    disk.complete()
    disk.complete()
    assert disk.streams() == [["a", "b"], ["c", "d"], ["e"]]


async def test_a_group_is_bounded_in_bytes_and_one_append_always_fits() -> None:
    disk = Disk(max_bytes=10)
    disk.submit("a", size=6)
    disk.submit("b", size=4)
    disk.submit("c", size=1)
    disk.submit("d", size=99)
    disk.submit("e", size=9)
    disk.submit("e", size=9)
    await turn()
    for _ in range(4):
        disk.complete()
    assert disk.streams() == [["a", "b"], ["c"], ["d"], ["e"], ["e"]]


async def test_a_turn_delivers_for_a_millisecond_and_the_rest_later() -> None:
    disk = Disk()

    def work() -> None:
        disk.now += 0.0006

    waiters = [disk.submit(stream, Waiter(work)) for stream in "abcde"]
    await turn()
    disk.complete()
    disk.submit("f")
    assert [len(waiter.outcomes) for waiter in waiters] == [1, 1, 0, 0, 0]
    await turn()
    assert [len(waiter.outcomes) for waiter in waiters] == [1, 1, 1, 1, 0]
    assert disk.streams() == [list("abcde")], "the next group waits until everybody has heard"
    await turn()
    assert [len(waiter.outcomes) for waiter in waiters] == [1, 1, 1, 1, 1]
    assert disk.streams() == [list("abcde"), ["f"]]


async def test_a_turn_delivers_so_many_and_the_rest_later() -> None:
    disk = Disk()
    waiters = [disk.submit(f"{number}") for number in range(MAX_TURN_APPENDS + 2)]
    await turn()
    disk.complete()
    assert sum(len(waiter.outcomes) for waiter in waiters) == MAX_TURN_APPENDS
    await turn()
    assert [len(waiter.outcomes) for waiter in waiters] == [1] * len(waiters)


async def test_while_a_group_is_under_way_what_the_next_one_begins_with_may_be_made_ready() -> None:
    shown: list[list[str]] = []
    disk = Disk(
        make_ready=lambda appends: shown.append([append.stream for append in appends]),
        split_from=4,
    )
    for stream in "abcd":
        disk.submit(stream, Waiter(partial(disk.submit, stream)))
    await turn()
    await turn()
    assert shown == [["c", "d"]], "the other half"
    disk.complete()
    await turn()
    assert disk.streams() == [["a", "b"], ["c", "d"]]
    await turn()
    assert shown[1:] == [["a", "b"]], "what was submitted by those who were told"


@pytest.mark.parametrize(("more", "ready"), [("d", ["d"]), ("defg", []), ("", [])])
async def test_what_does_not_go_into_one_group_is_not_made_ready(more: str, ready: list[str]) -> None:
    shown: list[list[str]] = []
    disk = Disk(make_ready=lambda appends: shown.append([append.stream for append in appends]), max_appends=3)
    for stream in "abc":
        disk.submit(stream)
    await turn()
    disk.submit("x")
    disk.complete()
    for stream in more:
        disk.submit(stream)
    await turn()
    assert disk.streams() == [["a", "b", "c"], ["x"]]
    assert shown == ([ready] if ready else [])


async def test_what_is_sent_alone_is_not_made_ready() -> None:
    shown: list[Group] = []
    disk = Disk(make_ready=shown.append)
    for stream in "abc":
        disk.submit(stream)
    await turn()
    disk.groups.failed(disk.sent[-1], StoreError("one of them cannot be stored"))
    disk.submit("d")
    await turn()
    assert disk.streams() == [["a", "b", "c"], ["a"]]
    assert shown == []


async def test_a_failed_group_is_repeated_one_append_at_a_time_and_the_error_meets_its_owner() -> None:
    disk = Disk()
    a, bad, c = disk.submit("a"), disk.submit("bad"), disk.submit("c")
    await turn()
    disk.submit("d")
    disk.groups.failed(disk.sent[-1], StoreUnavailableError("a group", retryable=False))
    assert a.outcomes == bad.outcomes == c.outcomes == []
    disk.complete()
    error = StoreUnavailableError("bad", retryable=False)
    disk.groups.failed(disk.sent[-1], error)
    disk.complete()
    assert disk.streams() == [["a", "bad", "c"], ["a"], ["bad"], ["c"], ["d"]]
    assert (a.outcomes, bad.outcomes, c.outcomes) == ([Appended(1, 1)], [error], [Appended(1, 2)])


async def test_a_waiter_that_fails_is_logged_and_takes_nobody_with_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail() -> None:
        raise RuntimeError("no ears")

    disk = Disk()
    disk.submit("deaf", Waiter(fail))
    other = disk.submit("other")
    await turn()
    disk.submit("next")
    with caplog.at_level(logging.ERROR):
        disk.complete()
    assert other.outcomes == [Appended(1, 2)]
    assert disk.streams() == [["deaf", "other"], ["next"]]
    assert "deaf" in caplog.text
    assert "no ears" in caplog.text


async def test_a_waiter_that_stops_the_loop_does_not_take_away_the_outcomes_of_others() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    disk = Disk()
    disk.submit("stop", Waiter(stop))
    other = disk.submit("other")
    await turn()
    with pytest.raises(KeyboardInterrupt):
        disk.complete()
    assert other.outcomes == []
    await turn()
    assert other.outcomes == [Appended(1, 2)]


async def test_closing_flushes_what_was_taken_and_refuses_what_comes_after() -> None:
    disk = Disk()
    refused: list[StoreError | None] = []

    def too_late() -> None:
        refused.append(disk.groups.submit("late", (), 0, Waiter()))

    first, second = disk.submit("a", Waiter(too_late)), disk.submit("a")
    closing = asyncio.create_task(disk.groups.close())
    again = asyncio.create_task(disk.groups.close())
    await turn()
    assert isinstance(disk.groups.submit("b", (), 0, Waiter()), StoreClosedError)
    disk.complete()
    await turn()
    assert not closing.done()
    disk.complete()
    await closing
    await again
    await disk.groups.close()
    assert first.outcomes == [Appended(1, 1)]
    assert second.outcomes == [Appended(1, 2)]
    assert isinstance(refused[0], StoreClosedError)


async def test_a_close_that_is_cancelled_leaves_the_other_one_waiting() -> None:
    disk = Disk()
    disk.submit("a")
    await turn()
    cancelled = asyncio.create_task(disk.groups.close())
    waiting = asyncio.create_task(disk.groups.close())
    await turn()
    cancelled.cancel()
    await turn()
    assert not waiting.done()
    disk.complete()
    await waiting
    assert cancelled.cancelled()


# ---- split groups


async def test_of_many_that_wait_for_an_idle_store_half_is_sent_and_the_rest_before_these_are_told() -> None:
    disk = Disk(split_from=4)
    told: list[list[list[str]]] = []
    for stream in "abcd":
        disk.submit(stream, Waiter(lambda: told.append(disk.streams())))
    await turn()
    assert disk.streams() == [["a", "b"]]
    disk.complete()
    assert disk.streams() == [["a", "b"], ["c", "d"]]
    assert not told, "the server is not to wait until these are told"
    await turn()
    assert told == [disk.streams()] * 2
    disk.complete()
    assert len(told) == 4
    await disk.groups.close()


async def test_few_that_wait_for_an_idle_store_are_not_split() -> None:
    disk = Disk(split_from=4)
    for stream in "abc":
        disk.submit(stream)
    await turn()
    assert disk.streams() == [["a", "b", "c"]]
    disk.submit("d")
    disk.complete()
    assert disk.streams() == [["a", "b", "c"], ["d"]]
    await turn()
    disk.complete()
    await disk.groups.close()


async def test_what_collected_behind_a_group_is_sent_whole_while_its_outcomes_are_delivered() -> None:
    """Those who are told now will submit again, so that there is a next half without a split."""
    disk = Disk(split_from=4)
    for stream in "abcdefgh":
        disk.submit(stream, Waiter(lambda: disk.submit(f"again {len(disk.sent)}{disk.position}")))
    await turn()
    disk.complete()
    assert disk.streams() == [list("abcd"), list("efgh")]
    await turn()
    disk.complete()
    assert len(disk.streams()[2]) == 1, "one stream of those that were told meanwhile"


async def test_the_second_half_ends_as_the_first_does_if_the_store_could_not_be_reached() -> None:
    """Else a repeat of the first would come behind it, and who copies a log would have stored it in another order."""
    disk = Disk(split_from=4)
    waiters = [disk.submit(stream) for stream in "abcd"]
    await turn()
    second_of_c, later = disk.submit("c"), disk.submit("e")
    disk.groups.completed(disk.sent[-1], [StoreUnavailableError("cut", stored=None) for _ in range(2)])
    assert disk.streams() == [["a", "b"], ["e", "c"]]
    await turn()
    assert [str(waiter.outcomes) for waiter in waiters] == [str(waiters[0].outcomes)] * 4
    assert isinstance(waiters[3].outcomes[0], StoreUnavailableError)
    disk.complete()
    await turn()
    assert [second_of_c.outcomes, later.outcomes] == [[Appended(1, 2)], [Appended(1, 1)]]
    await disk.groups.close()


async def test_the_second_half_is_sent_where_only_some_of_the_first_were_refused() -> None:
    disk = Disk(split_from=4)
    for stream in "abcd":
        disk.submit(stream)
    await turn()
    disk.groups.completed(disk.sent[-1], [StoreUnavailableError("cut", stored=None), Appended(1, 1)])
    assert disk.streams() == [["a", "b"], ["c", "d"]]
    await turn()
    disk.complete()
    await disk.groups.close()


@pytest.mark.parametrize("seed", range(20))
async def test_split_or_not_everybody_hears_once_and_a_stream_keeps_its_order(seed: int) -> None:
    """Groups end while the outcomes of others are being delivered over several turns, some of them badly."""
    chance = random.Random(seed)
    disk = Disk(split_from=chance.choice((2, 5, 50)), max_appends=chance.choice((3, 1_000)), max_turn=1)
    heard: list[tuple[str, int]] = []
    sent: dict[str, int] = {}

    def submit(again: int) -> None:
        stream = chance.choice("abcdefgh")
        sent[stream] = number = sent.get(stream, 0) + 1

        def then() -> None:
            heard.append((stream, number))
            disk.now += chance.choice((0, 2))  # Sometimes this is all that fits into a turn.
            if again:
                submit(again - 1)

        disk.submit(stream, Waiter(then))

    for _ in range(30):
        submit(3)
    ended = 0
    while len(heard) < sum(sent.values()):
        for _ in range(chance.randrange(3)):
            await turn()
        assert len(disk.sent) - ended <= 1, "one group is under way at a time"
        if len(disk.sent) > ended:
            ended += 1
            group = disk.sent[-1]
            assert len({append.stream for append in group}) == len(group)
            if len(group) > 1 and chance.random() < 0.2:
                disk.groups.failed(group, StoreError("one of them"))
            else:
                disk.complete()
    await disk.groups.close()
    for stream, count in sent.items():
        assert [number for one, number in heard if one == stream] == list(range(1, count + 1))
