"""Processes of the bank under the control of a test: they are sent orders, heard, stopped and killed."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]


class Worker:
    """One process that runs commands of the bank."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self._stdin, self._stdout = process.stdin, process.stdout

    @classmethod
    async def start(cls, url: str) -> Self:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.faults.bank_worker", url, cwd=ROOT,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        worker = cls(process)
        assert await worker._stdout.readline() == b"ready\n"
        return worker

    def send(self, **order: Any) -> None:
        self._stdin.write(json.dumps(order).encode() + b"\n")

    async def hear(self) -> dict[str, Any] | None:
        """The next answer; None when the process has ended."""
        line = await self._stdout.readline()
        # Half a line is what a killed process could not finish: it told nobody.
        return json.loads(line) if line.endswith(b"\n") else None

    async def ask(self, **order: Any) -> dict[str, Any]:
        self.send(**order)
        answer = await self.hear()
        assert answer is not None
        return answer

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()

    async def finish(self) -> None:
        """Let it answer everything and end by itself."""
        self._stdin.close()
        assert await self.process.wait() == 0


@asynccontextmanager
async def working(url: str) -> AsyncGenerator[Worker]:
    """A worker that does not outlive the test."""
    worker = await Worker.start(url)
    try:
        yield worker
    finally:
        if worker.process.returncode is None:
            await worker.kill()
