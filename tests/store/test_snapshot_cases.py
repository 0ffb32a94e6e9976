"""A snapshot counts only if the stream still holds its event at its version; else the state is replayed.

The cases are those of the conformance kit. That they notice a rehydration that looks less closely is shown on mutants.
"""

from collections.abc import Callable, Sequence

import msgspec
import pytest

from rehydrate import App, Snapshot, open_store
from rehydrate.runtime import rehydration
from rehydrate.store.port import Store, StoredSnapshot
from rehydrate.testing.conformance.snapshots import snapshot_cases
from tests.bank import Account, Deposit, bank_account

STREAM = "bank_account-ada"
MARKED = 1_000_000
"""The balance in a snapshot that nobody could have by his deposits: who shows it has used the snapshot."""

Rows = Sequence[tuple[int, str, bytes]]
Counts = Callable[[StoredSnapshot, Rows, str], bool]


def _always(snapshot: StoredSnapshot, rows: Rows, first_id: str) -> bool:
    return True


def _if_there_is_an_event(snapshot: StoredSnapshot, rows: Rows, first_id: str) -> bool:
    return bool(rows)


def _never(snapshot: StoredSnapshot, rows: Rows, first_id: str) -> bool:
    return False


async def test_only_snapshots_that_count_are_used() -> None:
    assert await _misjudged() == set()


@pytest.mark.parametrize(
    ("counts", "misjudged"),
    [
        (
            _always,
            {"ahead of the stream", "of an event that was replaced", "of an event one earlier"},
        ),
        (_if_there_is_an_event, {"of an event that was replaced", "of an event one earlier"}),
        (_never, {"of an event before the last", "of the last event"}),
    ],
)
async def test_a_rehydration_that_does_not_look_is_noticed(
    monkeypatch: pytest.MonkeyPatch, counts: Counts, misjudged: set[str]
) -> None:
    monkeypatch.setattr(rehydration, "snapshot_counts", counts)
    # More may be: a runtime may find out later that its state is ahead of the store, or never.
    assert misjudged <= await _misjudged()


async def _misjudged() -> set[str]:
    """The cases in which the runtime used a snapshot that does not count, or did not use one that does."""
    store = await open_store("memory://")
    marked = await _marked_after_four_deposits(store)
    account = bank_account(snapshot=Snapshot(every=1_000_000, keep=1, schema=1))
    wrong: set[str] = set()
    for case in await snapshot_cases(store, STREAM):
        at = case.snapshot
        await store.save_snapshot(
            msgspec.structs.replace(marked, version=at.version, position=at.position, event_id=at.event_id),
            keep=1,
        )
        async with App(aggregates=[account]).open(store) as bank:
            # Else the fence would find out that the state is of another history, and this is about rehydration alone.
            vars(bank)["_manager"].is_single_writer = True
            state = await bank.state(account, "ada")
        used = state.balance >= MARKED
        assert used or state == Account(4, 4)
        if used is not case.counts:
            wrong.add(case.what)
        await store.delete_snapshots(STREAM)
    await store.close()
    return wrong


async def _marked_after_four_deposits(store: Store) -> StoredSnapshot:
    account = bank_account(snapshot=Snapshot(every=1, keep=1, schema=1))
    async with App(aggregates=[account]).open(store) as bank:
        for _ in range(4):
            await bank.dispatch(account, "ada", Deposit(1))
    saved = await store.load_snapshot(STREAM)
    assert saved is not None
    await store.delete_snapshots(STREAM)
    data = msgspec.json.encode({"balance": MARKED, "changes": MARKED})
    return msgspec.structs.replace(saved, data=data)
