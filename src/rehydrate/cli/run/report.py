"""What a person sees of a run: a bar while it goes on, lines that could not be run, and the summary. All on stderr."""

from __future__ import annotations

import time
from collections import Counter
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from rehydrate.cli.endings import say
from rehydrate.cli.run.commands import sentence_of
from rehydrate.cli.run.entries import Outcome

MAX_COMPLAINTS: Final = 100
"""Lines named on stderr; further ones are in the results only, for a million of them would bury the summary."""

_REFRESH_SECONDS: Final = 0.1


class Report:
    """Counts what became of the lines and shows it, with a bar where stderr is a terminal."""

    def __init__(self, *, total_bytes: int | None, shares_terminal: bool, wants_bar: bool) -> None:
        self.counts: Counter[Outcome] = Counter()
        self._began = time.monotonic()
        self._complaints = 0
        self._shares_terminal = shares_terminal
        """Whether the answers go to the terminal on which the bar stands."""
        self._console = Console(stderr=True)
        has_bar = wants_bar and self._console.is_terminal
        self._bar = _bar(self._console, total_bytes) if has_bar else None
        self._shown_at = 0.0

    @property
    def commands(self) -> int:
        """How many lines were run, whatever became of them."""
        return self.counts[Outcome.ACCEPTED] + self.counts[Outcome.REJECTED] + self.failures

    @property
    def failures(self) -> int:
        return self.counts[Outcome.FAILED] + self.counts[Outcome.UNFINISHED]

    def count(self, outcome: Outcome) -> None:
        self.counts[outcome] += 1

    def complain(self, line: int, error: Exception) -> None:
        """Name a line that could not be run."""
        self._complaints += 1
        if self._complaints > MAX_COMPLAINTS:
            return
        self._clear()
        say(f"line {line}: {sentence_of(error)}")
        if self._complaints == MAX_COMPLAINTS:
            say("further lines that cannot be run are named in the results only")

    def step_aside(self) -> None:
        """Take the bar away from where a line is about to be written; the next `show` brings it back."""
        if self._shares_terminal:
            self._clear()

    def _clear(self) -> None:
        if self._bar is not None:
            self._console.file.write("\r\x1b[2K")
            self._console.file.flush()

    def show(self, bytes_read: int) -> None:
        """Bring the bar up to date, now and then."""
        now = time.monotonic()
        if self._bar is None or (now - self._shown_at < _REFRESH_SECONDS and not self._shares_terminal):
            return
        if not self._shown_at:
            self._bar.start()
        self._shown_at = now
        rate = self.commands / max(now - self._began, 0.001)
        text = f"{self.commands:,} commands  {rate:,.0f}/s  {self.counts[Outcome.REJECTED]:,} rejected  "
        self._bar.update(
            self._bar.task_ids[0],
            completed=bytes_read,
            description=f"{text}{self.failures:,} failed",
            refresh=True,
        )

    def end(self) -> None:
        """Take the bar away and give the cursor back."""
        if self._bar is not None:
            self._bar.stop()

    def summary(self) -> str:
        """What was done, and how fast."""
        seconds = max(time.monotonic() - self._began, 0.001)
        return (
            f"{many(self.commands, 'command')} in {seconds:.2f} s ({self.commands / seconds:,.0f}/s): "
            f"{self.counts[Outcome.ACCEPTED]:,} accepted, {self.counts[Outcome.REJECTED]:,} rejected, "
            f"{self.failures:,} failed"
        )


def many(count: int, noun: str) -> str:
    """A count with its noun."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _bar(console: Console, total_bytes: int | None) -> Progress:
    """A bar as long as the input, where its length is known; else only the counts."""
    bar = (BarColumn(bar_width=None), TaskProgressColumn(), TimeRemainingColumn()) if total_bytes else ()
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        *bar,
        console=console,
        expand=bool(bar),
        transient=True,
        # Drawn from the event loop only: another thread could draw between an answer and the next.
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    progress.add_task("", total=total_bytes)
    return progress
