"""A server that dies while a client connects to it costs the client that try, and no more."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest
import trustme

from rehydrate import StoreUnavailableError
from rehydrate.nats.address import read_nats_address
from rehydrate.nats.connection import Connection, NotAnsweredError
from rehydrate.store_url import StoreUrl
from rehydrate.testing.servers import NatsServer

INFO = b'INFO {"server_id":"x","version":"2.12.0","proto":1,"headers":true,"max_payload":8388608,"tls_required":true}\r\n'
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def serve_one(listening: socket.socket, context: ssl.SSLContext) -> None:
    """Encrypt one connection, and be gone with the last message of that."""
    client, _ = listening.accept()
    with client:
        client.sendall(INFO)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        encrypted = context.wrap_bio(incoming, outgoing, server_side=True)
        while True:
            with suppress(ssl.SSLWantReadError):
                encrypted.do_handshake()
                break
            client.sendall(outgoing.read())
            incoming.write(client.recv(1 << 16))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        client.sendall(outgoing.read())


@pytest.fixture
async def dying(tmp_path: Path) -> AsyncIterator[str]:
    """A server that is gone as soon as it has encrypted a connection."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # In this version the last message comes from the server.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    authority.issue_cert("127.0.0.1").configure_cert(context)  # pyright: ignore[reportUnknownMemberType]
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    with suppress(ConnectionError, ssl.SSLError):
                        serve_one(listening, context)

        serving = asyncio.create_task(asyncio.to_thread(serve))
        yield f"nats://127.0.0.1:{listening.getsockname()[1]}/x?tls_ca={tmp_path}/ca.pem&timeout=0.5"
        listening.shutdown(socket.SHUT_RDWR)
        await serving


async def test_a_server_that_is_lost_as_soon_as_it_encrypts_is_tried_again(dying: str) -> None:
    for _ in range(5):
        connection = Connection(read_nats_address(StoreUrl(dying)))
        with pytest.raises(StoreUnavailableError, match="cannot be reached"):
            await connection.open()


async def test_a_client_whose_task_of_connecting_again_dies_is_replaced(
    start_nats: Callable[..., NatsServer], caplog: pytest.LogCaptureFixture
) -> None:
    server = await asyncio.to_thread(start_nats)
    connection = Connection(read_nats_address(StoreUrl(f"{server.url}/x?timeout=20")))
    await connection.open()
    client = connection.client

    def fails() -> bytes:
        raise RuntimeError("a bug of the client")

    client._connect_command = fails  # type: ignore[method-assign]  # pyright: ignore[reportPrivateUsage]
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    answer = None
    while answer is None:
        with suppress(NotAnsweredError):
            answer = await connection.ask("$JS.API.INFO", timeout=20)
    assert connection.client is not client
    assert "a bug of the client" in caplog.text
    await connection.close()
