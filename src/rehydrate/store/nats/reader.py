"""Reading: the leader says where something ends, replicas hand out the pages up to there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, Final, Protocol, TypeVar

from rehydrate.errors import CorruptStoreError, StoreUnavailableError
from rehydrate.store.nats.envelope import MAX_EVENTS
from rehydrate.store.nats.history import Entry, History, KnownEnd, Newest
from rehydrate.store.nats.jetstream import LED_ON, PAUSE, JetStream, Message
from rehydrate.store.nats.listing import Listing
from rehydrate.store.nats.log import Log
from rehydrate.store.nats.pages import LogEvents, ReplayedEvents, StreamEvents
from rehydrate.store.nats.subjects import Subjects, matches
from rehydrate.store.port import (
    PAGE_SIZE,
    Head,
    LogFilter,
    LogPage,
    ReplayPage,
    StreamEnd,
    StreamHead,
    StreamPage,
)

T = TypeVar("T")

_MAX_MESSAGES: Final = 1_000
"""How many messages are asked for at a time."""
_MAX_BATCH_BYTES: Final = 8 * 1024 * 1024
_WHOLE_KEPT: Final = 64
_MAX_NUMBER: Final = 2**63 - 1


class _Page(Protocol):
    @property
    def is_cut(self) -> bool: ...
    def take(self, entry: Entry) -> bool: ...
    def may_take(self) -> bool: ...


class Reader:
    """The questions of one opened store. Each begins and ends in itself: the servers keep nothing of it."""

    def __init__(
        self,
        jetstream: JetStream,
        history: History,
        subjects: Subjects,
        log: Log,
        *,
        store: str,
        timeout: float,
    ) -> None:
        self._jetstream = jetstream
        self._history = history
        self._subjects = subjects
        self._log = log
        self._store = store
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._per_message = 1.0
        """How many events a message has had of late."""
        self._era = 0
        self._ends_of_messages: dict[int, None] = {}
        """Positions at which messages end, where readers are who go on from there."""
        self._names = Listing(self._list_streams)

    # ---- streams

    async def ends(self, streams: Sequence[str]) -> list[StreamEnd]:
        era = self._log.era
        ends = await self._true_ends(streams)
        for stream, end in zip(streams, ends, strict=True):
            self._log.learn(stream, end, era)
        return [StreamEnd(end.version, end.event_id) for end in ends]

    async def _true_ends(self, streams: Sequence[str]) -> list[KnownEnd]:
        """By these it is decided whether a state is still the newest: no leader may answer who is none any more."""
        return await self._of_a_leader(lambda: self._history.ends(streams))

    async def _of_a_leader(self, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What is read, if who says where streams end was the leader all the time."""
        give_up = self._loop.time() + self._timeout
        while self._history.is_replicated:
            began = self._loop.time()
            answer: T
            answer, is_led = await asyncio.gather(ask(), self._history.is_led())
            if is_led and (self._loop.time() - began < LED_ON or await self._history.is_led()):
                return answer
            if self._loop.time() > give_up:
                raise StoreUnavailableError(
                    f"{self._store}: its leader has lost touch with the other replicas"
                )
            await asyncio.sleep(PAUSE)
        return await ask()

    async def read_stream(
        self, stream: str, after: int, limit: int, near: int | None, *, may_lag: bool
    ) -> StreamPage:
        if limit <= 0:
            return StreamPage([], is_last=False)

        async def read() -> StreamPage:
            page = StreamEvents(after, limit)
            is_last = await self._fill(page, stream, after, limit, near)
            return StreamPage(page.events, is_last)

        return await (read() if may_lag else self._of_a_leader(read))

    async def replay(self, stream: str, after: int, near: int | None) -> ReplayPage:
        page = ReplayedEvents(after, PAGE_SIZE)
        is_last = await self._fill(page, stream, after, PAGE_SIZE, near)
        return page.page(is_last=is_last)

    async def _fill(self, page: _Page, stream: str, after: int, limit: int, near: int | None) -> bool:
        """Take the events of a stream behind a version; whether these are all."""
        era = self._log.era
        last = await self._history.last(stream)
        if last is None:
            return True
        self._log.learn(stream, last.end, era)
        if last.envelope.version > after + 1:
            number = 1 if after == 0 else (near or 0) // MAX_EVENTS
            is_near = number > 0 and await self._fill_before(page, stream, number, last, after, limit)
            if not is_near:
                # Nobody said where to look, or what was said is of another history.
                number = (await self._history.find(stream, after + 1, last.number)).number
                if not await self._fill_before(page, stream, number, last, after, limit):
                    raise CorruptStoreError(
                        f"version {after + 1} of {stream} is missing: run `rehydrate verify`"
                    )
            if page.is_cut or not page.may_take():
                return False
        page.take(last)
        return not page.is_cut

    async def _fill_before(
        self, page: _Page, stream: str, number: int, last: Entry, after: int, limit: int
    ) -> bool:
        """Take what lies between a number and the last append; false, and nothing is taken, if it begins too late."""
        version = after + 1
        async with aclosing(
            self._entries(self._history.subject(stream), number, last.number, limit)
        ) as entries:
            async for entry in entries:
                envelope = entry.envelope
                if entry.number >= last.number:
                    break
                if envelope.last_version < version:
                    continue
                if envelope.version > version:
                    if version == after + 1:
                        return False
                    raise CorruptStoreError(
                        f"version {version} of {stream} is missing: run `rehydrate verify`"
                    )
                if not page.may_take() or not page.take(entry):
                    return True
                version = envelope.last_version + 1
        return version > after + 1

    async def _entries(self, pattern: str, number: int, upto: int, limit: int) -> AsyncGenerator[Entry, None]:
        """Appends from a number on, until one is reached that the leader has; a replica that lags is asked again."""
        give_up = self._loop.time() + self._timeout
        while True:
            batch = await self._jetstream.batch(
                self._subjects.events_stream, pattern, number, self._messages_for(limit), _MAX_BATCH_BYTES
            )
            for message in batch.messages:
                yield self._entry(message)
            if batch.messages:
                number = batch.messages[-1].number + 1
                if number > upto:
                    return
            if batch.is_end:
                if self._loop.time() > give_up:
                    raise StoreUnavailableError(
                        f"{self._store}: the server that answered lacks what its leader has stored"
                    )
                await asyncio.sleep(PAUSE / 10)

    def _entry(self, message: Message) -> Entry:
        entry = self._history.entry(message)
        self._per_message += (len(entry.envelope.events) - self._per_message) / 32
        return entry

    def _messages_for(self, events: int) -> int:
        return max(2, min(_MAX_MESSAGES, int(events / self._per_message) + 2))

    # ---- the log

    async def read_all(self, after: int, limit: int, where: LogFilter | None) -> LogPage:
        if limit <= 0:
            return LogPage([], after, "", is_last=False)
        page = LogEvents(after, limit, where)
        number = after // MAX_EVENTS + self._is_end_of_message(after)
        if number > _MAX_NUMBER // MAX_EVENTS:
            return LogPage([], after, "", is_last=True)
        pattern = self._pattern(where)
        head = await self._read_on(page, pattern, max(1, number), limit if where is None else _MAX_MESSAGES)
        if page.event_id and not page.is_cut:
            self._remember_end(page.position)
        is_last = head is not None and page.position >= head.position
        return LogPage(page.events, page.position, page.event_id, is_last)

    async def _read_on(self, page: LogEvents, pattern: str, number: int, limit: int) -> Head | None:
        """Fill a page up to where the log ended when this began; the head, if the page got there."""
        asking = self._loop.create_task(self._history.newest())
        asking.add_done_callback(_look_at)
        give_up = self._loop.time() + self._timeout
        try:
            while True:
                batch = await self._jetstream.batch(
                    self._subjects.events_stream,
                    pattern,
                    number,
                    self._messages_for(limit),
                    _MAX_BATCH_BYTES,
                )
                for message in batch.messages:
                    entry = self._entry(message)
                    number = entry.number + 1
                    if not (page.may_take() and page.take(entry)):
                        return None
                if not page.may_take():
                    return None if not batch.is_end else _head(await asking)
                if not batch.is_end:
                    continue
                newest = await asking
                if newest is None or newest.number < number:
                    return _head(newest)
                if pattern != self._subjects.all_events:
                    is_nothing = await self._is_nothing_there(pattern, number, newest)
                    if is_nothing:
                        self._skip_to(page, newest)
                        return _head(newest)
                    if is_nothing is None:
                        pattern = self._subjects.all_events
                        continue
                if self._loop.time() > give_up:
                    raise StoreUnavailableError(
                        f"{self._store}: the server that answered lacks what its leader has stored"
                    )
                await asyncio.sleep(PAUSE / 10)
        finally:
            asking.cancel()

    async def _is_nothing_there(self, pattern: str, number: int, newest: Newest) -> bool | None:
        """Whether nothing of a pattern lies between a number and the newest append; None where it has to be looked through.

        Two answers do not prove it: a leader that others have replaced does not know at once, and may give one of them. So
        it is asked for both at once: whoever knows the newest append knows what is before it.
        """
        if not self._history.is_replicated:
            behind = await self._history.next(pattern, number)
            return behind is None or behind.number > newest.number
        ends = await self._jetstream.first_of_newest(
            self._subjects.events_stream,
            [pattern, self._history.subject(newest.stream)],
            number,
            newest.number,
        )
        if ends.is_too_much:
            return None
        if not ends.messages or ends.messages[0].number != newest.number:
            return False
        return not matches(pattern, ends.messages[0].subject)

    def _skip_to(self, page: LogEvents, newest: Newest) -> None:
        """Nothing that matches lies before the newest append."""
        head = _head(newest)
        if head.position > page.position:
            page.position, page.event_id = head.position, head.event_id

    def _pattern(self, where: LogFilter | None) -> str:
        """What the server can sort out by itself; the page sorts out the rest."""
        if where is not None and len(where.streams) == 1:
            return self._subjects.events(next(iter(where.streams)))
        if where is not None and not where.streams and len(where.aggregates) == 1:
            return self._subjects.events_of(next(iter(where.aggregates)))
        return self._subjects.all_events

    def _is_end_of_message(self, position: int) -> bool:
        if self._era != self._log.era:
            # Another history may have longer messages.
            self._era = self._log.era
            self._ends_of_messages.clear()
        return position in self._ends_of_messages

    def _remember_end(self, position: int) -> None:
        self._ends_of_messages.pop(position, None)
        self._ends_of_messages[position] = None
        if len(self._ends_of_messages) > _WHOLE_KEPT:
            del self._ends_of_messages[next(iter(self._ends_of_messages))]

    async def head(self) -> Head:
        return _head(await self._history.newest())

    # ---- names

    async def streams(self, prefix: str, after: str, limit: int) -> list[StreamHead]:
        aggregate, dash, _ = prefix.partition("-")
        pattern = self._subjects.events_of(aggregate) if dash else self._subjects.all_events
        names = await self._names.page(pattern, prefix, after, limit)
        ends = await self._history.ends(names)
        return [StreamHead(name, end.version) for name, end in zip(names, ends, strict=True) if end.version]

    async def _list_streams(self, pattern: str) -> list[str]:
        found = await self._jetstream.subjects(self._subjects.events_stream, pattern)
        return [self._subjects.stream_of(subject) for subject in found]


def _head(newest: Newest | None) -> Head:
    return Head(0, "") if newest is None else Head(newest.position, newest.event_id)


def _look_at(asked: asyncio.Task[Newest | None]) -> None:
    """Whoever has found no use for the answer has none for its error, either."""
    if not asked.cancelled():
        asked.exception()
