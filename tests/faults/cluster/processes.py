"""Processes on hosts: started there, and stopped, continued, ended or killed with all that they have started."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from rehydrate.testing.servers.watcher import children_of, send
from tests.faults.cluster.waiting import LIMIT, until

_ROOT: Final = Path(__file__).parents[3]
_DIE_WITH_PARENT: Final = 1
"""PR_SET_PDEATHSIG"""


class Process:
    """One program. What it says, on stdout and stderr, goes into its log."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log
        self._heard = log.stat().st_size
        self._paused: list[int] = []

    @property
    def runs(self) -> bool:
        return self._process.returncode is None

    async def says(self, text: str, *, limit: float = LIMIT) -> None:
        """Wait until it has said that, since this was last waited for."""
        wanted = text.encode()

        def is_said() -> bool:
            said = self._log.read_bytes()[self._heard :]
            if wanted in said:
                self._heard += said.index(wanted) + len(wanted)
                return True
            assert self.runs, f"it ended before it said {text!r}:\n{self.log()}"
            return False

        try:
            await until(is_said, limit=limit)
        except TimeoutError:
            raise TimeoutError(f"in {limit:g} s it has not said {text!r}:\n{self.log()}") from None

    def tell(self, line: str) -> None:
        """Say a line on its stdin."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())

    def family(self) -> list[int]:
        """Itself, and all that it has started."""
        pids = [self._process.pid]
        for pid in pids:
            pids += children_of(pid)
        return pids

    def child(self, program: str) -> int:
        """The process id of what it has started under that name."""
        for pid in self.family():
            if Path(f"/proc/{pid}/comm").read_text("utf-8").strip() == program:
                return pid
        raise ProcessLookupError(f"{program} does not run")

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

    async def ended(self, *, limit: float = LIMIT) -> None:
        """Wait until it is over."""
        async with asyncio.timeout(limit):
            await self._process.wait()

    async def ended_well(self, *, limit: float = LIMIT) -> None:
        await self.ended(limit=limit)
        assert self._process.returncode == 0, f"ended with {self._process.returncode}:\n{self.log()}"

    def log(self) -> str:
        return self._log.read_text("utf-8", "replace")[-4_000:]


async def start(command: Sequence[str], *, log: Path, env: dict[str, str] | None = None) -> Process:
    """Start a program of this project; it ends when we do, however that is."""
    with log.open("ab") as file:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=file,
            stderr=file,
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


def _die_with_us() -> Callable[[], object] | None:
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return lambda: prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
