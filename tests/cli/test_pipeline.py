"""What a run keeps in memory, and what it does when the one who reads its answers is slow."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import ClassVar

from rehydrate import Runtime
from rehydrate.cli.run.commands import Orders
from rehydrate.cli.run.lines import CHUNK, LineReader, Source
from rehydrate.cli.run.pipeline import BACKLOG_LINES, Pipeline
from rehydrate.cli.run.report import Report
from rehydrate.cli.run.runs import FreshRun
from rehydrate.cli.run.sending import Sender
from rehydrate.testing.clock import until
from tests.bank import app
from tests.cli.terminal import deposit


class EndlessInput:
    """As many lines as are asked for, up to a number."""

    def __init__(self, lines: int) -> None:
        self.left = lines

    def read(self, size: int, /) -> bytes:
        text = deposit("ada", 1).encode() + b"\n"
        count = min(self.left, size // len(text))
        self.left -= count
        return text * count


async def test_reading_waits_for_whoever_reads_the_answers() -> None:
    source = EndlessInput(24_000)
    may_write = threading.Event()
    written: list[bytes] = []

    def write(answers: bytes) -> None:
        may_write.wait(60)
        written.append(answers)

    async with app.open("memory://") as runtime:
        pipeline = new_pipeline(runtime, source, write)
        running = asyncio.ensure_future(pipeline.execute())
        await until(lambda: runtime.statistics().dispatched >= BACKLOG_LINES)
        await until(lambda: runtime.statistics().busy == 0)
        in_one_chunk = CHUNK // len(deposit("ada", 1))
        assert source.left > 24_000 - 2 * BACKLOG_LINES - 3 * in_one_chunk
        may_write.set()
        await running
    assert sum(answers.count(b"\n") for answers in written) == 24_000


async def run_with(source: Source, write: Callable[[bytes], object]) -> Pipeline:
    async with app.open("memory://") as runtime:
        pipeline = new_pipeline(runtime, source, write)
        await pipeline.execute()
    return pipeline


def new_pipeline(runtime: Runtime, source: Source, write: Callable[[bytes], object]) -> Pipeline:
    return Pipeline(
        lines=LineReader(source),
        orders=Orders(app),
        run=FreshRun(),
        sender=Sender(runtime),
        write=write,
        report=Report(total_bytes=None, shares_terminal=False, wants_bar=False),
        concurrency=16,
        strict=False,
    )


async def test_answers_that_cannot_be_written_end_the_run_with_one_sentence() -> None:
    def disk_full(answers: bytes) -> None:
        raise OSError(28, "No space left on device")

    pipeline = await run_with(EndlessInput(50_000), disk_full)
    assert str(pipeline.trouble) == "the answers cannot be written: [Errno 28] No space left on device"


async def test_input_that_cannot_be_read_ends_the_run_after_what_was_read() -> None:
    class Torn:
        pieces: ClassVar = [deposit("ada", 1).encode() + b"\n"]

        def read(self, size: int, /) -> bytes:
            if self.pieces:
                return self.pieces.pop()
            raise OSError(5, "Input/output error")

    written: list[bytes] = []
    pipeline = await run_with(Torn(), written.append)
    assert str(pipeline.trouble) == "the input cannot be read: [Errno 5] Input/output error"
    assert b"".join(written).count(b"\n") <= 1


async def test_threads_end_with_the_run() -> None:
    before = threading.active_count()
    await run_with(EndlessInput(10), lambda answers: None)
    await until(lambda: threading.active_count() <= before)
