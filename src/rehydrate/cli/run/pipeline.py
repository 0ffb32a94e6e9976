"""From lines to answers: many aggregates at a time, the lines of each in order, the answers in the order of the input.

    reader -> backlog (input order) -> ready -> workers -> backlog -> printer -> stdout
                                        ^  a line waits in its lane while an earlier one of its aggregate is under way

What is in memory is the backlog, bounded in lines and bytes, however long the input is.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable
from contextlib import aclosing, closing
from functools import partial
from typing import Final

from rehydrate.cli.run.blocking import BlockingThread
from rehydrate.cli.run.commands import Orders, accepted, failed, is_blank, rejected
from rehydrate.cli.run.entries import Entry, Outcome
from rehydrate.cli.run.lines import Line, LineReader
from rehydrate.cli.run.report import Report
from rehydrate.cli.run.runs import Run
from rehydrate.cli.run.sending import Sender, is_stores_fault
from rehydrate.domain.rejection import Rejection
from rehydrate.errors import RehydrateError

BACKLOG_LINES: Final = 8_192
BACKLOG_BYTES: Final = 64 * 1024 * 1024
_BATCH_BYTES: Final = 1024 * 1024
_SLICE: Final = 256
"""Lines that are read between two turns of the event loop."""


class Pipeline:
    """One run from its first line to its last answer."""

    def __init__(
        self,
        *,
        lines: LineReader,
        orders: Orders,
        run: Run,
        sender: Sender,
        write: Callable[[bytes], object],
        report: Report,
        concurrency: int,
        strict: bool,
    ) -> None:
        self.trouble: RehydrateError | None = None
        """Why the run stopped before its end."""
        self.is_reader_gone = False
        """Whether answers can no longer be written; `trouble` says why, unless they are no longer read."""
        self._lines = lines
        self._orders = orders
        self._run = run
        self._sender = sender
        self._write = write
        self._report = report
        self._concurrency = concurrency
        self._strict = strict
        self._limit = sys.maxsize
        """Lines after this one are not sent."""
        self._backlog: deque[Entry] = deque()
        self._backlog_bytes = 0
        self._lanes: dict[str, deque[Entry] | None] = {}
        """The aggregates that have a line under way, and their lines that wait for it."""
        self._ready: asyncio.Queue[Entry] = asyncio.Queue()
        self._undone = 0
        self._has_room = asyncio.Event()
        self._is_printable = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._is_ending = False
        self._reading: asyncio.Task[None] | None = None

    @property
    def stopped_early(self) -> bool:
        """Whether there may be lines that were not sent."""
        return self._limit < sys.maxsize

    async def execute(self) -> None:
        """Run all lines, or those up to where it is stopped, and write their answers."""
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(self._run.keep(self.stop))
            printing = tasks.create_task(self._print())
            workers = [tasks.create_task(self._work()) for _ in range(self._concurrency)]
            self._reading = tasks.create_task(self._read())
            await asyncio.wait([self._reading])
            while self._undone:
                self._is_idle.clear()
                await self._is_idle.wait()
            for worker in workers:
                worker.cancel()
            self._is_ending = True
            self._is_printable.set()
            await printing
            self._run.close()
            await keeping

    def stop(self, trouble: RehydrateError | None = None) -> None:
        """Send nothing more; what is under way is finished and answered."""
        self.trouble = self.trouble or trouble
        self._limit = 0
        self._sender.halt()
        if self._reading is not None:
            self._reading.cancel()

    # ---- reading

    async def _read(self) -> None:
        last = 0
        try:
            async with aclosing(self._lines.batches()) as batches:
                async for lines in batches:
                    last = lines[-1].number
                    for line in self._run.due(lines):
                        await self._admit(line)
            for line in self._run.ended(last):
                await self._admit(line)
        except RehydrateError as error:
            self.stop(error)
        except OSError as error:
            self.stop(RehydrateError(f"the input cannot be read: {error}"))

    async def _admit(self, line: Line) -> None:
        while len(self._backlog) >= BACKLOG_LINES or self._backlog_bytes >= BACKLOG_BYTES:
            self._has_room.clear()
            await self._has_room.wait()
        await self._run.room_for(line.number)
        if line.number % _SLICE == 0:
            await asyncio.sleep(0)
        entry = Entry(line)
        self._backlog.append(entry)
        self._backlog_bytes += entry.size
        if is_blank(line):
            self._settled(entry, Outcome.BLANK, b"")
        elif (answer := self._run.earlier_answer(line.number)) is not None:
            self._settled(entry, Outcome.EARLIER, answer)
        else:
            self._order(entry, line)

    def _order(self, entry: Entry, line: Line) -> None:
        try:
            order = self._orders.read(line)
        except RehydrateError as error:
            self._fail(entry, error)
            return
        entry.order = order
        self._undone += 1
        stream = order.aggregate.stream(order.id)
        if stream not in self._lanes:
            self._lanes[stream] = None
            self._ready.put_nowait(entry)
        elif (lane := self._lanes[stream]) is None:
            self._lanes[stream] = deque([entry])
        else:
            lane.append(entry)

    # ---- sending

    async def _work(self) -> None:
        while True:
            entry = await self._ready.get()
            if entry.line <= self._limit:
                await self._send(entry)
            else:
                self._done(entry, Outcome.UNSENT, b"")

    async def _send(self, entry: Entry) -> None:
        order = entry.order
        assert order is not None
        command_id, caused_at = self._run.identity(entry.line, order)
        try:
            result = await self._sender.send(order, command_id, caused_at)
        except Rejection as no:
            self._stored_nothing(entry, Outcome.REJECTED, rejected(entry.line, order, no))
        except RehydrateError as error:
            self._fail(entry, error)
            self._leave_lane(entry)
        else:
            answer = accepted(entry.line, order, result)
            if result.events:
                self._done(entry, Outcome.ACCEPTED, answer)
            else:
                self._stored_nothing(entry, Outcome.ACCEPTED, answer)

    def _stored_nothing(self, entry: Entry, outcome: Outcome, answer: bytes) -> None:
        """Its repeat would be decided anew, on a later state: that it was decided must be known for good first."""
        saved = self._run.settle(entry.line, answer)
        if saved is None:
            self._done(entry, outcome, answer)
        else:
            saved.add_done_callback(
                lambda saved: self._done(
                    entry, *((Outcome.UNSENT, b"") if saved.cancelled() else (outcome, answer))
                )
            )

    def _fail(self, entry: Entry, error: RehydrateError) -> None:
        self._report.complain(entry.line, error)
        answer = failed(entry.line, entry.order, error)
        if is_stores_fault(error):
            self._settled(entry, Outcome.UNFINISHED, answer)
            self.stop(error)
            return
        self._settled(entry, Outcome.FAILED, answer)
        if self._strict:
            self._limit = min(self._limit, entry.line)
            if self._reading is not None:
                self._reading.cancel()

    def _done(self, entry: Entry, outcome: Outcome, answer: bytes) -> None:
        self._settled(entry, outcome, answer)
        self._leave_lane(entry)

    def _leave_lane(self, entry: Entry) -> None:
        """Let the next line of the same aggregate go."""
        assert entry.order is not None
        stream = entry.order.aggregate.stream(entry.order.id)
        lane = self._lanes[stream]
        if lane:
            self._ready.put_nowait(lane.popleft())
        else:
            del self._lanes[stream]
        self._undone -= 1
        if self._undone == 0:
            self._is_idle.set()

    def _settled(self, entry: Entry, outcome: Outcome, answer: bytes) -> None:
        entry.outcome = outcome
        entry.answer = answer
        if self._backlog[0].outcome is not None:
            self._is_printable.set()

    # ---- answering

    async def _print(self) -> None:
        with closing(BlockingThread("rehydrate run: output")) as writer:
            while not (self._is_ending and not self._backlog):
                await self._is_printable.wait()
                self._is_printable.clear()
                while settled := self._next_settled():
                    answers = b"".join([entry.answer for entry in settled])
                    if answers and not self.is_reader_gone:
                        await self._put_out(writer, answers)
                    self._answered(settled)

    async def _put_out(self, writer: BlockingThread, answers: bytes) -> None:
        self._report.step_aside()
        try:
            await writer.call(partial(self._write, answers))
        except BrokenPipeError:
            self.is_reader_gone = True
            self.stop()
        except OSError as error:
            self.is_reader_gone = True
            self.stop(RehydrateError(f"the answers cannot be written: {error}"))

    def _next_settled(self) -> list[Entry]:
        """The settled lines at the front of the backlog, as many as are written at once."""
        settled: list[Entry] = []
        size = 0
        while self._backlog and self._backlog[0].outcome is not None and size < _BATCH_BYTES:
            entry = self._backlog.popleft()
            self._backlog_bytes -= entry.size
            size += len(entry.answer)
            settled.append(entry)
        if settled:
            self._has_room.set()
        return settled

    def _answered(self, settled: list[Entry]) -> None:
        for entry in settled:
            if not self.is_reader_gone:
                self._tell_run(entry)
            assert entry.outcome is not None
            self._report.count(entry.outcome)
        self._report.show(self._lines.bytes_read)

    def _tell_run(self, entry: Entry) -> None:
        try:
            self._run.answered(entry)
        except RehydrateError as error:
            self.stop(error)
