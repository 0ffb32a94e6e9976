"""`rehydrate import`: events from lines of JSON into a store, as `rehydrate export` wrote them.

The store must be empty or hold the beginning of the file; what it holds is compared, and what it lacks is appended and
read back. So a call that ended early is made again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Final

from rehydrate.cli.asking import persistently
from rehydrate.cli.endings import say
from rehydrate.cli.input import Input
from rehydrate.cli.interrupts import interruptible
from rehydrate.cli.moving.appending import Appender
from rehydrate.cli.moving.bar import bar
from rehydrate.cli.moving.comparison import Compared, NotACopyError, compare
from rehydrate.cli.moving.copying import Advance
from rehydrate.cli.moving.event_lines import MalformedEventError, check_first, count_in, event_in
from rehydrate.cli.moving.logs import Reader, StoreOrigin, read_log
from rehydrate.cli.moving.packing import Packer, Parcel
from rehydrate.cli.run.lines import Line, LineReader
from rehydrate.cli.run.report import many
from rehydrate.errors import RehydrateError, StoreUnavailableError
from rehydrate.store.port import Store, StoredEvent
from rehydrate.store.url import open_store

MAX_LINE: Final = 64 * 1024 * 1024
"""Bytes of a line: more than the largest append of any store, in base64."""
READ_BACK: Final = 5_000
"""Events that are stored before they are read back."""
OUTLOOK: Final = "the same call goes on there"


class MalformedFileError(RehydrateError):
    """A line of an export is not what it should be; neither it nor a later one was stored."""


class EventFile:
    """An export, event by event: each stands at the number of its line."""

    def __init__(self, given: Input) -> None:
        self.name = given.name
        self.lines = LineReader(given.source, max_line=MAX_LINE)
        self._count = 0
        self._promised: int | None = None

    def place(self, position: int) -> str:
        return f"line {position:,}"

    async def pages(self) -> AsyncGenerator[list[StoredEvent], None]:
        """The events, and at the end whether they were all.

        Raises `MalformedFileError`.
        """
        number = 0
        try:
            async with aclosing(self.lines.batches()) as batches:
                async for lines in batches:
                    number = lines[-1].number
                    if events := list(self._events(lines)):
                        yield events
        except OSError as error:
            raise RehydrateError(f"{self.name} cannot be read: {error.strerror or error}") from error
        if self._promised is None:
            raise MalformedFileError(
                f"{self.name} was cut off: it ends with line {number:,}, and not with the line that counts its events"
            )

    def _events(self, lines: Iterable[Line]) -> Iterable[StoredEvent]:
        for line in lines:
            try:
                event = self._read(line)
            except MalformedEventError as error:
                raise MalformedFileError(f"{self.name}, line {line.number:,}: {error}") from error
            if event is not None:
                self._count += 1
                yield event

    def _read(self, line: Line) -> StoredEvent | None:
        if line.too_long:
            raise MalformedEventError(f"it has {line.too_long:,} bytes, and {MAX_LINE:,} are allowed")
        if line.number == 1:
            check_first(line.text)
            return None
        if not line.text.strip():
            return None
        if self._promised is not None:
            raise MalformedEventError("there is something behind the line that counts the events")
        promised = count_in(line.text)
        if promised is None:
            return event_in(line.text, line.number)
        if promised != self._count:
            raise MalformedEventError(
                f"it counts {promised:,} events, and there are {self._count:,} before it"
            )
        self._promised = promised
        return None


class EventImport:
    """The events of a file on their way into a store."""

    def __init__(self, file: EventFile, destination: Store) -> None:
        self.compared = Compared()
        """How far the store is known to hold what the file holds."""
        self.before = 0
        """Events that it held when this call began."""
        self._file = file
        self._store = destination
        self._target = StoreOrigin(destination)
        self._appender = Appender(file, destination)
        self._waiting: deque[StoredEvent] = deque()
        """Events that were not read back yet, in their order."""
        self._stored = 0
        """How many of those are stored."""

    @property
    def stored(self) -> int:
        """Events of the file that the store holds."""
        return self.compared.events + self._stored

    async def execute(self, advance: Advance, total_bytes: int | None) -> None:
        """Compare what is there, and store what is missing.

        Raises `NotACopyError`, `MalformedFileError`, `OutOfPlaceError`, or what the store raises.
        """
        events = Reader(self._file.pages())
        try:
            await self._compare_what_is_there(events, advance)
            packer = Packer(self._store.capabilities)
            async for page in events.rest():
                self._waiting.extend(page)
                for batch in packer.add(page):
                    await self._send(batch)
                advance("importing", self._file.lines.bytes_read, total_bytes or 0)
            for batch in packer.finish():
                await self._send(batch)
            await self._read_back()
        finally:
            await events.close()

    async def _compare_what_is_there(self, events: Reader, advance: Advance) -> None:
        head = await persistently(self._store.head)
        copies = Reader(read_log(self._store, after=0, until=head.position))
        try:
            await compare(
                self._file,
                self._target,
                events,
                copies,
                so_far=self.compared,
                advance=lambda now: advance("comparing", now.destination_position, head.position),
            )
        except NotACopyError as error:
            raise NotACopyError(
                f"{self._store.url} is neither empty nor the beginning of this import: {error}; nothing was written"
            ) from None
        finally:
            await copies.close()
        self.before = self.compared.events

    async def _send(self, batch: list[Parcel]) -> None:
        await self._appender.send(batch)
        self._stored += sum(len(parcel.events) for parcel in batch)
        if self._stored >= READ_BACK:
            await self._read_back()

    async def _read_back(self) -> None:
        stored = [self._waiting.popleft() for _ in range(self._stored)]
        if not stored:
            return
        self._stored = 0
        head = await persistently(self._store.head)
        events = Reader(_one_page(stored))
        copies = Reader(read_log(self._store, after=self.compared.destination_position, until=head.position))
        try:
            await compare(
                self._file,
                self._target,
                events,
                copies,
                so_far=self.compared,
                at_least=stored[-1].position,
                advance=lambda _: None,
            )
        finally:
            await copies.close()


async def _one_page(events: list[StoredEvent]) -> AsyncGenerator[list[StoredEvent], None]:
    yield events


async def import_events(url: str, given: Input) -> int:
    """Store the events of an export. Returns the exit code."""
    return await interruptible(_import(url, given), f"what was imported stays, and {OUTLOOK}")


async def _import(url: str, given: Input) -> int:
    store = await open_store(url)
    call = EventImport(EventFile(given), store)
    try:
        with bar(wanted=not given.is_typed) as advance:
            await call.execute(advance, given.total_bytes)
    except StoreUnavailableError as error:
        raise RehydrateError(f"{error}; what was imported stays, and {OUTLOOK}") from error
    except MalformedFileError as error:
        raise RehydrateError(
            f"{error}; {many(call.stored, 'event')} before it are stored, and {OUTLOOK}"
        ) from error
    finally:
        await store.close()
    new = call.compared.events - call.before
    there = f", {call.before:,} were there before" if call.before else ""
    say(
        f"{many(new, 'event')} imported from {given.name} into {store.url}{there}: all {call.compared.events:,} were "
        "compared, and are the same in the same order"
    )
    if call.compared.events:
        say(
            f"checkpoints are not in {given.name}: a subscription that has none in {store.url} begins at the first event, "
            "and does again what it did before; rehydrate copy takes checkpoints along"
        )
    return 0
