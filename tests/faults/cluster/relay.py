"""A long way between hosts: `python -m tests.faults.cluster.relay DELAY LISTEN=TARGET...` passes everything on, but later.

What is sent arrives whole and in order after so many seconds, in both directions, and much can be on its way at a time.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial

_CHUNK = 1 << 16


async def main(delay: float, ways: list[str]) -> None:
    async with asyncio.TaskGroup() as flows:
        for way in ways:
            listen, _, target = way.partition("=")
            host, _, port = listen.rpartition(":")
            await asyncio.get_running_loop().create_server(
                partial(_Client, flows, target, delay), host, int(port)
            )
        print("ready", flush=True)  # noqa: T201 - it is what the test waits for
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        await reader.read()
        raise SystemExit


class _Client(asyncio.Protocol):
    """One side of a connection; the other side is another one of these."""

    def __init__(self, flows: asyncio.TaskGroup, target: str, delay: float) -> None:
        self._flows = flows
        self._target = target
        self._delay = delay
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._other: _Client | None = None
        self._early: list[bytes] = []
        self._is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._other is None:
            self._flows.create_task(self._connect())

    async def _connect(self) -> None:
        host, _, port = self._target.rpartition(":")
        other = _Client(self._flows, "", self._delay)
        other._other = self
        await asyncio.sleep(self._delay)
        try:
            await self._loop.create_connection(lambda: other, host, int(port))
        except OSError:
            self._close()
            return
        self._other = other
        for data in self._early:
            other.write(data)
        if self._is_lost:
            other._close()

    def data_received(self, data: bytes) -> None:
        self._loop.call_later(self._delay, self._pass_on, data)

    def _pass_on(self, data: bytes) -> None:
        if self._other is None:
            self._early.append(data)
        else:
            self._other.write(data)

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        if self._other is not None:
            self._loop.call_later(self._delay, self._other._close)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), sys.argv[2:]))
