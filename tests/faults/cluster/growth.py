"""From one machine to three: the store of a single node is copied while its application runs, and sealed."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from tests.faults.cluster.history import Entry, Violation, violations
from tests.faults.cluster.journal import Attempt, Stored
from tests.faults.cluster.measures import measures
from tests.faults.cluster.network import Network
from tests.faults.cluster.processes import start
from tests.faults.cluster.scene import STEADY, Result, Row, Scene, unanswered, unexpected
from tests.faults.cluster.site import Site


async def _is_played_otherwise(_: Scene) -> None:
    raise NotImplementedError


GROWTH: Final = Row(
    name="growth",
    what="from one node to three: `rehydrate copy --seal` while the application runs; then three applications on three",
    act=_is_played_otherwise,
    also_answered=frozenset({"StoreSealedError"}),
)


async def grow(row: Row, folder: Path, network: Network) -> Result:
    """The old node is the fourth host of the network."""
    folder.mkdir(parents=True)
    (folder / "old").mkdir()
    (folder / "new").mkdir()
    new = Site(folder / "new", network)
    old = Site(folder / "old", network, hosts=1, first=3)
    try:
        await asyncio.gather(old.start(publishers=False), new.start(applications=False))
        began = time.monotonic()
        await old.get_on(STEADY)
        fault = time.monotonic()
        await _copy(old, new)
        # A sealed store still shows what it holds, so nobody may be left who asks there.
        await old.finish()
        old_log = await old.log()
        await asyncio.gather(*map(new.start_application, new.hosts))
        over = time.monotonic()
        await new.get_on(STEADY)
        ended = time.monotonic()
        await new.finish()
        log = await new.log()
    finally:
        await old.close()
        await new.close()
    of_old, of_new = old.journals(), new.journals()
    attempts = [*_moved(of_old, log), *of_new]
    ours = measures(attempts, began=began, fault=fault, over=over, ended=ended)
    return Result(
        row=row,
        violations=[*violations(of_old, old_log), *_same(old_log, log), *violations(attempts, log)],
        unexpected=unexpected(attempts, row.also_answered),
        unknown=unanswered(attempts),
        ours=ours,
        plain=measures(new.journals("plain"), began=began, fault=fault, over=over, ended=ended),
        leaderless=0.0,
        plain_leaderless=0.0,
    )


async def _copy(old: Site, new: Site) -> None:
    copying = await start(
        [
            *old.network.inside(old.hosts[0].number),
            *(sys.executable, "-m", "rehydrate.cli", "copy", old.store, new.store, "--seal"),
        ],
        log=old.folder / "copy.log",
    )
    await copying.ended_well()


def _moved(attempts: Sequence[Attempt], log: Sequence[Entry]) -> list[Attempt]:
    """What callers were told of the old log, with the positions of the new one: a copy keeps the order, not the numbers."""
    positions = {(entry.account, entry.version): entry.position for entry in log}
    moved: list[Attempt] = []
    for attempt in attempts:
        answer = attempt.answer
        if isinstance(answer, Stored):
            position = positions.get((attempt.asked.account, answer.version), 0)
            answer = msgspec.structs.replace(answer, position=position)
        moved.append(Attempt(attempt.asked, answer))
    return moved


def _same(old: Sequence[Entry], new: Sequence[Entry]) -> list[Violation]:
    """The new log begins with the old one."""
    for before, after in zip(old, new[: len(old)], strict=False):
        if msgspec.structs.replace(after, position=before.position) != before:
            return [Violation("moved", f"{before} was copied as {after}")]
    return [] if len(new) >= len(old) else [Violation("lost", f"of {len(old)} events {len(new)} were copied")]
