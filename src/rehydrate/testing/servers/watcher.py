"""A program that outlives the test run, to end the servers that it could not end itself: `python -I -S watcher.py PARENT`.

A test run that is killed cannot clean up. So each server says its process id on a pipe before it becomes the server,
and this program, at the other end, waits until nobody is left who could write to it, or until its parent is gone. On the
pipe, one a line:

    started PID SIGNAL     a server, and the signal that ends it at once
    ended PID              it is gone
    folder PATH            a folder to remove
    done                   nothing is left to do, though a forked process may still hold the pipe

It imports nothing of Rehydrate, so that it starts in no time.
"""

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_LOOK = 1.0
"""Seconds between two looks at whether the parent is still there."""
_PATIENCE = 10.0
"""Seconds that servers have to end. PostgreSQL gives its processes five."""
_PAUSE = 0.02
_HAS_PROC = Path("/proc/self/stat").exists()


def main() -> None:
    servers: dict[int, int] = {}
    folders: list[str] = []
    for line in _lines(int(sys.argv[1])):
        match line.split(" ", 1):
            case "started", rest:
                pid, number = rest.split()
                servers[int(pid)] = int(number)
            case "ended", pid:
                servers.pop(int(pid), None)
            case "folder", path:
                folders.append(path)
            case ("done",):
                return
            case _:
                pass
    _end(servers)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _lines(parent: int) -> Iterator[str]:
    """What was said, until there is nobody left who could say more."""
    heard = b""
    while True:
        if select.select([0], [], [], _LOOK)[0]:
            if not (more := os.read(0, 1 << 16)):
                return
            *lines, heard = (heard + more).split(b"\n")
            yield from (line.decode() for line in lines)
        elif os.getppid() != parent:
            return


def _end(servers: dict[int, int]) -> None:
    families = {pid: [pid, *children_of(pid)] for pid in servers}
    for pid, number in servers.items():
        send(pid, number)
        for member in families[pid]:  # who was stopped does not end
            send(member, signal.SIGCONT)
    left = [pid for family in families.values() for pid in family]
    until = time.monotonic() + _PATIENCE
    while (left := [pid for pid in left if is_running(pid)]) and time.monotonic() < until:
        time.sleep(_PAUSE)
    for pid in left:
        send(pid, signal.SIGKILL)


def send(pid: int, number: int) -> bool:
    """Send a signal; whether there is such a process."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def is_running(pid: int) -> bool:
    """A process that has ended, and that nobody waits for, does not run."""
    if not _HAS_PROC:
        return send(pid, 0)
    stat = _stat(pid)
    return bool(stat) and stat[0] not in {"Z", "X"}


def children_of(parent: int) -> list[int]:
    """The processes that a process has started."""
    if _HAS_PROC:
        pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
        return [pid for pid in pids if (stat := _stat(pid)) and int(stat[1]) == parent]
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], check=True, capture_output=True, text=True)
    pairs = (line.split() for line in listed.stdout.splitlines())
    return [int(pid) for pid, its_parent in pairs if int(its_parent) == parent]


def _stat(pid: int) -> list[str]:
    """State, parent and more; nothing if there is no such process."""
    try:
        # The name of the program, in brackets, may contain anything.
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return []


if __name__ == "__main__":
    main()
