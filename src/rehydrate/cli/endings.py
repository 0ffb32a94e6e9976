"""How a command ends: with its exit code, and with one sentence where something went wrong."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import traceback
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, NoReturn

from rehydrate.cli.target import BrokenModuleError
from rehydrate.errors import RehydrateError

FAILED: Final = 1
INTERRUPTED: Final = 130
TERMINATED: Final = 143
READER_GONE: Final = 141
"""What a shell reports of a program that SIGPIPE ended: `rehydrate events ... | head` is no failure to explain."""


def perform(work: Callable[[], Coroutine[Any, Any, int]], *, debug: bool) -> NoReturn:
    """Run a command to its exit code; a `RehydrateError` is one sentence, or with `debug` a traceback.

    So is an `OSError`: what a store meets of them has errors of its own, and the rest is not a mistake of this program.
    """
    if reconfigure := getattr(sys.stdout, "reconfigure", None):
        # An id may hold what the terminal's encoding lacks.
        reconfigure(errors="backslashreplace")
    logging.basicConfig(level=logging.WARNING, format="rehydrate: %(message)s", stream=sys.stderr)
    try:
        code = asyncio.run(work())
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        code = READER_GONE
        abandon_stdout()
    except RehydrateError as error:
        if debug:
            traceback.print_exception(error)
        elif isinstance(error, BrokenModuleError) and error.__cause__ is not None:
            cause = error.__cause__
            traceback.print_exception(cause.with_traceback(_users_part(cause.__traceback__)))
        say(str(error))
        code = FAILED
    except OSError as error:
        if debug:
            traceback.print_exception(error)
        else:
            say(what_the_system_says(error))
        code = FAILED
        abandon_stdout()
    sys.exit(code)


def say(sentence: str) -> None:
    """One sentence for a person, on stderr. That nobody can be told is no reason to end what is under way."""
    with suppress(OSError):
        print(f"rehydrate: {sentence}", file=sys.stderr, flush=True)


def what_the_system_says(error: OSError) -> str:
    """An error of the system as a sentence, without its number."""
    what = error.strerror or str(error)
    return what if error.filename is None else f"{os.fsdecode(error.filename)}: {what}"


def abandon_stdout() -> None:
    """Whoever read stdout has gone: what is buffered must not make the interpreter complain on its way out."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
    except OSError:  # Not a real file, as under a test.
        pass


def _users_part(frames: TracebackType | None) -> TracebackType | None:
    """A traceback from the first frame on that is neither ours nor of the import machinery."""
    while frames is not None:
        name = frames.tb_frame.f_globals.get("__name__", "")
        if not name.startswith(("rehydrate.cli", "importlib")):
            break
        frames = frames.tb_next
    return frames
