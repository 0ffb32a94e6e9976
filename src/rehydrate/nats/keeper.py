"""A program between us and our server, which ends the server when we are gone: `python -I -S keeper.py PARENT OWNER DATA LOCK OUTPUT COMMAND...`.

A process that is killed cannot end what it has started. So this program starts the server, and ends it when its own stdin
says anything, or says that nobody is left who could, or when its parent is gone, though a process that was forked from it
may still hold the pipe. It holds a lock on the server's data, and so does the server, until both have ended; OWNER is
written there. On stdout:

    busy OWNER      somebody else holds the lock; nothing was started
    started PID     the server runs
    ended CODE      it has ended, by itself or because it was told to

It imports nothing of Rehydrate, so that it starts in no time.
"""

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

_LOOK = 1.0
"""Seconds between two looks at whether the parent is still there."""
_PATIENCE = 10.0
"""Seconds that the server has to end in good order."""
_DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG"""


def main() -> None:
    parent, owner, data, lock, output, *command = sys.argv[1:]
    woken = _woken_by_signals()
    held = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _say(f"busy {os.pread(held, 1 << 10, 0).decode()}")
        return
    os.ftruncate(held, 0)
    os.pwrite(held, owner.encode(), 0)
    _clear(Path(data))
    with Path(output).open("wb") as file:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            pass_fds=(held,),
            preexec_fn=_die_with_keeper(),  # noqa: PLW1509 (there is one thread)
        )
    _say(f"started {server.pid}")
    while server.poll() is None:
        if _is_over(int(parent), woken):
            _end(server)
    _say(f"ended {server.returncode}")


def _clear(data: Path) -> None:
    """Remove what a server left that was killed while it tried whether it can write to its data.

    The next one, where it stands alone, takes the file for an account that it does not know, and is never ready.
    """
    with contextlib.suppress(OSError):  # the server will say what is wrong with its data
        for left in data.glob("_test_*"):
            if left.is_file():
                left.unlink()


def _woken_by_signals() -> int:
    """What becomes readable when the server ends, or when we are told to. Ctrl-C is for our parent to hear."""
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, _hear)
    signal.signal(signal.SIGTERM, _hear)
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    return readable


_told: list[int] = []


def _hear(number: int, _: object) -> None:
    if number == signal.SIGTERM:
        _told.append(number)


def _is_over(parent: int, woken: int) -> bool:
    """Wait for something to happen; whether the server is to end."""
    ready, _, _ = select.select([0, woken], [], [], _LOOK)
    if woken in ready:
        os.read(woken, 1 << 10)
    return 0 in ready or bool(_told) or os.getppid() != parent


def _end(server: "subprocess.Popen[bytes]") -> None:
    server.send_signal(signal.SIGTERM)
    server.send_signal(signal.SIGCONT)  # who was stopped does not end
    try:
        server.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _die_with_keeper() -> "Callable[[], object] | None":
    """On Linux the server ends even when this program is killed. Elsewhere whoever started both has to see to it."""
    if sys.platform != "linux":
        return None
    import ctypes

    library, keeper = ctypes.CDLL(None), os.getpid()

    def die_with_keeper() -> None:
        library.prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != keeper:  # it was killed a moment ago, and nobody will tell
            os._exit(1)

    return die_with_keeper


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # nobody may be left to hear it
        os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    main()
