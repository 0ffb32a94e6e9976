"""What the leader knows of single streams: where they end, and which message holds a version."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from rehydrate.errors import CorruptStoreError, StoreUnavailableError
from rehydrate.store.nats.envelope import Envelope, position_of, unpack
from rehydrate.store.nats.failures import JetStreamError
from rehydrate.store.nats.jetstream import JetStream, Message
from rehydrate.store.nats.subjects import Subjects

_AT_ONCE: Final = 256
"""How many questions are under way at a time."""
EVERYTHING: Final = ">"
_LARGE: Final = 16 * 1024
"""Bytes of a message that is not asked for twice."""


class KnownEnd(msgspec.Struct, frozen=True, gc=False):
    """Where a stream ends."""

    version: int
    number: int
    """Of its last message."""
    event_id: str


NOTHING: Final = KnownEnd(0, 0, "")


class Entry(msgspec.Struct, frozen=True):
    """An append as it lies in the log."""

    stream: str
    number: int
    """Which message it is."""
    envelope: Envelope

    @property
    def end(self) -> KnownEnd:
        """Where its stream ends, if it is the last one."""
        return KnownEnd(self.envelope.last_version, self.number, self.envelope.last_id)


class Newest(msgspec.Struct, frozen=True):
    """The newest append of all: where the log ends."""

    stream: str
    number: int
    position: int
    event_id: str


class History:
    """Questions to the leader about streams."""

    def __init__(self, jetstream: JetStream, subjects: Subjects) -> None:
        self._jetstream = jetstream
        self._subjects = subjects
        self._in = subjects.events_stream
        self.is_replicated = True
        self._large: tuple[tuple[int, str], Newest] | None = None
        """The newest append, where it was large, and what tells it from every other."""

    def stands_alone(self) -> None:
        """The server is no cluster: nobody else could have been elected."""
        self.is_replicated = False

    def subject(self, stream: str) -> str:
        return self._subjects.events(stream)

    def entry(self, message: Message) -> Entry:
        envelope = unpack(message.data, f"message {message.number} of {self._in}")
        return Entry(self._subjects.stream_of(message.subject), message.number, envelope)

    async def newest(self) -> Newest | None:
        """The newest append of all. One that is large is fetched once: who waits for events asks again and again."""
        if self._large is not None:
            mark, newest = self._large
            if await self._jetstream.mark(self._in) == mark:
                return newest
            self._large = None
        message = await self._jetstream.last(self._in, EVERYTHING)
        if message is None:
            return None
        entry = self.entry(message)
        position = position_of(entry.number, len(entry.envelope.events) - 1)
        newest = Newest(entry.stream, entry.number, position, entry.envelope.last_id)
        if len(message.data) > _LARGE:
            self._large = (message.number, message.stored_at), newest
        return newest

    async def last(self, stream: str) -> Entry | None:
        """The newest append of a stream."""
        return self._entry(await self._jetstream.last(self._in, self.subject(stream)))

    async def next(self, pattern: str, number: int) -> Entry | None:
        """The first append of a subject or pattern from a number on."""
        return self._entry(await self._jetstream.next(self._in, pattern, number))

    async def next_in(self, stream: str, number: int) -> Entry | None:
        """The first append of a stream from a number on."""
        return await self.next(self.subject(stream), number)

    async def ends(self, streams: Sequence[str]) -> list[KnownEnd]:
        """Where streams end."""
        ends: dict[str, KnownEnd] = {}
        asked = list(dict.fromkeys(streams))
        for start in range(0, len(asked), _AT_ONCE):
            part = asked[start : start + _AT_ONCE]
            for stream, last in zip(part, await asyncio.gather(*map(self.last, part)), strict=True):
                ends[stream] = NOTHING if last is None else last.end
        return [ends[stream] for stream in streams]

    async def is_led(self) -> bool:
        """Whether what the leader says of the end of streams is true now, and not of before others elected another."""
        return await self._jetstream.is_led(self._in)

    async def find(self, stream: str, version: int, upto: int) -> Entry:
        """The append that holds a version, among the messages up to a number, at which the stream has one.

        Raises `StoreUnavailableError` where a leader who has been replaced answers, who lacks what his successor stored.
        """
        subject = self.subject(stream)
        # Messages of one subject lie in the order of their versions: halve the numbers between which it must lie.
        low, high = 1, upto
        while low <= high:
            middle = (low + high) // 2
            entry = await self.next(subject, middle)
            if entry is None:
                raise StoreUnavailableError(
                    f"{self._in}: the server that answered lacks message {upto} of {stream}"
                )
            if entry.envelope.version > version:
                high = middle - 1
            elif entry.envelope.last_version < version:
                low = entry.number + 1
            else:
                return entry
        raise CorruptStoreError(f"version {version} of {stream} is missing: run `rehydrate verify`")

    async def is_sealed(self) -> bool:
        try:
            info = await self._jetstream.api(f"STREAM.INFO.{self._in}")
        except JetStreamError as error:
            raise self._jetstream.refused(error) from error
        return bool(info["config"].get("sealed"))

    def _entry(self, message: Message | None) -> Entry | None:
        return None if message is None else self.entry(message)
