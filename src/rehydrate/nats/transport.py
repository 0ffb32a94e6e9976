"""How the client reaches a socket: as its own transport does, and tidily."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Final
from urllib.parse import ParseResult

from nats.aio.transport import TcpTransport
from nats.errors import Error

CLOSE_WITHIN: Final = 1.0
"""Seconds for the other side to say goodbye."""


class UnencryptedError(Error):
    """The server does not encrypt, and was to."""


class TidyTransport(TcpTransport):
    """Leaves no socket open behind a failed try, waits for nobody who is gone, and says nothing aloud that was to be secret."""

    def __init__(self, *, must_encrypt: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._must_encrypt = must_encrypt
        self._encrypts = False

    def __bool__(self) -> bool:
        # The client makes one of its own where this is false, which it is before the first connection.
        return True

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        self.abort()
        self._encrypts = False
        await super().connect(uri, buffer_size, connect_timeout)

    async def connect_tls(
        self,
        uri: str | ParseResult,
        ssl_context: ssl.SSLContext,
        buffer_size: int,
        connect_timeout: int,
    ) -> None:
        await super().connect_tls(uri, ssl_context, buffer_size, connect_timeout)
        if self._io_writer is not None:
            # nats-py makes a protocol that nobody tells of its transport: it could not hold back a server that is too
            # fast, and asyncio warns when the server says goodbye.
            transport = self._io_writer.transport
            protocol: Any = transport.get_protocol()
            if protocol is None:
                # The client tries the next server after this, and after nothing else.
                raise ConnectionResetError("the server was lost as soon as the connection was encrypted")
            protocol.connection_made(transport)
        self._encrypts = True

    def write(self, payload: bytes) -> None:
        if self._must_encrypt and not self._encrypts:
            raise UnencryptedError("this server does not offer TLS, and tls=true asks for it")
        if self._io_writer is not None:
            self._io_writer.write(payload)

    def writelines(self, payload: list[bytes]) -> None:
        if self._io_writer is not None:
            self._io_writer.writelines(payload)

    async def drain(self) -> None:
        if self._io_writer is not None:
            await self._io_writer.drain()

    async def wait_closed(self) -> None:
        if self._io_writer is None:
            return
        try:
            async with asyncio.timeout(CLOSE_WITHIN):
                await self._io_writer.wait_closed()
        except (OSError, TimeoutError):
            self.abort()

    def abort(self) -> None:
        """Drop what is connected, at once."""
        writers: set[Any] = {self._io_writer, self._bare_io_writer}
        for writer in writers - {None}:
            writer.transport.abort()
