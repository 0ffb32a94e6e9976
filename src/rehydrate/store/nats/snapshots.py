"""Snapshots: the messages of one subject per stream, of which the last counts."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from rehydrate.domain.streams import check_stream
from rehydrate.store.nats.history import History
from rehydrate.store.nats.jetstream import JetStream, Message
from rehydrate.store.nats.keeping import Keeper, Unknown, packed
from rehydrate.store.nats.subjects import Subjects
from rehydrate.store.port import StoredSnapshot


class _Saved(msgspec.Struct, frozen=True, array_like=True):
    format: int
    version: int
    position: int
    event_id: str
    schema: int
    fingerprint: str
    data: bytes
    recorded_at: int


_decode: Final = msgspec.msgpack.Decoder(_Saved).decode
_FORMAT: Final = 1
_LEADER_WITHIN: Final = 0.3
"""Seconds until a snapshot is read from whatever server has it: an election takes many times as long."""
_ANYBODY_WITHIN: Final = 0.2
"""Seconds after which no server is expected to have it, as long as nobody is elected. So it is when all were started anew."""
_SHORT: Final = 10_000
"""Events that are replayed sooner than an election is over."""
_PAGE: Final = 16
_PAGE_BYTES: Final = 16 * 1024 * 1024


class Snapshots:
    """The snapshots of one opened store."""

    def __init__(self, jetstream: JetStream, history: History, keeper: Keeper, subjects: Subjects) -> None:
        self._jetstream = jetstream
        self._history = history
        self._keeper = keeper
        self._subjects = subjects
        self._in = subjects.snapshots_stream

    async def save(self, snapshot: StoredSnapshot, keep: int) -> None:
        # A subject that is too long would cost the connection.
        check_stream(snapshot.stream)
        subject = self._subjects.snapshots(snapshot.stream)
        data = packed(
            _Saved(
                _FORMAT,
                snapshot.version,
                snapshot.position,
                snapshot.event_id,
                snapshot.schema,
                snapshot.fingerprint,
                snapshot.data,
                snapshot.recorded_at,
            )
        )
        self._keeper.check_size(f"a snapshot of {snapshot.stream}", data)
        # Where one is kept, it takes the others' place by itself.
        headers = {"Nats-Rollup": "sub"} if keep == 1 else None
        attempts = self._keeper.attempts()
        while True:
            last = await self._jetstream.last(self._in, subject)
            if (
                last is not None
                and (saved := _read(last.data)) is not None
                and saved.version > snapshot.version
            ):
                return
            try:
                number = await self._keeper.store(
                    subject, data, last=0 if last is None else last.number, headers=headers
                )
            except Unknown as error:
                await attempts.pause(error)
                continue
            if number is not None:
                break
            await attempts.pause("another snapshot was saved at the same time")
        if keep > 1 and last is not None:
            await self._jetstream.api(f"STREAM.PURGE.{self._in}", {"filter": subject, "keep": keep})

    async def load(self, stream: str) -> StoredSnapshot | None:
        subject = self._subjects.snapshots(stream)
        try:
            async with asyncio.timeout(_LEADER_WITHIN):
                last = await self._jetstream.last(self._in, subject)
        except TimeoutError:
            last = await self._last_without_leader(stream)
        saved = None if last is None else _read(last.data)
        if saved is None:
            return None
        return StoredSnapshot(
            stream=stream,
            version=saved.version,
            position=saved.position,
            event_id=saved.event_id,
            schema=saved.schema,
            fingerprint=saved.fingerprint,
            data=saved.data,
            recorded_at=saved.recorded_at,
        )

    async def _last_without_leader(self, stream: str) -> Message | None:
        """There is no leader now, and an actor waits: an older snapshot, or none, only makes it replay more events."""
        reading = asyncio.create_task(self._last_of_replica(self._subjects.snapshots(stream)))
        looking = asyncio.create_task(self._is_short(stream))
        try:
            await asyncio.wait([reading, looking], return_when=asyncio.FIRST_COMPLETED)
            if not reading.done() and await looking:
                return None
            return await reading
        finally:
            for task in (reading, looking):
                task.cancel()
            await asyncio.wait([reading, looking])

    async def _is_short(self, stream: str) -> bool:
        await asyncio.sleep(_ANYBODY_WITHIN)
        last = await self._history.last(stream)
        return last is None or last.envelope.last_version <= _SHORT

    async def _last_of_replica(self, subject: str) -> Message | None:
        number, last = 1, None
        while True:
            batch = await self._jetstream.batch(self._in, subject, number, _PAGE, _PAGE_BYTES)
            if batch.messages:
                last = batch.messages[-1]
                number = last.number + 1
            if batch.is_end or not batch.messages:
                return last

    async def delete(self, stream: str) -> None:
        subject = self._subjects.snapshots(stream)
        last = await self._jetstream.last(self._in, subject)
        if last is not None:
            # A question is asked again where its answer is late: what is saved after this is not to go with the second one.
            up_to_there = {"filter": subject, "seq": last.number + 1}
            await self._jetstream.api(f"STREAM.PURGE.{self._in}", up_to_there)


def _read(data: bytes) -> _Saved | None:
    """None for what this program cannot read: then the events are replayed, and a new one takes its place."""
    try:
        saved = _decode(data)
    except msgspec.DecodeError:
        return None
    return saved if saved.format == _FORMAT else None
