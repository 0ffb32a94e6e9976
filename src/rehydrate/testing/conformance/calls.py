"""Every call of the port by its name, for what holds of all of them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from rehydrate.store.port import ANY_VERSION, Checkpoint, Store, StoredSnapshot, ViewChange
from rehydrate.testing.conformance.material import events, fill

_SNAPSHOT = StoredSnapshot(
    stream="account-1",
    version=3,
    position=3,
    event_id="event 3",
    schema=1,
    fingerprint="",
    data=b"{}",
    recorded_at=0,
)
_PLACE = Checkpoint(name="balances", position=1, event_id="event 1", epoch=1)


async def prepare(store: Store) -> None:
    """Store what the calls find."""
    await fill(store, "account-1", 3)
    await store.save_snapshot(_SNAPSHOT, keep=2)
    assert await store.save_checkpoint(_PLACE, previous=None, views=[ViewChange("ada", b"1")])


async def _save_checkpoint(store: Store) -> None:
    there = await store.load_checkpoint("balances")
    place = _PLACE if there is None else msgspec.structs.replace(there, position=there.position + 1)
    await store.save_checkpoint(place, previous=there, views=[ViewChange("ada", b"2")])


CALLS: dict[str, Callable[[Store], Coroutine[Any, Any, object]]] = {
    "append": lambda store: store.append("account-2", events(3), expected_version=ANY_VERSION),
    "append without events": lambda store: store.append("account-1", [], expected_version=3),
    "versions": lambda store: store.versions(["account-1", "account-none"]),
    "ends": lambda store: store.ends(["account-1", "account-none"]),
    "read_stream": lambda store: store.read_stream("account-1"),
    "replay": lambda store: store.replay("account-1"),
    "read_all": lambda store: store.read_all(),
    "head": lambda store: store.head(),
    "wait": lambda store: store.wait(after=0),
    "streams": lambda store: store.streams(),
    "save_snapshot": lambda store: store.save_snapshot(_SNAPSHOT, keep=2),
    "load_snapshot": lambda store: store.load_snapshot("account-1"),
    "delete_snapshots": lambda store: store.delete_snapshots("account-1"),
    "load_checkpoint": lambda store: store.load_checkpoint("balances"),
    "save_checkpoint": _save_checkpoint,
    "list_checkpoints": lambda store: store.list_checkpoints(),
    "reset_checkpoint": lambda store: store.reset_checkpoint("balances"),
    "remove_checkpoint": lambda store: store.remove_checkpoint("balances"),
    "load_view": lambda store: store.load_view("balances", "ada"),
    "load_views": lambda store: store.load_views("balances", ["ada", "nobody"]),
    "list_views": lambda store: store.list_views("balances"),
}
