"""What Emmett reaches: its programs run in a process of Node.js, which hands back a sample."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.emmett.installing import PROGRAMS, Choice, NotHereError, installed, node
from bench.rehydrating import ENOUGH, streams_of
from bench.sample import MeasurementError, Sample, Size
from bench.servers import Server

_PROGRAM: Final = "measure.js"


def memory_rate(choice: Choice, callers: int, size: Size, folder: Path) -> Sample:
    """Commands a second on `getInMemoryEventStore`."""
    return _measured(choice, folder, what="dispatching", url=None, callers=callers, **_told(size))


def postgres_rate(callers: int, size: Size, folder: Path) -> Sample:
    """Commands a second on `getPostgreSQLEventStore`."""
    with Server.POSTGRES.database() as url:
        told = _told(size)
        return _measured(Choice.NEWEST, folder, what="dispatching", url=url, callers=callers, **told)


def rehydration_rate(length: int, size: Size, folder: Path) -> Sample:
    """Events a second into a state, by `aggregateStream` on PostgreSQL."""
    length = min(length, size.most)
    told = {"streams": streams_of(length, size), "length": length, "seconds": min(size.seconds, ENOUGH)}
    with Server.POSTGRES.database() as url:
        return _measured(Choice.NEWEST, folder, what="rehydrating", url=url, **told)


def _told(size: Size) -> dict[str, Any]:
    return {"accounts": size.accounts, "events": size.events, "seconds": size.seconds}


def _measured(choice: Choice, folder: Path, **asked: Any) -> Sample:
    try:
        program = node(choice).program
    except NotHereError as error:
        raise MeasurementError(f"Emmett: {error}") from error
    # Modules are looked for beside the file that imports them.
    own = folder / "emmett"
    shutil.copytree(PROGRAMS, own, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (own / "node_modules").symlink_to(installed() / "node_modules")
    command = [program, "--expose-gc", _PROGRAM, msgspec.json.encode(asked).decode()]
    # Its stdin is closed when this process has ended, and it ends then, too.
    with subprocess.Popen(command, cwd=own, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        answer = process.stdout.read()
        ended = process.wait()
    if ended != 0:
        raise MeasurementError(f"Emmett: {_PROGRAM} ended with {ended}")
    return msgspec.json.decode(answer, type=Sample)
