"""Whether the files that live in the store are those in the tree of the head."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from examples.git_history.app import app, file
from examples.git_history.paths import id_of
from examples.git_history.repository import Entry
from rehydrate import Runtime

_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Difference:
    """Ids of files on which store and tree do not agree."""

    missing: list[str]
    """In the tree, and not alive in the store."""
    surplus: list[str]
    """Alive in the store, and not in the tree."""
    other: list[str]
    """In both, with another mode or content."""

    def __bool__(self) -> bool:
        return bool(self.missing or self.surplus or self.other)

    def lines(self) -> list[str]:
        """The difference as people write one: `-` only git has it, `+` only the store, `!` they differ."""
        marked = [("-", self.missing), ("+", self.surplus), ("!", self.other)]
        return [f"{mark} {id}" for mark, ids in marked for id in ids]


async def living_files(store: str) -> dict[str, Entry]:
    """The files that live in a store, each folded from its events."""
    living: dict[str, Entry] = {}
    async with app.open(store) as runtime:
        after = ""
        while page := await runtime.store.streams(prefix=file.stream(""), after=after, limit=_AT_ONCE):
            after = page[-1].stream
            living |= await _alive(runtime, [head.stream.removeprefix(file.stream("")) for head in page])
    return living


async def _alive(runtime: Runtime, ids: list[str]) -> dict[str, Entry]:
    states = await asyncio.gather(*(runtime.state(file, id) for id in ids))
    return {id: Entry(state.mode, state.blob) for id, state in zip(ids, states, strict=True) if state.lives}


def compare(living: Mapping[str, Entry], tree: Mapping[bytes, Entry]) -> Difference:
    """What the store and `git ls-tree` do not agree on."""
    expected = {id_of(path): entry for path, entry in tree.items()}
    return Difference(
        missing=sorted(expected.keys() - living.keys()),
        surplus=sorted(living.keys() - expected.keys()),
        other=sorted(id for id in expected.keys() & living.keys() if expected[id] != living[id]),
    )
