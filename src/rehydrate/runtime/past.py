"""The state of an aggregate as it was."""

from __future__ import annotations

from typing import Any, TypeVar

from rehydrate.domain.quantities import check_place
from rehydrate.domain.streams import check_id
from rehydrate.runtime.blueprint import Blueprint
from rehydrate.runtime.rehydration import fold_rows
from rehydrate.store.port import PAGE_SIZE, Store

S = TypeVar("S")


async def state_at(store: Store, blueprint: Blueprint[S, Any, Any], id: str, at: int) -> S:
    """The state at a version, folded from the stored events. Raises `ValueError` if there is no such version."""
    check_id(id)
    check_place("at", at, "version")
    stream = blueprint.aggregate.stream(id)
    state: S = blueprint.beginning.copy()
    version = 0
    while version < at:
        page = await store.read_stream(stream, after=version, limit=min(at - version, PAGE_SIZE))
        if not page.events:
            break
        rows = [(event.version, event.type, event.data) for event in page.events]
        state = await fold_rows(blueprint, stream, state, version, rows)
        version = page.events[-1].version
    if version != at:
        raise ValueError(f"{stream} is at version {version}: it has no version {at}")
    return state
