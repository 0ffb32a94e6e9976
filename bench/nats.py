"""NATS without Rehydrate: messages as its store writes them, each on the expectation of its subject's last one."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from time import perf_counter
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec
import nats
from nats.aio.client import Client
from nats.errors import NoRespondersError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import NoStreamResponseError, ServiceUnavailableError

from bench.appending import bare_store_sample, new_events
from bench.sample import Sample, Size, require
from bench.servers import Server

_T = TypeVar("_T")

REPLICAS: Final = 3
EXPECTS: Final = "Nats-Expected-Last-Subject-Sequence"
_MOST_PER_SECOND: Final = 50_000
_FETCH: Final = 1_000
_PATIENCE: Final = 30.0
_PAUSE: Final = 0.1
"""Seconds, for servers that cannot make anything yet."""


def bare_store_rate(in_flight: int, size: Size, _: Path) -> Sample:
    """So many appends through `submit` are in flight at any time; the outcome of one sends the next."""
    with Server.NATS.database() as url:
        return asyncio.run(bare_store_sample(url, size, in_flight))


def plain_rate(callers: int, size: Size, _: Path) -> Sample:
    """So many tasks send one `js.publish` after the other, each on its expectation, each acknowledged by a majority."""
    with Server.NATS.database() as url:
        return asyncio.run(_plain(url, callers, size))


async def _plain(url: str, callers: int, size: Size) -> Sample:
    client = await connect(url)
    try:
        name = urlsplit(url).path.strip("/")
        jetstream = await create(client, name, REPLICAS)
        subjects = [f"{name}.account-{number}" for number in range(size.accounts)]
        lasts = await fill_raw(jetstream, subjects, size.events)
        # What the store puts into a message for one event.
        payloads = iter([msgspec.msgpack.encode(msgspec.structs.astuple(event)) for event in _events(size)])
        counts = [0] * callers
        gc.collect()
        began = perf_counter()
        until = began + size.seconds

        async def write(number: int) -> None:
            for subject, payload in zip(cycle(subjects[number::callers]), payloads, strict=False):
                ack = await jetstream.publish(subject, payload, headers={EXPECTS: str(lasts[subject])})
                lasts[subject] = ack.seq
                counts[number] += 1
                if perf_counter() >= until:
                    return

        await asyncio.gather(*[write(number) for number in range(callers)])
        seconds = perf_counter() - began
        stored = (await jetstream.stream_info(f"{name}-raw")).state.messages
    finally:
        await client.close()
    require(stored=stored, expected=len(subjects) + sum(counts), what="plain publishes")
    return Sample(sum(counts) / seconds, {"messages": sum(counts), "seconds": seconds})


def read_rate(size: Size, _: Path) -> Sample:
    """Messages a second: a consumer of nats-py that need not acknowledge asks for 1,000 at a time."""
    with Server.NATS.database() as url:
        return asyncio.run(_read(url, size))


async def _read(url: str, size: Size) -> Sample:
    client = await connect(url)
    try:
        name = urlsplit(url).path.strip("/")
        jetstream = await create(client, name, REPLICAS)
        subjects = [f"{name}.account-{number}" for number in range(messages_of(size))]
        await fill_raw(jetstream, subjects, 1)
        consumer = await as_soon_as_it_can(
            lambda: jetstream.pull_subscribe(
                f"{name}.*", stream=f"{name}-raw", config=ConsumerConfig(ack_policy=AckPolicy.NONE)
            )
        )
        first = len(await as_soon_as_it_can(lambda: consumer.fetch(1, timeout=_PATIENCE)))
        began = perf_counter()
        messages = 0
        while first + messages < len(subjects):
            messages += len(
                await consumer.fetch(min(_FETCH, len(subjects) - first - messages), timeout=_PATIENCE)
            )
        seconds = perf_counter() - began
    finally:
        await client.close()
    require(stored=first + messages, expected=len(subjects), what="the messages read")
    return Sample(messages / seconds, {"messages": messages, "seconds": seconds})


def messages_of(size: Size) -> int:
    """How many are written before a log of single events is read: each takes a turn of the servers."""
    return size.log // 20


async def connect(url: str) -> Client:
    """A client of nats-py as it comes, but for the names of the servers."""
    parts = urlsplit(url)
    return await nats.connect(  # pyright: ignore[reportUnknownMemberType]
        [f"nats://{host}" for host in parts.netloc.rpartition("@")[2].split(",")], token=parts.username
    )


async def create(client: Client, name: str, replicas: int) -> JetStreamContext:
    """A JetStream stream as the store has it: on so many disks."""
    jetstream: JetStreamContext = client.jetstream(timeout=_PATIENCE)  # pyright: ignore[reportUnknownMemberType]
    config = StreamConfig(
        name=f"{name}-raw",
        subjects=[f"{name}.*"],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        num_replicas=replicas,
        allow_direct=True,
    )
    await as_soon_as_it_can(lambda: jetstream.add_stream(config))  # pyright: ignore[reportUnknownMemberType]
    return jetstream


async def as_soon_as_it_can(make: Callable[[], Awaitable[_T]]) -> _T:
    """Before the clock runs: servers in an election refuse, and each hears later than the leader of what was made."""
    until = perf_counter() + _PATIENCE
    while True:
        try:
            return await make()
        except (ServiceUnavailableError, NoStreamResponseError, NoRespondersError):
            if perf_counter() >= until:
                raise
            await asyncio.sleep(_PAUSE)


async def fill_raw(jetstream: JetStreamContext, subjects: Sequence[str], events: int) -> dict[str, int]:
    """One message with that many events for each subject, as the store has it after as many in one append."""
    payload = msgspec.msgpack.encode([msgspec.structs.astuple(event) for event in new_events(events)])
    acks: list[Any] = []
    for start in range(0, len(subjects), 64):
        some = subjects[start : start + 64]
        acks += await asyncio.gather(
            *[as_soon_as_it_can(partial(jetstream.publish, s, payload)) for s in some]
        )
    return {subject: ack.seq for subject, ack in zip(subjects, acks, strict=True)}


def _events(size: Size) -> Sequence[Any]:
    return new_events(int(size.seconds * _MOST_PER_SECOND))
