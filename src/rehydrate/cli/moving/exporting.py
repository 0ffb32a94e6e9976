"""`rehydrate export`: the events of a store, as they are when it begins, as lines of JSON."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from rehydrate.cli.asking import persistently
from rehydrate.cli.endings import say
from rehydrate.cli.existing import existing_store
from rehydrate.cli.interrupts import interruptible
from rehydrate.cli.moving.bar import bar
from rehydrate.cli.moving.event_lines import as_lines, first_line, last_line
from rehydrate.cli.moving.logs import read_log
from rehydrate.cli.run.blocking import BlockingThread
from rehydrate.cli.run.report import many
from rehydrate.cli.run.session import write_stdout
from rehydrate.errors import ConfigurationError, RehydrateError

Write = Callable[[bytes], object]


async def export_events(url: str, file: str) -> int:
    """Write the events of a store to a file, or to stdout for `-`. Returns the exit code."""
    outlook = "the last line is missing, which an import notices" if file == "-" else f"there is no {file}"
    return await interruptible(_export(url, file), outlook)


async def _export(url: str, file: str) -> int:
    async with existing_store(url) as store:
        # On a thread, for whoever reads stdout may take his time, and a signal is heard meanwhile.
        with (
            closing(BlockingThread("rehydrate export: output")) as thread,
            _opened(file) as write,
            bar(wanted=file != "-" or not sys.stdout.isatty()) as advance,
        ):
            head = await persistently(store.head)
            await thread.call(partial(write, first_line()))
            events = 0
            async for page in read_log(store, after=0, until=head.position):
                await thread.call(partial(write, as_lines(page)))
                events += len(page)
                advance("exporting", page[-1].position, head.position)
            await thread.call(partial(write, last_line(events)))
        where = "" if file == "-" else f" to {file}"
        say(
            f"{many(events, 'event')} exported from {store.url}{where}; checkpoints, views and snapshots are not"
        )
    return 0


@contextmanager
def _opened(file: str) -> Generator[Write, None, None]:
    """Where to write. A file gets its name when it is whole."""
    if file == "-":
        try:
            yield write_stdout
        except BrokenPipeError:
            raise
        except OSError as error:
            raise RehydrateError(f"the events cannot be written: {error.strerror or error}") from error
        return
    path = Path(file)
    if path.exists():
        raise ConfigurationError(f"{file} is there already: remove it, or choose another name")
    part = path.with_name(f"{path.name}.part")
    try:
        try:
            with part.open("wb") as output:
                yield output.write
                output.flush()
                os.fsync(output.fileno())
            part.rename(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise RehydrateError(f"{file} cannot be written: {error.strerror or error}") from error
