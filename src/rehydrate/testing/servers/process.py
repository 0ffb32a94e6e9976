"""A server as a child process: started, stopped and killed by its own process id."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from rehydrate.testing.servers import watcher
from rehydrate.testing.servers.account import Account, environment

_PORTS = range(15_000, 32_000)
"""Below the ports that systems give to clients: a restart finds its port free, and no client connects to itself."""
_BECOME = 'echo "started $$ $1"; log=$2; shift 2; exec "$@" >>"$log" 2>&1'
"""Says who it is on the pipe to the watcher, which is its stdout, and then becomes the server."""
START_LIMIT: Final = 60.0
"""Seconds that a server has to start or stop on a busy machine."""
_LOOK = 0.005
_LOG_SHOWN = 2_000
TRIES: Final = 5
"""How often a server is given other ports, because somebody else was quicker to take one."""
TAKEN: Final = "address already in use"


class ServerFailedError(Exception):
    """A server did not start, or ended by itself; the text shows the end of its log."""


class Watch:
    """The pipe to a process that ends our servers and removes our folders if we cannot."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", watcher.__file__, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
        assert self._process.stdin is not None
        self.pipe = self._process.stdin.fileno()
        self.pid = self._process.pid

    def say(self, line: str) -> None:
        os.write(self.pipe, f"{line}\n".encode())

    def close(self) -> None:
        """Let it go: nothing is left to clean up."""
        assert self._process.stdin is not None
        self.say("done")
        self._process.stdin.close()
        self._process.wait(START_LIMIT)


class ServerProcess:
    """One server: what it is started with, and the process while there is one."""

    def __init__(
        self,
        watch: Watch,
        account: Account,
        *,
        log: Path,
        stop_signal: signal.Signals,
        end_signal: signal.Signals,
    ) -> None:
        """`stop_signal` ends it in good order, `end_signal` at once."""
        self._watch = watch
        self._account = account
        self._log = log
        self._stop_signal = stop_signal
        self._end_signal = end_signal
        self._process: subprocess.Popen[bytes] | None = None
        self._paused: list[int] = []

    @property
    def pid(self) -> int:
        """Of the process that was started; a `RuntimeError` where none runs."""
        if self._process is None:
            raise RuntimeError("the server does not run")
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process is not None

    def start(self, command: Iterable[str | Path], *, is_ready: Callable[[], bool]) -> None:
        """Start it and wait until it is ready; `ServerFailedError` if it ends before that."""
        if self._process is not None:
            raise RuntimeError("the server runs already")
        self._process = subprocess.Popen(
            ["sh", "-c", _BECOME, "sh", str(int(self._end_signal)), self._log, *command],
            stdin=subprocess.DEVNULL,
            stdout=self._watch.pipe,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd=self._log.parent,
            env=environment(),
            **self._account.run_as,
        )
        try:
            wait_until(is_ready, alive=self.check)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End it in good order, and wait until it has ended; one that does not run is left as it is."""
        self._end_with(self._stop_signal)

    def end(self) -> None:
        """End it at once, for good."""
        self._end_with(self._end_signal)

    def kill(self) -> None:
        """End it where it stands, with its child processes (SIGKILL); it may have ended already."""
        if self._process is not None:
            # Stopped first: it starts no more children while they are counted, and does not hear of their end.
            self._process.send_signal(signal.SIGSTOP)
            children = watcher.children_of(self._process.pid)
            self._process.kill()
            for pid in children:
                watcher.send(pid, signal.SIGKILL)
            self._process.wait(START_LIMIT)
            wait_until(lambda: not any(map(watcher.is_running, children)))
            self._forget()

    def pause(self) -> None:
        """Stop it where it stands, with its child processes (SIGSTOP)."""
        os.kill(self.pid, signal.SIGSTOP)
        self._paused = [self.pid, *watcher.children_of(self.pid)]
        for pid in self._paused:
            watcher.send(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        for pid in self._paused:
            watcher.send(pid, signal.SIGCONT)
        self._paused = []

    def check(self) -> None:
        """Raise `ServerFailedError` if it has ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            raise ServerFailedError(f"the server ended with {self._process.returncode}:\n{self.log()}")

    def log(self) -> str:
        """The end of what it wrote to its log."""
        return self._log.read_text("utf-8", "replace")[-_LOG_SHOWN:] if self._log.exists() else ""

    def has_logged(self, text: str) -> bool:
        """Whether its log says so, in capitals or not."""
        return self._log.exists() and text.lower() in self._log.read_text("utf-8", "replace").lower()

    def _end_with(self, number: signal.Signals) -> None:
        if self._process is not None:
            self.resume()
            self._process.send_signal(number)
            self._process.wait(START_LIMIT)
            self._forget()

    def _forget(self) -> None:
        self._watch.say(f"ended {self.pid}")
        self._process = None
        self._paused = []


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def start_on_free_port(start: Callable[[int], None], process: ServerProcess) -> int:
    """Start a server on a port that is free, and say which; one that somebody else was quicker to take is left to him."""
    for tries_left in reversed(range(TRIES)):
        port = free_port()
        try:
            start(port)
        except ServerFailedError:
            if not tries_left or not process.has_logged(TAKEN):
                raise
        else:
            return port
    raise AssertionError("the last try returns or raises")


def wait_until(condition: Callable[[], bool], *, alive: Callable[[], None] = lambda: None) -> None:
    """Look again and again, until it holds or `alive` raises; after a minute it is a `TimeoutError`."""
    until = time.monotonic() + START_LIMIT
    while not condition():
        alive()
        if time.monotonic() > until:
            raise TimeoutError(f"waited for {START_LIMIT:.0f} seconds")
        time.sleep(_LOOK)
