"""Where tests store: in memory, where there is enough of it. A kill is survived there as well as on a disk.

`TMPDIR=/tmp make test` stores on the disk of that folder instead.
"""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

_IN_MEMORY = Path("/dev/shm")
_ENOUGH = 4 << 30
"""Bytes: the servers of two processes of tests need a fourth of it."""


def _can_be_used(folder: Path) -> bool:
    if not os.access(folder, os.W_OK | os.X_OK):
        return False
    system = os.statvfs(folder)
    # Programs of servers are copied there, if they lie where the servers' account cannot go.
    return system.f_bavail * system.f_frsize >= _ENOUGH and not system.f_flag & os.ST_NOEXEC


if "TMPDIR" not in os.environ and _can_be_used(_IN_MEMORY):
    # For this process, and for all that it starts: other processes of tests, servers, nodes, commands.
    os.environ["TMPDIR"] = str(_IN_MEMORY)
    tempfile.tempdir = None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is made while tests are collected stays to the end: no look for garbage goes through it, now or later.

    A test that looks for what its own code leaves alive finds that as before.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture
def disk_path() -> Iterator[Path]:
    """As `tmp_path`, but on a disk: for tests to which it matters that a write takes its time."""
    on_disk = "/var/tmp" if os.access("/var/tmp", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="rehydrate-", dir=on_disk) as folder:
        yield Path(folder)
