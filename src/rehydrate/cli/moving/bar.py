"""A bar on a terminal, for work that has several parts."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from rehydrate.cli.moving.copying import Advance


@contextmanager
def bar(*, wanted: bool = True) -> Generator[Advance, None, None]:
    """Shows on stderr what is being done and how far it is, while the block runs; nothing where nobody looks."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not (wanted and console.is_terminal)
    ) as progress:
        task = progress.add_task("")
        shown = ""

        def advance(doing: str, done: int, total: int) -> None:
            nonlocal shown
            if doing != shown:
                progress.reset(task, description=doing)
                shown = doing
            progress.update(task, completed=done, total=max(total, 1))

        yield advance
