"""A process that writes to the store under test: `python -m rehydrate.testing.conformance.worker OPENER URL`.

It takes orders as JSON lines on stdin and works on all of them at once. What happened it tells as JSON lines on
stdout, each append after it returned. At the end of stdin it stops what it does, closes the store and exits.
"""

from __future__ import annotations

import asyncio
import pkgutil
import random
import sys
from itertools import count
from typing import TypeAlias

import msgspec

from rehydrate.errors import StoreError, StoreUnavailableError, VersionConflictError
from rehydrate.store.port import Appended, Checkpoint, NewEvent, Store, ViewChange
from rehydrate.testing.conformance.material import event, lot

_PAUSE = 0.02
"""Seconds before an append whose outcome is not known is sent again."""


class AppendOnce(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Append these events; then `Acked` or `Refused` under that name."""

    name: str
    stream: str
    ids: list[str]
    expected_version: int


class Flood(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Append lots of these sizes to these streams from that many tasks.

    Each task appends so many lots, or, with 0, goes on until it is stopped. A conflict is tried again where the
    stream is; an append whose outcome is not known is sent again as it is.
    """

    name: str
    streams: list[str]
    tasks: int = 1
    sizes: tuple[int, ...] = (1, 2, 3)
    appends: int = 0


class Consume(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Take over a consumer and move its checkpoint by one, again and again, with views that tell the same number.

    Each save is told as `Saved`; when somebody else has taken over, `Ended`.
    """

    consumer: str
    views: list[str]
    saves: int = 0


class WaitFor(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Wait for events after a position; then `Ended`."""

    after: int


class Run(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Run the consumers of the kit's App, until this process is stopped."""

    takeover_after: float


Order: TypeAlias = AppendOnce | Flood | Consume | WaitFor | Run


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The store is open."""


class Acked(msgspec.Struct, frozen=True, tag=True):
    name: str
    version: int
    position: int


class Refused(msgspec.Struct, frozen=True, tag=True):
    name: str
    error: str
    stored: bool | None
    actual: int | None = None


class Saved(msgspec.Struct, frozen=True, tag=True):
    position: int
    epoch: int


class Ended(msgspec.Struct, frozen=True, tag=True):
    """An order was worked off."""


News: TypeAlias = Ready | Acked | Refused | Saved | Ended


def tell(news: News) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(news) + b"\n")
    sys.stdout.buffer.flush()


async def work(store: Store) -> None:
    """Take orders until there are no more."""
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    decoder = msgspec.json.Decoder[Order](Order)
    tell(Ready())
    async with asyncio.TaskGroup() as working:
        tasks: list[asyncio.Task[None]] = []
        while line := await lines.readline():
            tasks.append(working.create_task(_carry_out(store, decoder.decode(line))))
        for task in tasks:
            task.cancel()
    transport.close()


async def _carry_out(store: Store, order: Order) -> None:
    match order:
        case AppendOnce():
            await _append_once(store, order)
            return
        case Flood():
            await _flood(store, order)
        case Consume():
            await _consume(store, order)
        case WaitFor():
            await store.wait(after=order.after)
        case Run():
            await run_consumers(store, order.takeover_after)
    tell(Ended())


async def _append_once(store: Store, order: AppendOnce) -> None:
    new = [event(id=id) for id in order.ids]
    try:
        done = await store.append(order.stream, new, expected_version=order.expected_version)
    except StoreError as error:
        tell(_refused(order.name, error))
    else:
        tell(Acked(order.name, done.version, done.position))


async def _flood(store: Store, order: Flood) -> None:
    heads: dict[str, int] = {}

    async def one_task(task: int) -> None:
        chance = random.Random(f"{order.name} {task}")
        for n in range(1, order.appends + 1) if order.appends else count(1):
            name = f"{order.name}.{task}.{n}"
            stream = order.streams[(task + n) % len(order.streams)]
            done = await _append_until_answered(
                store, stream, name, lot(name, chance.choice(order.sizes)), heads
            )
            heads[stream] = done.version
            tell(Acked(name, done.version, done.position))

    async with asyncio.TaskGroup() as tasks:
        for task in range(order.tasks):
            tasks.create_task(one_task(task))


async def _append_until_answered(
    store: Store, stream: str, name: str, new: list[NewEvent], heads: dict[str, int]
) -> Appended:
    expected = heads.get(stream, 0)
    while True:
        try:
            return await store.append(stream, new, expected_version=expected)
        except VersionConflictError as conflict:
            expected = conflict.actual
        except StoreUnavailableError as unavailable:
            tell(_refused(name, unavailable))
            await asyncio.sleep(_PAUSE)


async def _consume(store: Store, order: Consume) -> None:
    previous = await store.load_checkpoint(order.consumer)
    place = Checkpoint(name=order.consumer, position=0, event_id="", epoch=1)
    if previous is not None:
        place = msgspec.structs.replace(previous, epoch=previous.epoch + 1)
    for _ in range(order.saves) if order.saves else count():
        place = msgspec.structs.replace(place, position=place.position + 1, event_id="some event")
        number = str(place.position).encode()
        views = [ViewChange(key, number) for key in order.views]
        if not await _save_until_answered(store, place, previous, views):
            return
        tell(Saved(place.position, place.epoch))
        previous = place


async def _save_until_answered(
    store: Store, place: Checkpoint, previous: Checkpoint | None, views: list[ViewChange]
) -> bool:
    while True:
        try:
            return await store.save_checkpoint(place, previous=previous, views=views)
        except StoreUnavailableError as unavailable:
            tell(_refused(f"{place.name} at {place.position}", unavailable))
            await asyncio.sleep(_PAUSE)
            if unavailable.stored is None and await store.load_checkpoint(place.name) == place:
                return True


async def run_consumers(store: Store, takeover_after: float) -> None:
    # Not imported before it is asked for: most workers only write.
    from rehydrate.runtime.limits import Limits
    from rehydrate.testing.conformance.read_models import app

    async with app.open(store, limits=Limits(takeover_after=takeover_after)):
        await asyncio.Event().wait()


def _refused(name: str, error: StoreError) -> Refused:
    if isinstance(error, VersionConflictError):
        return Refused(name, type(error).__name__, stored=False, actual=error.actual)
    stored = error.stored if isinstance(error, StoreUnavailableError) else False
    return Refused(name, type(error).__name__, stored=stored)


async def main(opener: str, url: str) -> None:
    open_store = pkgutil.resolve_name(opener)
    store: Store = await open_store(url)
    try:
        await work(store)
    finally:
        await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
