"""In which turn of the event loop a group goes out: with all that has come by then, and not in a later one than it must."""

import asyncio
from collections.abc import Callable

import pytest

from tests.store.groups_by_hand import Disk, Waiter, turn


async def test_an_idle_store_may_be_begun_with_in_its_own_way() -> None:
    begun: list[Callable[[], None]] = []
    disk = Disk(begin=begun.append)
    disk.submit("a")
    disk.submit("b")
    await turn()
    assert disk.sent == []
    (go_on,) = begun
    go_on()
    assert disk.streams() == [["a", "b"]]
    disk.submit("c")
    disk.complete()
    disk.complete()
    assert disk.streams() == [["a", "b"], ["c"]]
    assert len(begun) == 2
    begun[1]()
    disk.submit("d")
    assert len(begun) == 3
    begun[2]()
    assert disk.streams() == [["a", "b"], ["c"], ["d"]]


@pytest.mark.parametrize("gathers", [False, True])
async def test_what_is_submitted_in_the_turn_after_a_group_goes_out_in_that_turn(gathers: bool) -> None:
    disk = Disk(gathers=gathers)
    loop = asyncio.get_running_loop()
    disk.submit("a", Waiter(lambda: loop.call_soon(disk.submit, "b")))
    await turn()
    disk.complete()
    assert disk.streams() == [["a"]]
    await turn()
    assert disk.streams() == [["a"], ["b"]]


async def test_an_idle_store_can_be_closed_in_the_turn_after_its_last_group() -> None:
    disk = Disk()
    disk.submit("a")
    await turn()
    disk.complete()
    await disk.groups.close()
    assert disk.streams() == [["a"]]


async def test_where_no_turn_can_be_had_the_next_append_asks_for_one() -> None:
    begun: list[Callable[[], None]] = []
    is_full = False

    def begin(go_on: Callable[[], None]) -> None:
        if is_full:
            raise RecursionError
        begun.append(go_on)

    disk = Disk(begin=begin)
    disk.submit("a")
    begun[0]()
    is_full = True
    with pytest.raises(RecursionError):
        disk.complete()
    is_full = False
    disk.submit("b")
    begun[1]()
    assert disk.streams() == [["a"], ["b"]]


@pytest.mark.parametrize("gathers", [False, True])
async def test_a_store_that_is_being_closed_needs_no_further_turn(gathers: bool) -> None:
    begun: list[Callable[[], None]] = []
    disk = Disk(begin=begun.append, gathers=gathers)
    disk.submit("a")
    begun[0]()
    behind = disk.submit("b")
    closing = asyncio.ensure_future(disk.groups.close())
    await turn()
    disk.complete()
    assert disk.streams() == [["a"], ["b"]]
    disk.complete()
    await closing
    assert len(behind.outcomes) == len(begun) == 1


async def test_an_idle_store_waits_for_the_end_of_the_turn_again() -> None:
    disk = Disk()
    disk.submit("a")
    await turn()
    disk.complete()
    disk.submit("b")
    assert disk.streams() == [["a"]]
    await turn()
    assert disk.streams() == [["a"], ["b"]]


@pytest.mark.parametrize(
    ("gathers", "sent"), [(False, [["a"], ["b"], ["a again"]]), (True, [["a"], ["b", "a again"]])]
)
async def test_after_a_commit_the_next_group_goes_out_at_once_or_waits_for_those_whom_it_has_woken(
    gathers: bool, sent: list[list[str]]
) -> None:
    """A caller that is woken runs in the next turn, and two halves of the callers would take turns for ever."""
    disk = Disk(gathers=gathers)
    loop = asyncio.get_running_loop()
    disk.submit("a", Waiter(lambda: loop.call_soon(disk.submit, "a again")))
    await turn()
    disk.submit("b")
    disk.complete()
    await turn()
    if not gathers:
        disk.complete()
        await turn()
    assert disk.streams() == sent
    disk.complete()
    await disk.groups.close()
