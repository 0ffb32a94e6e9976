"""Where lines come from: a file, or stdin."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from rehydrate.cli.endings import say
from rehydrate.cli.run.lines import Source


class Input(NamedTuple):
    """Bytes to read, and what is known about them."""

    name: str
    source: Source
    total_bytes: int | None = None
    is_typed: bool = False
    """Whether a person types them."""


@contextmanager
def opened(file: str, *, asking_for: str) -> Generator[Input, None, None]:
    """A file, or stdin for `-`; at a terminal a person is told what is asked for."""
    if file == "-":
        yield _stdin(asking_for)
        return
    with Path(file).open("rb", buffering=0) as source:
        yield Input(file, source, os.fstat(source.fileno()).st_size or None)


def _stdin(asking_for: str) -> Input:
    buffer = sys.stdin.buffer
    try:
        descriptor = buffer.fileno()
    except OSError:  # Not a real file, as under a test.
        return Input("stdin", buffer)
    is_typed = os.isatty(descriptor)
    if is_typed:
        say(f"reading {asking_for} from the terminal, one JSON object per line; Ctrl-D ends them")
    with suppress(AttributeError, OSError):  # Windows has it for some descriptors, in some versions.
        os.set_blocking(descriptor, True)
    # Without a buffer: what is typed is run at once, and nothing holds a lock when the program ends meanwhile.
    source = getattr(buffer, "raw", buffer)
    return Input("stdin", source, os.fstat(descriptor).st_size or None, is_typed=is_typed)
