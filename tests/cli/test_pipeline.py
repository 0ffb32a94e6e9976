"""What a run keeps in memory, and what it does when the one who reads its answers is slow."""

from __future__ import annotations

import asyncio
import threading

from rehydrate.cli.run.commands import Orders
from rehydrate.cli.run.lines import CHUNK, LineReader
from rehydrate.cli.run.pipeline import WINDOW_LINES, Pipeline
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
        pipeline = Pipeline(
            lines=LineReader(source),
            orders=Orders(app),
            run=FreshRun(),
            sender=Sender(runtime),
            write=write,
            report=Report(total_bytes=None, shares_terminal=False),
            concurrency=16,
            strict=False,
        )
        running = asyncio.ensure_future(pipeline.execute())
        await until(lambda: runtime.statistics().dispatched >= WINDOW_LINES)
        await until(lambda: runtime.statistics().busy == 0)
        in_one_chunk = CHUNK // len(deposit("ada", 1))
        assert source.left > 24_000 - 2 * WINDOW_LINES - 3 * in_one_chunk
        may_write.set()
        await running
    assert sum(answers.count(b"\n") for answers in written) == 24_000
