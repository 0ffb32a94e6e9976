"""The processes that write to the store under test, seen from the law that starts, stops and kills them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence

import msgspec

from rehydrate.store.port import Appended
from rehydrate.testing.clock import until
from rehydrate.testing.conformance.worker import Acked, Ended, News, Order, Ready, Refused, Saved

_WORKER = "rehydrate.testing.conformance.worker"
_PATIENCE = 90.0
"""Seconds. How long a law may take as a whole, it says itself."""


def environment() -> dict[str, str]:
    """For a process that has to find all that this one has imported."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


class Writer:
    """One process, and what it told so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.acked: dict[str, Appended] = {}
        """The appends that returned."""
        self.refused: list[Refused] = []
        self.saved: list[Saved] = []
        self.ended = 0
        """How many orders were worked off."""
        self._ready = False
        self._process = process
        self._listening = asyncio.create_task(self._listen())

    async def order(self, order: Order) -> None:
        """Have it do something, beside what it does already."""
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        await self._process.stdin.drain()

    async def told(self, *, acked: int = 0, saved: int = 0, refused: int = 0, ended: int = 0) -> None:
        """Wait until it has told at least so much of each, and that it has opened the store."""
        await self._until(
            lambda: (
                self._ready
                and len(self.acked) >= acked
                and len(self.saved) >= saved
                and len(self.refused) >= refused
                and self.ended >= ended
            )
        )

    async def answered(self, name: str) -> None:
        """Wait until it has told how the append of that name ended."""
        await self._until(lambda: name in self.acked or name in {one.name for one in self.refused})

    async def _until(self, enough: Callable[[], bool]) -> None:
        await until(lambda: enough() or self._listening.done(), hang_limit=_PATIENCE)
        assert enough(), f"the process ended too early, with {self._process.returncode}"

    def pause(self) -> None:
        """Stop it where it stands, be it inside of a commit (SIGSTOP)."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """End it where it stands (SIGKILL), and hear what it still had told."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()
        await self._listening

    async def stop(self) -> None:
        """Let it finish, close its store, and exit."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._listening
        assert self._process.returncode == 0, "a writer fails where nothing was to fail"

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        decoder = msgspec.json.Decoder[News](News)
        while (line := await self._process.stdout.readline()).endswith(b"\n"):
            news: News = decoder.decode(line)
            match news:
                case Ready():
                    self._ready = True
                case Acked() as acked:
                    self.acked[acked.name] = Appended(acked.version, acked.position)
                case Refused() as refused:
                    self.refused.append(refused)
                case Saved() as saved:
                    self.saved.append(saved)
                case Ended():
                    self.ended += 1


class Writers:
    """Starts processes, and leaves none behind."""

    def __init__(self, opener: str, url: str) -> None:
        self._opener = opener
        self._url = url
        self._all: list[Writer] = []

    async def start(self, *orders: Order) -> Writer:
        """A process that has opened the store, with its first orders."""
        (writer,) = await self.start_each(orders)
        return writer

    async def start_each(self, *orders: Sequence[Order]) -> list[Writer]:
        """A process for each list of orders; they get them when all have opened the store."""
        writers = [await self._start() for _ in orders]
        for writer in writers:
            await writer.told()
        for writer, its in zip(writers, orders, strict=True):
            for order in its:
                await writer.order(order)
        return writers

    async def _start(self) -> Writer:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", _WORKER, self._opener, self._url),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment(),
        )
        writer = Writer(process)
        self._all.append(writer)
        return writer

    async def kill_all(self) -> None:
        for writer in self._all:
            await writer.kill()
