"""The processes of a fault test, seen from the test that starts, stops and kills them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from rehydrate.testing.clock import HANG_LIMIT
from tests.faults.worker import Ask, Closed, News, Order, Ready, Refused, Shown, Stored

_ROOT = Path(__file__).parent.parent.parent


class Worker:
    """One process, and what it told so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.on_answer: Callable[[Answer], object] = lambda _: None
        """Hears of each answer."""
        self.answers: dict[str, Answer] = {}
        """The last one under each id."""
        self.is_ready = False
        self.is_closed = False
        self._asked = 0
        self._process = process
        self._waiting: list[asyncio.Future[None]] = []
        self.listening = asyncio.create_task(self._listen())
        """Done when the process has ended, and all that it told was heard."""

    def order(self, *orders: Order) -> None:
        """Have it do something, beside what it does already."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"".join(msgspec.json.encode(order) + b"\n" for order in orders))

    async def told(self, enough: Callable[[], object]) -> None:
        """Wait until it has told enough."""
        async with asyncio.timeout(HANG_LIMIT):
            while not enough():
                assert not self.listening.done(), (
                    f"the process ended too early, with {self._process.returncode}"
                )
                self._waiting.append(asyncio.get_running_loop().create_future())
                await self._waiting[-1]

    async def ready(self) -> None:
        """Wait until its runtime is open."""
        await self.told(lambda: self.is_ready)

    async def ask(self, order: Order, id: str) -> Answer:
        """Order something and wait for the answer under that id."""
        self.order(order)
        await self.told(lambda: id in self.answers)
        return self.answers.pop(id)

    async def cannot_read(self) -> bool:
        """Ask for an account that it does not know, and say whether the answer is that the store is not available."""
        self._asked += 1
        id = f"ask {self._asked}"
        answer = await self.ask(Ask(id=id, account=f"nobody{self._asked}"), id)
        return isinstance(answer, Refused) and answer.error == "StoreUnavailableError"

    def pause(self) -> None:
        """Stop it where it stands, be it inside of a commit (SIGSTOP)."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def shoot(self) -> None:
        """End it where it stands (SIGKILL)."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)

    async def kill(self) -> None:
        """End it where it stands, and hear what it still had told."""
        self.shoot()
        await self.listening

    async def ended(self) -> None:
        """Wait until it has ended by itself."""
        async with asyncio.timeout(HANG_LIMIT):
            await self.listening
        assert self._process.returncode == 0, "a worker fails where nothing was to fail"

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        decoder = msgspec.json.Decoder[News](News)
        # A line that the kill cut off was not told.
        while (line := await self._process.stdout.readline()).endswith(b"\n"):
            match decoder.decode(line):
                case Ready():
                    self.is_ready = True
                case Closed():
                    self.is_closed = True
                case answer:
                    self.answers[answer.id] = answer
                    self.on_answer(answer)
            self._wake()
        await self._process.wait()
        asyncio.get_running_loop().call_soon(self._wake)

    def _wake(self) -> None:
        """Let those look again who wait for something to be told."""
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


Answer = Stored | Shown | Refused


class Workers:
    """Starts processes on one store."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._all: list[Worker] = []

    async def start(self) -> Worker:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.faults.worker", self.url),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        worker = Worker(process)
        self._all.append(worker)
        return worker

    async def kill_all(self) -> None:
        for worker in self._all:
            await worker.kill()


@asynccontextmanager
async def workers_on(url: str) -> AsyncGenerator[Workers]:
    """Leaves no process behind."""
    workers = Workers(url)
    try:
        yield workers
    finally:
        await workers.kill_all()
