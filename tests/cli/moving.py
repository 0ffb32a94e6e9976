"""What the tests of moving move, and how they tell that it has arrived."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import msgspec

from rehydrate import open_store
from rehydrate.store.port import Checkpoint, Head, NewEvent, Store, StoredEvent, ViewChange
from rehydrate.testing.conformance.material import log_events

Content = tuple[str, int, str, str, bytes, bytes, int]

ODD_BYTES = (
    b"",
    b"\0\xff\xfe",
    b'{"a": 1.0,  "a":2}',
    b' {"a":1}',
    b'{"a":\n1}',
    b'{"a":1}\r',
    b'"\\ud800"',
    b"NaN",
    b"[" * 2_000,
    '{"ä":"\u2028🦉"}'.encode(),
    b'{"base64":"AA=="}',
    b"12345678901234567890123456789",
    b"null",
)
"""What a codec may have written, and what JSON or a line could change."""


def content(event: StoredEvent) -> Content:
    """All that is stored of an event but its position."""
    return (
        event.stream,
        event.version,
        event.id,
        event.type,
        event.data,
        event.metadata,
        event.recorded_at,
    )


async def contents(store: Store) -> list[Content]:
    return [content(event) for event in await log_events(store)]


@asynccontextmanager
async def opened(*urls: str) -> AsyncGenerator[list[Store]]:
    stores = [await open_store(url) for url in urls]
    try:
        yield stores
    finally:
        for store in stores:
            await store.close()


def by_command(command: str, count: int, *, first: int = 0) -> list[NewEvent]:
    """The events that one command stored."""
    metadata = msgspec.json.encode({"command_id": command})
    return [
        NewEvent(
            f"{command}.{n}",
            "Deposited",
            b'{"amount":%d}' % n,
            metadata,
            recorded_at=1_700_000_000_000_000 + n,
        )
        for n in range(first, first + count)
    ]


async def fill(store: Store, appends: int, *, streams: int = 7, seed: int = 1) -> None:
    """Append commands of one to four events to streams in no order, further than an earlier call did."""
    chance = random.Random(seed)
    for number in range(appends):
        stream = f"bank_account-{chance.randrange(streams)}"
        (version,) = await store.versions([stream])
        events = by_command(f"c{seed}.{number}", chance.randint(1, 4))
        await store.append(stream, events, expected_version=version)


async def fill_with_oddities(store: Store) -> None:
    """Events that are unlike those of the runtime: bytes, ids, types, sizes and times of every sort."""
    for number, data in enumerate(ODD_BYTES):
        event = NewEvent(f"odd-{number}", "Odd", data, data, recorded_at=number)
        await store.append(f"odd-{number % 3}", [event], expected_version=number // 3)
    large = NewEvent("large", "T" * 512, b"\xff" * 1_000_000, b"[" + b"0," * 500_000 + b"0]")
    early = NewEvent("ein Ei/🥚", "Früh", b"{}", b"{}", recorded_at=-62_135_596_800_000_000)
    late = NewEvent("x" * 512, "Late", b"{}", b"{}", recorded_at=253_402_300_799_999_999 + 1)
    await store.append("bank_account-" + "ß" * 256, [large, early, late], expected_version=0)


async def place(
    store: Store,
    name: str,
    at: StoredEvent,
    *,
    epoch: int = 1,
    views: Sequence[tuple[str, bytes | None]] = (),
) -> Checkpoint:
    """Move a consumer to an event, with views."""
    there = await store.load_checkpoint(name)
    checkpoint = Checkpoint(name=name, position=at.position, event_id=at.id, epoch=epoch, data=b"\xffdata")
    changes = [ViewChange(key, data) for key, data in views]
    assert await store.save_checkpoint(checkpoint, previous=there, views=changes)
    return checkpoint


async def views_of(store: Store, name: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    after = ""
    while page := await store.list_views(name, after=after, limit=2):
        found.update(page)
        after = page[-1][0]
    return found


async def event_of(store: Store, checkpoint: Checkpoint) -> Content:
    """The event at which a checkpoint stands."""
    (event,) = (await store.read_all(after=checkpoint.position - 1, limit=1)).events
    assert (event.position, event.id) == (checkpoint.position, checkpoint.event_id)
    return content(event)


NOTHING = Head(0, "")
