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
import sys
import time
from collections.abc import Iterator

_LOOK = 1.0
"""Seconds between two looks at whether the parent is still there."""
_PATIENCE = 5.0
"""Seconds that servers have to end."""


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
    for pid, number in servers.items():
        _send(pid, number)
        _send(pid, signal.SIGCONT)
    until = time.monotonic() + _PATIENCE
    while (left := [pid for pid in servers if _is_running(pid)]) and time.monotonic() < until:
        time.sleep(0.02)
    for pid in left:
        _send(pid, signal.SIGKILL)


def _is_running(pid: int) -> bool:
    """A process that has ended, and that nobody waits for, does not run."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:  # noqa: PTH123 - starts in no time
            return stat.read().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return not os.path.exists("/proc/self") and _send(pid, 0)  # noqa: PTH110


def _send(pid: int, number: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    main()
