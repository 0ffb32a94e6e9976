"""A repeat is recognised however far back its command is, and what was read back for one is not read for the next."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from unittest import mock

import pytest

from rehydrate import CommandResult, DuplicateCommandError, open_store
from rehydrate.runtime.limits import WINDOW_EVENTS
from rehydrate.store.port import Store
from tests.bank import Deposit, Event, Split, account, app
from tests.stand_ins import SHARED, staged


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = await open_store(SHARED)
    yield store
    await store.close()


@pytest.mark.parametrize("seed", range(40))
async def test_whatever_comes_between_a_command_is_stored_once_and_answered_with_its_first_result(
    store: Store, seed: int
) -> None:
    draw = random.Random(seed)
    first: dict[str, tuple[Split, int, CommandResult[Event]]] = {}
    window = draw.choice([4, 9])
    with (
        mock.patch("rehydrate.runtime.repeats.WINDOW_EVENTS", window),
        mock.patch("rehydrate.runtime.window.WINDOW_EVENTS", window),
        mock.patch("rehydrate.runtime.trail.TRAIL_IDS", draw.choice([5, 30, 1_000])),
        mock.patch("rehydrate.runtime.trail._PART", draw.choice([4, 1_000])),
        mock.patch("rehydrate.runtime.trail._HASHES", draw.choice([1, 2**40 - 1])),
    ):
        for _ in range(3):
            async with app.open(store) as here, app.open(store) as there:
                for _ in range(40):
                    bank = draw.choice([here, here, here, there])
                    if first and draw.random() < 0.4:
                        id = draw.choice([*first])
                        command, since, result = first[id]
                        caused_at = draw.choice([0, since])
                        again = await bank.dispatch(account, "a", command, command_id=id, caused_at=caused_at)
                        assert again == result
                        with pytest.raises(DuplicateCommandError):
                            await bank.dispatch(account, "a", Split(3, 7), command_id=id, caused_at=caused_at)
                    else:
                        id, parts = f"c{len(first)}", draw.choice([1, 1, 2, 3])
                        since = (await store.head()).position
                        caused_at = draw.choice([0, draw.randint(0, since), since])
                        command = Split(parts, parts)
                        result = await bank.dispatch(
                            account, "a", command, command_id=id, caused_at=caused_at
                        )
                        first[id] = command, since, result
                        assert len(result.events) == parts
                    if draw.random() < 0.2:
                        await bank.dispatch(account, "a", Split(2, 2))
                        await bank.dispatch(account, "b", Deposit(1))


async def test_commands_that_are_searched_for_far_back_read_it_once() -> None:
    async with staged() as stage:
        for _ in range(8):
            await stage.bank.dispatch(account, "a", Split(WINDOW_EVENTS, WINDOW_EVENTS))
        for number in range(3 * WINDOW_EVENTS):
            await stage.bank.dispatch(account, "a", Deposit(1), command_id=f"c{number}", caused_at=5)
        # The window, and what is before it: a page and a bit for each 1,024 events.
        assert stage.store.calls["read_stream"] <= 2 * 8 + 2


async def test_what_was_read_back_is_forgotten_where_nobody_asks_for_it() -> None:
    async with staged() as stage:
        for _ in range(2):
            await stage.bank.dispatch(account, "a", Split(WINDOW_EVENTS, WINDOW_EVENTS))
        await stage.bank.dispatch(account, "a", Deposit(1), command_id="one", caused_at=5)
        read = stage.store.calls["read_stream"]
        await stage.bank.dispatch(account, "a", Deposit(1), command_id="other", caused_at=5)
        assert stage.store.calls["read_stream"] == read
        for _ in range(8 * WINDOW_EVENTS):
            await stage.bank.dispatch(account, "a", Deposit(1))
        await stage.bank.dispatch(account, "a", Deposit(1), command_id="late", caused_at=5)
        assert stage.store.calls["read_stream"] > read
