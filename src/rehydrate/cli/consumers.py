"""What `rehydrate projections` and `rehydrate subscriptions` do: show consumers, and steer them from outside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from rehydrate.app import App
from rehydrate.cli.endings import say
from rehydrate.cli.existing import existing_store
from rehydrate.cli.run.report import many
from rehydrate.cli.table import write_json, write_table
from rehydrate.clock import SystemClock
from rehydrate.codec.projection import check_projections
from rehydrate.errors import ConfigurationError
from rehydrate.runtime.control import ConsumerStatus, consumers_of, is_claim, pause, remove, reset, resume
from rehydrate.runtime.parking import Parked, list_parked
from rehydrate.runtime.runtime import Runtime
from rehydrate.runtime.tenure import kept_in
from rehydrate.runtime.timers import count_pending
from rehydrate.runtime.view_type import check_view_type
from rehydrate.store.port import Store
from rehydrate.telemetry import ConsumerStatistics

_TITLES: Final = ("name", "revision", "position", "behind", "seconds", "rate/s", "state", "parked", "pending")
_PARKED_TITLES: Final = ("position", "stream", "version", "type", "key")
_TEXTS: Final = frozenset({"name", "state", "stream", "type", "key"})
_PARTS: Final = frozenset({"events", "sends", "timers"})
"""Of a process manager, each a consumer."""
_KEYS: Final = 5
"""How many keys are named to whoever has mistaken one."""
_LOOK: Final = 0.05
"""Seconds between two looks at how far a projection is built."""
_SAY: Final = 0.5
"""Seconds between two lines that say so."""

ACTIONS: Final[dict[str, Callable[[Store, str], Awaitable[None]]]] = {
    "pause": pause,
    "resume": resume,
    "reset": reset,
    "remove": remove,
}


def _kind(consumer: str) -> str:
    """To which of the commands a consumer belongs, by the name of its checkpoint; empty for what is none."""
    _, colon, part = consumer.partition(":")
    if is_claim(consumer):
        return ""
    if colon:
        # What is left is the progress of a `rehydrate run --run NAME`.
        return "processes" if part in _PARTS else ""
    return "projections" if "@" in consumer else "subscriptions"


async def show_consumers(url: str, *, kind: str, as_table: bool) -> int:
    """List the projections, subscriptions or process managers of a store. Returns the exit code."""
    async with existing_store(url) as store:
        found = await consumers_of(store, SystemClock(), only=lambda name: _kind(name) == kind, tell=say)
        pending = {
            status.name: await count_pending(store, status.name) for status in found if kind == "processes"
        }
    if not as_table:
        write_json([_as_json(status, pending) for status in found])
    elif found:
        cells = [_cells(status, pending) for status in found]
        shown = [title for title in _TITLES if title in cells[0]]
        rows = [[row[title] for title in shown] for row in cells]
        write_table(shown, rows, [status.reason for status in found], texts=_TEXTS)
    if not found:
        say(f"{store.url} has no {'process managers' if kind == 'processes' else kind}")
    return 0


def _as_json(status: ConsumerStatus, pending: dict[str, int]) -> bytes:
    if status.name not in pending:
        return msgspec.json.encode(status)
    return msgspec.json.encode({**msgspec.structs.asdict(status), "pending": pending[status.name]})


def _cells(status: ConsumerStatus, pending: dict[str, int]) -> dict[str, str]:
    """What a row shows, by title: only projections have a revision, only process managers have timers."""
    cells = {
        "name": status.name,
        "position": f"{status.position:,}",
        "behind": f"{status.behind:,}",
        "seconds": f"{status.seconds:,.1f}",
        "rate/s": f"{status.rate:,.0f}",
        "state": status.state,
        "parked": f"{status.parked:,}",
    }
    if status.revision is not None:
        cells["revision"] = str(status.revision)
    if status.name in pending:
        cells["pending"] = f"{pending[status.name]:,}"
    return cells


async def steer(url: str, name: str, action: str, *, kind: str) -> int:
    """Pause, resume, reset or remove a consumer. Returns the exit code."""
    async with existing_store(url) as store:
        consumer = await _full_name(store, name, kind)
        await ACTIONS[action](store, consumer)
    say(f"{consumer}: {_DONE[action]}")
    return 0


_DONE: Final = {
    "pause": "paused; nobody runs it until it is resumed",
    "resume": "free to be run; a process that declares it begins within a second",
    "reset": "back at the beginning of the log, without views",
    "remove": "removed, with its place and its views",
}


async def show_parked(url: str, name: str, *, kind: str, as_table: bool) -> int:
    """List what a consumer has parked. Returns the exit code."""
    async with existing_store(url) as store:
        consumer = await _full_name(store, name, kind)
        parked = await list_parked(store, consumer)
    if not as_table:
        write_json([msgspec.json.encode(one) for one in parked])
    elif parked:
        rows = [[f"{one.position:,}", one.stream, f"{one.version:,}", one.type, one.key] for one in parked]
        notes = [one.reason or "behind another" for one in parked]
        write_table(_PARKED_TITLES, rows, notes, texts=_TEXTS)
    if not parked:
        say(f"{consumer} has nothing parked")
    return 0


async def replay(app: App, url: str, name: str, key: str | None) -> int:
    """Handle what is parked, here. Returns the exit code: 1 where something is parked still, or nothing under that key."""
    async with _opened(app, url) as runtime:
        done = await runtime.replay(name, key)
        parked = await runtime.parked(name)
    left = sum(key is None or one.key == key for one in parked)
    if not done and not left:
        return _nothing_parked(name, key, parked)
    is_or_are = "is" if left == 1 else "are"
    say(f"{name}: {_events(done)} handled, {left:,} {is_or_are} parked still")
    return 1 if left else 0


async def drop(app: App, url: str, name: str, key: str | None) -> int:
    """Forget what is parked. Returns the exit code."""
    async with _opened(app, url) as runtime:
        done = await runtime.drop(name, key)
        parked = await runtime.parked(name)
    if not done:
        return _nothing_parked(name, key, parked)
    say(f"{name}: {_events(done, 'parked event')} dropped")
    return 0


def _events(count: int, noun: str = "event") -> str:
    return f"{many(count, noun)} {'was' if count == 1 else 'were'}"


def _nothing_parked(name: str, key: str | None, parked: Sequence[Parked]) -> int:
    """Say so. Returns the exit code: whoever names a key that there is not has mistaken it."""
    if key is None:
        say(f"{name} has nothing parked")
        return 0
    keys = list(dict.fromkeys(one.key for one in parked))
    if not keys:
        say(f"{name} has nothing parked, so nothing under {key!r} either")
        return 1
    more = f" and {len(keys) - _KEYS:,} more" if len(keys) > _KEYS else ""
    say(
        f"{name} has nothing parked under the key {key!r}, but under {', '.join(map(repr, keys[:_KEYS]))}{more}"
    )
    return 1


async def build(app: App, url: str, names: list[str]) -> int:
    """Run projections here until they are at the end of the log. Returns the exit code."""
    unknown = [name for name in names if name not in app.projections]
    if unknown:
        raise ConfigurationError(
            f"no projection {unknown[0]!r} in this App (it has: {', '.join(app.projections) or 'none'})"
        )
    wanted = {
        projection.consumer: projection
        for name, projection in app.projections.items()
        if name in names or not names
    }
    async with _opened(app, url) as runtime:
        # Of whoever built them, and also where another process runs the projection: that one would not say so here.
        for consumer, projection in wanted.items():
            codec = check_projections([projection], app.aggregates)[projection.name]
            check_view_type(projection, codec, await runtime.store.load_checkpoint(consumer))
        end = (await runtime.store.head()).position
        runtime.consumers.start(only=wanted)
        said_at = asyncio.get_running_loop().time()
        while unbuilt := await _unbuilt(runtime, wanted, end):
            for one in unbuilt:
                if one.state in {"stopped", "paused"}:
                    raise ConfigurationError(
                        f"projection {one.name} is {one.state}: {one.reason or 'resume it'}"
                    )
            await asyncio.sleep(_LOOK)
            if (now := asyncio.get_running_loop().time()) - said_at >= _SAY:
                said_at = now
                for one in unbuilt:
                    if one.state == "running":
                        say(f"{one.name}: at position {one.position:,}, {one.lag:,} to go")
    say(f"{', '.join(sorted(wanted))}: built")
    return 0


async def _unbuilt(runtime: Runtime, wanted: Collection[str], end: int) -> list[ConsumerStatistics]:
    """Those that are not where the log ended: also one that was built before, and now cannot go on.

    Of one that another process runs, it counts that it has been at the end of the log.
    """
    built = {one.name for one in await runtime.store.list_checkpoints() if kept_in(one).built}
    return [
        one
        for one in runtime.consumers.statistics()
        if one.name in wanted
        and not (
            one.name in built and (one.state == "waiting" or (one.state == "running" and one.position >= end))
        )
    ]


@asynccontextmanager
async def _opened(app: App, url: str) -> AsyncGenerator[Runtime, None]:
    async with existing_store(url) as store, app.open(store, consumers=False) as runtime:
        yield runtime


async def _full_name(store: Store, name: str, kind: str) -> str:
    """The name of a checkpoint: that of a projection without its revision will do where it has one only.

    Raises `ConfigurationError` for what belongs to another command: a reset has its consequences by the kind.
    """
    names = [checkpoint.name for checkpoint in await store.list_checkpoints()]
    if name in names and (other := _kind(name)) != kind:
        raise ConfigurationError(
            f"{name!r} is one of the {other}: say rehydrate {other} ..."
            if other
            else f"{name!r} is no consumer"
        )
    revisions = [each for each in names if each.partition("@")[0] == name and "@" in each]
    if name in names or not revisions:
        return name
    if len(revisions) > 1:
        raise ConfigurationError(f"{name!r} has several revisions: say which one, {' or '.join(revisions)}")
    return revisions[0]
