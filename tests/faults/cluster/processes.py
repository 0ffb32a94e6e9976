"""Processes on hosts: started there, and stopped, continued, ended or killed with all that they have started."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rehydrate.testing.clock import HANG_LIMIT
from rehydrate.testing.servers.watcher import children_of, send

_ROOT: Final = Path(__file__).parents[3]
_DIE_WITH_PARENT: Final = 1
"""PR_SET_PDEATHSIG"""


class Process:
    """One program, which says `ready` on a line of its own, or whatever it is waited for."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log
        self._paused: list[int] = []

    @property
    def runs(self) -> bool:
        return self._process.returncode is None

    async def says(self, text: str, *, limit: float = HANG_LIMIT) -> None:
        """Wait until it has said that."""
        assert self._process.stdout is not None
        async with asyncio.timeout(limit):
            while text not in (line := (await self._process.stdout.readline()).decode()):
                assert line, f"it ended before it said {text!r}:\n{self.log()}"

    def family(self) -> list[int]:
        """Itself, and all that it has started."""
        pids = [self._process.pid]
        for pid in pids:
            pids += children_of(pid)
        return pids

    def pause(self) -> None:
        """Stop it where it stands, with all that it has started (SIGSTOP)."""
        self._paused = self.family()
        for pid in self._paused:
            send(pid, signal.SIGSTOP)

    def resume(self) -> None:
        for pid in self._paused:
            send(pid, signal.SIGCONT)
        self._paused = []

    def kill(self) -> None:
        """Kill it where it stands, with all that it has started (SIGKILL)."""
        family = self.family()
        # Stopped first: none of them hears of the end of another and does something about it.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in family:
                send(pid, number)

    def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""
        self._process.terminate()

    def finish(self) -> None:
        """Tell it on its stdin that it is enough."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def ended(self, *, limit: float = 2 * HANG_LIMIT) -> None:
        """Wait until it is over."""
        async with asyncio.timeout(limit):
            await self._process.wait()

    async def ended_well(self, *, limit: float = 2 * HANG_LIMIT) -> None:
        await self.ended(limit=limit)
        assert self._process.returncode == 0, f"ended with {self._process.returncode}:\n{self.log()}"

    def log(self) -> str:
        return self._log.read_text("utf-8", "replace")[-4_000:]


async def start(
    command: Sequence[str], *, log: Path, env: dict[str, str] | None = None, says_on_stderr: bool = False
) -> Process:
    """Start a program of this project; it ends when we do, however that is."""
    with log.open("ab") as file:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT if says_on_stderr else file,
            cwd=_ROOT,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                "PYTHONUNBUFFERED": "1",
                **(env or {}),
            },
            preexec_fn=_die_with_us(),
        )
    return Process(process, log)


def _die_with_us() -> object:
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return lambda: prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
