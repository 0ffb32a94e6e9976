"""One call of `rehydrate run`: opens everything, runs the pipeline, listens for Ctrl-C, and says how it went."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import NamedTuple

from rehydrate.app import App
from rehydrate.cli.endings import FAILED, READER_GONE, abandon_stdout, say
from rehydrate.cli.interrupts import CODES, listening
from rehydrate.cli.run.commands import Orders
from rehydrate.cli.run.lines import LineReader, Source
from rehydrate.cli.run.pipeline import Pipeline
from rehydrate.cli.run.progress import InputChangedError, RunProgress, TakenOverError, take_run
from rehydrate.cli.run.report import Report, many
from rehydrate.cli.run.runs import FreshRun, NamedRun, Run
from rehydrate.cli.run.sending import Sender
from rehydrate.runtime.runtime import Runtime
from rehydrate.store.port import Store


class Options(NamedTuple):
    """What the command line says about a run."""

    store: str | Store
    name: str | None
    strict: bool
    concurrency: int


class Streams(NamedTuple):
    """Where lines come from and answers go."""

    source: Source
    total_bytes: int | None
    write: Callable[[bytes], object]
    shares_terminal: bool
    """Whether answers go to a terminal, on which a bar has to step aside for them."""
    is_typed: bool
    """Whether a person types the lines: a bar would stand where they type."""


async def run_lines(app: App, options: Options, streams: Streams) -> int:
    """Run every line, write every answer, and return the exit code."""
    async with app.open(options.store, consumers=False) as runtime:
        progress = None if options.name is None else await take_run(runtime.store, options.name)
        return await _Session(app, runtime, progress, options, streams).execute()


class _Session:
    def __init__(
        self, app: App, runtime: Runtime, progress: RunProgress | None, options: Options, streams: Streams
    ) -> None:
        self._progress = progress
        self._signal: signal.Signals | None = None
        self._report = Report(
            total_bytes=streams.total_bytes,
            shares_terminal=streams.shares_terminal,
            wants_bar=not streams.is_typed,
        )
        run: Run = FreshRun() if progress is None else NamedRun(progress, strict=options.strict)
        self._pipeline = Pipeline(
            lines=LineReader(streams.source),
            orders=Orders(app),
            run=run,
            sender=Sender(runtime),
            write=streams.write,
            report=self._report,
            concurrency=options.concurrency,
            strict=options.strict,
        )

    async def execute(self) -> int:
        try:
            with listening(self._hear):
                await self._pipeline.execute()
        finally:
            self._report.end()
        if self._pipeline.is_reader_gone and self._pipeline.trouble is None:
            abandon_stdout()
            return READER_GONE
        return self._tell()

    def _hear(self, number: signal.Signals) -> None:
        if self._signal is not None:
            self._report.end()
            os._exit(CODES[number])
        self._signal = number
        self._pipeline.stop()

    def _tell(self) -> int:
        trouble = self._pipeline.trouble
        if self._report.commands or self._progress is None:
            say(self._report.summary())
        if self._signal is not None:
            say("interrupted: nothing more was sent, and what was under way is finished and answered")
        if trouble is not None:
            say(str(trouble))
        if not isinstance(trouble, TakenOverError | InputChangedError):
            is_whole = trouble is None and self._signal is None and not self._pipeline.stopped_early
            say(
                _fresh_outlook()
                if self._progress is None
                else self._outlook(self._progress, is_whole=is_whole)
            )
        if self._signal is not None:
            return CODES[self._signal]
        return FAILED if trouble is not None or self._report.failures else 0

    def _outlook(self, progress: RunProgress, *, is_whole: bool) -> str:
        """Where a named run stands, and what the same call would do next."""
        name, failed = f"run {progress.name!r}", len(progress.failed)
        if not is_whole:
            return f"{name} is not finished: the same call goes on at line {progress.first:,}{_and_failed(failed)}"
        if failed:
            return f"{name} is finished but for {many(failed, 'failed line')}: the same call runs them again"
        if self._report.commands == 0 and not progress.is_new:
            return f"{name} was finished before, all its {many(progress.first - 1, 'line')}: there was nothing to do"
        return f"{name} is finished: {many(progress.first - 1, 'line')}"


def _fresh_outlook() -> str:
    return "the ids were fresh: the same call again would do all of this again (--run NAME makes a run repeatable)"


def _and_failed(count: int) -> str:
    return f" and runs {many(count, 'failed line')} before it again" if count else ""


def write_stdout(answers: bytes) -> None:
    """Write answers so that they have left this process."""
    sys.stdout.buffer.write(answers)
    sys.stdout.buffer.flush()
