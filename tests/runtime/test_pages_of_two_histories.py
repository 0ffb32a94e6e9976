"""A store that goes back between two pages of a stream: a state is never folded of two histories."""

from __future__ import annotations

from typing import Any

import pytest

from rehydrate import StoreUnavailableError, open_store
from rehydrate.store.port import PAGE_SIZE, Store
from tests.bank import Account, Deposit, account, app
from tests.stand_ins import Exchangeable, deposited

EVENTS = PAGE_SIZE + PAGE_SIZE // 2


class SwappedMidway(Exchangeable):
    """Another history is there as soon as one page was read in this way."""

    def __init__(self, behind: Store, other: Store, method: str) -> None:
        super().__init__(behind)
        self._other = other
        self._method = method

    def __getattr__(self, name: str) -> Any:
        read = super().__getattr__(name)
        if name != self._method:
            return read

        async def read_and_swap(*given: Any, **named: Any) -> Any:
            page = await read(*given, **named)
            self.behind = self._other
            return page

        return read_and_swap


async def _history(name: str, amount: int) -> Store:
    """One event that all have, and many that only this one has."""
    store = await open_store("memory://")
    events = [deposited("first"), *[deposited(f"{name}-{number}", amount) for number in range(1, EVENTS)]]
    await store.append("bank_account-ada", events, expected_version=0)
    return store


async def test_whoever_rehydrates_is_told_and_the_next_one_has_the_state_of_one_history() -> None:
    store = SwappedMidway(await _history("mine", 1), await _history("theirs", 2), "replay")
    async with app.open(store.as_store) as bank:
        with pytest.raises(StoreUnavailableError, match="was mine-999"):
            await bank.state(account, "ada")
        assert await bank.state(account, "ada") == Account(2 * EVENTS - 1, EVENTS)


async def test_whoever_catches_up_starts_over() -> None:
    begun = await open_store("memory://")
    await begun.append("bank_account-ada", [deposited("first")], expected_version=0)
    store = SwappedMidway(begun, await _history("theirs", 2), "read_stream")
    async with app.open(store.as_store) as bank:
        assert await bank.state(account, "ada") == Account(1, 1)
        store.behind = await _history("mine", 1)
        assert (await bank.dispatch(account, "ada", Deposit(1))).version == EVENTS + 1
        assert await bank.state(account, "ada") == Account(2 * EVENTS, EVENTS + 1)
